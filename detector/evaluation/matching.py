"""Real and synthetic images made comparable in their file facts, by weights: overlap weighting.

Li, Morgan and Zaslavsky, "Balancing Covariates via Propensity Score Weighting", JASA 113 (2018): with e(x) the probability that an
image with the facts x is synthetic, a synthetic image weighs 1 − e(x) and a real one e(x). Images whose facts occur in both classes
count most; images whose facts give their class away count least. With e from a logistic regression the weighted means of the facts
are equal in both classes (their theorem 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from scipy.special import expit

from detector.data.sources import random_folds
from detector.evaluation.fact_models import boosting_scores, logistic_scores, out_of_fold
from detector.evaluation.metrics import BOOTSTRAPS

PENALTY = 0.01  # of the propensity model, small: a ridge leaves the means unequal (choice)


def propensity(facts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, F) facts → (N,) logit of e(x), at even odds of the classes.

    Logistic regression on the facts and on one more number, the cross-validated logit of boosted trees (choice): alone, a regression
    leaves differences that are not of the mean, such as square pictures in one class and upright and oblong ones in the other.
    """
    boosted = out_of_fold(facts, labels, random_folds(labels), boosting_scores)
    design = np.column_stack([facts, boosted])
    return logistic_scores(design, labels, design, PENALTY)


def matched_weights(facts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, F) facts, NaN where an image lacks one → (N,) overlap weights, 0 or above, that add up to 1 in each class."""
    logits = propensity(facts, labels)
    weights = expit(np.where(labels == 1, -logits, logits))  # 1 − e(x) and e(x), exact also where they are tiny
    return weights / np.bincount(labels, weights, minlength=2)[labels]


def effective_sizes(labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """For real and synthetic images: the number of equally weighted images that would know as much, (Σw)² / Σw² (Kish 1965)."""
    real, synthetic = (weights[labels == label] for label in (0, 1))
    return float(real.sum() ** 2 / (real**2).sum()), float(synthetic.sum() ** 2 / (synthetic**2).sum())


@dataclass(frozen=True)
class Resampling:
    """What an AUROC compares and what a bootstrap draws.

    folds: (N,) whole numbers; images are compared within a fold only, since scores of different models do not compare.
    units: (N,) names or numbers; the bootstrap draws them with replacement within each class (images, or whole sources).
    """

    folds: np.ndarray | None = None
    units: np.ndarray | None = None
    seed: int = 0

    def multiplicities(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """For each draw (N,): how often an image is in it."""
        generator = np.random.default_rng(self.seed)
        units = np.arange(len(labels)) if self.units is None else self.units
        classes = [np.unique(units[labels == label], return_inverse=True)[1] for label in (0, 1)]
        for _ in range(BOOTSTRAPS):
            times = np.zeros(len(labels))
            for label, unit in enumerate(classes):
                size = unit.max() + 1
                times[labels == label] = np.bincount(generator.integers(size, size=size), minlength=size)[unit]
            yield times


class Auroc(TypedDict):
    """auroc: 0 to 1; auroc_95: its 95 % bootstrap interval."""

    auroc: float
    auroc_95: list[float]


class _Pairs:
    """Pairs of a real and a synthetic image of one fold, sorted once by score: an AUROC for other weights then takes linear time."""

    def __init__(self, scores: np.ndarray, labels: np.ndarray):
        self.order = np.argsort(scores, kind="stable")
        ranked = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # equal scores count half
        self.synthetic = labels[self.order] == 1

    def weigh(self, weights: np.ndarray) -> tuple[float, float]:
        """Weight of the pairs whose synthetic image has the higher score, and of all pairs."""
        weights = weights[self.order]
        synthetic = np.add.reduceat(np.where(self.synthetic, weights, 0.0), self.starts)
        real = np.add.reduceat(np.where(self.synthetic, 0.0, weights), self.starts)
        below = np.cumsum(real) - real / 2
        return float(synthetic @ below), float(synthetic.sum() * real.sum())


def _comparison(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray | None) -> Callable[[np.ndarray], float]:
    """The AUROC as a function of the images' weights."""
    folds = np.zeros(len(labels), int) if folds is None else folds
    groups = [(rows, _Pairs(scores[rows], labels[rows])) for fold in np.unique(folds) for rows in [folds == fold]]

    def auroc_of(weights: np.ndarray) -> float:
        right, compared = np.sum([pairs.weigh(weights[rows]) for rows, pairs in groups], axis=0)
        return float(right / compared) if compared else float("nan")

    return auroc_of


def auroc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, folds: np.ndarray | None = None) -> float:
    """Weighted AUROC, 0 to 1: a pair of a real and a synthetic image weighs the product of their weights, equal scores count half.

    weights: (N,) 0 or above, all 1 where there are none; folds: see `Resampling`.
    """
    return _comparison(scores, labels, folds)(np.ones(len(labels)) if weights is None else weights)


def weighted_auroc(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, resampling: Resampling = Resampling()
) -> Auroc:
    """`auroc`, above 0.5 where higher logits speak for synthetic, with a 95 % bootstrap interval.

    The interval takes the weights as given: it does not hold the uncertainty of the propensity model.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    auroc_of = _comparison(logits, labels, resampling.folds)
    low, high = np.nanpercentile([auroc_of(weights * times) for times in resampling.multiplicities(labels)], [2.5, 97.5])
    return {"auroc": auroc_of(weights), "auroc_95": [float(low), float(high)]}
