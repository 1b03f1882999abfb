"""Classifiers on file facts, and folds that they are cross-validated by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector.logistic import fit_logistic

FOLDS = 5
PENALTY = 1.0  # of the logistic regression, on standardised facts: scikit-learn's default (choice)
Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # training facts, their labels, other facts → scores of these


def standardised(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both (·, F) with mean 0 and standard deviation 1 in `train`; NaN, a fact that an image lacks, becomes the median of `train`."""
    lacking = np.isnan(train).all(axis=0)
    median = np.nanmedian(np.where(lacking, 0.0, train), axis=0)
    train, other = (np.where(np.isnan(values), median, values) for values in (train, other))
    spread = train.std(axis=0)
    spread = np.where(spread > 1e-9 * (1 + np.abs(median)), spread, 1.0)  # a constant fact stays constant
    return (train - train.mean(axis=0)) / spread, (other - train.mean(axis=0)) / spread


def logistic_scores(train: np.ndarray, labels: np.ndarray, other: np.ndarray, penalty: float = PENALTY) -> np.ndarray:
    """(N,) logits of `other`, (N, F), by ridge logistic regression on `train`; higher speaks for synthetic."""
    design, rows = standardised(train, other)
    weights = fit_logistic(design, labels, penalty)
    return rows @ weights[:-1] + weights[-1]


def boosting_scores(train: np.ndarray, labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) logits of `other`, (N, F), by gradient-boosted trees on `train`, which read NaN as such; higher speaks for synthetic."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    lacking = np.isnan(train).all(axis=0)  # the trees refuse a fact without any value
    train, other = (np.where(lacking, 0.0, values) for values in (train, other))
    trees = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=15, min_samples_leaf=10, class_weight="balanced", early_stopping=False, random_state=0
    )
    return trees.fit(train, labels).decision_function(other)


CLASSIFIERS: dict[str, Scorer] = {"logistic": logistic_scores, "boosting": boosting_scores}


def out_of_fold(numbers: np.ndarray, labels: np.ndarray, folds: np.ndarray, scorer: Scorer) -> np.ndarray:
    """(N,) scores, each by a model that was trained on the other folds."""
    scores = np.empty(len(labels))
    for fold in np.unique(folds):
        held_out = folds == fold
        scores[held_out] = scorer(numbers[~held_out], labels[~held_out], numbers[held_out])
    return scores


def source_folds(labels: np.ndarray, sources: np.ndarray) -> np.ndarray | None:
    """(N,) fold of each image, whole sources in one fold, each fold with sources of both classes; None where there are too few.

    The largest sources are placed first, each where its classes have the fewest images yet.
    """
    by_class = {source: np.bincount(labels[sources == source], minlength=2) for source in np.unique(sources)}
    count = min(FOLDS, *(sum(bool(sizes[label]) for sizes in by_class.values()) for label in (0, 1)))
    images = np.zeros((count, 2))
    folds = np.empty(len(labels), int)
    for source, sizes in sorted(by_class.items(), key=lambda item: (-item[1].sum(), item[0])):
        fold = int((images @ (sizes > 0)).argmin())
        images[fold] += sizes
        folds[sources == source] = fold
    return folds if count > 1 and images.all() else None
