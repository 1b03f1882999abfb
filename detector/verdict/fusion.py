"""The verdict: calibrated logits of the methods, fused, and allowed to say "inconclusive".

Each method's logit is calibrated by Platt scaling; a logistic regression without negative weights fuses the calibrated logits. Both are
fitted on logits of images whose source no head had seen, where the data have sources enough, and a source's weight in them is as in the
heads' fits (`source_weights`). The band in which no label is given is conformal with whole sources as the exchangeable unit
(`conformal_band`), of fused logits from cross-fitting over sources: of a new source's images, a share `error` of the real ones should lie
above it and of the synthetic ones below it. A random copy of each image (cropped, scaled, blurred, saved again) counts like the image, so
that the methods weigh what they are worth on handled pictures too. Choices, ours. The probability assumes even odds.

The logits travel with the verdict, so that a fusion for any subset of methods is fitted from them at load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from detector.data.sources import source_folds, source_weights
from detector.logistic import fit_logistic, fit_nonnegative_logistic
from detector.methods.base import HeadError, Shapes
from detector.methods.table import SOURCE_POWER

ERROR = 0.10  # of each class, in the mean over new sources, may be given the other's label


@dataclass(frozen=True)
class Verdict:
    """label: synthetic, real or inconclusive. probability: calibrated, of synthetic. logit: its log-odds.

    contributions: method → its exact share of the logit (with `bias` they sum to it). reason: one sentence where the image
    itself rules out a label, whatever the probability; else empty. detector: name of the detector whose verdict it is. calibration:
    "calibrated" on validation images, or "as published, not calibrated here".
    """

    label: str
    probability: float
    logit: float
    contributions: dict[str, float]
    bias: float
    reason: str = ""
    detector: str = ""
    calibration: str = ""


@dataclass(frozen=True)
class Fusion:
    """The fitted verdict for one set of methods.

    platt: (M, 2) slope and offset; weights: (M + 1,), intercept last; band: the two logits between which no label is
    given; logits: (N, M) and labels: (N,) of the images it was fitted on; views: how many rows belong to each image, one after another, the
    first of them the image as it is; sources: (N,) whole numbers, one for each source; each image is its own where none are known.
    """

    methods: tuple[str, ...]
    platt: np.ndarray
    weights: np.ndarray
    band: tuple[float, float]
    logits: np.ndarray
    labels: np.ndarray
    views: int
    sources: np.ndarray

    @classmethod
    def fit(
        cls, logits: dict[str, np.ndarray], labels: np.ndarray, views: int = 1, error: float = ERROR, sources: np.ndarray | None = None
    ) -> Fusion:
        """logits: method → (N,), raw, higher speaks for synthetic; labels: (N,), 0 real, 1 synthetic; views: as above; sources: (N,) names
        or numbers, None where each image counts as a source of its own."""
        matrix = np.column_stack([logits[name] for name in logits]).astype(np.float64)
        labels, source = np.asarray(labels), _numbered(sources, len(labels), views)
        rows = _Rows(matrix, labels, source, source_weights(labels, source, SOURCE_POWER))
        platt, weights = rows.fit()
        band = conformal_band(rows.cross_fitted(), labels, source, error)
        return cls(tuple(logits), platt, weights, band, matrix, labels, views, source)

    @property
    def originals(self) -> np.ndarray:
        """(N,) bool: rows of images as they are."""
        return np.arange(len(self.labels)) % self.views == 0

    def restrict(self, methods: tuple[str, ...]) -> Fusion:
        """The fusion of fewer methods, fitted on the same logits."""
        if methods == self.methods:
            return self
        columns = {name: self.logits[:, self.methods.index(name)] for name in methods}
        return Fusion.fit(columns, self.labels, self.views, sources=self.sources)

    def redrawn(self, generator: np.random.Generator) -> Fusion:
        """The fusion with Platt scaling and weights fitted on sources that are drawn with replacement within their class (a bootstrap over
        sources); band and logits stay."""
        counts = np.zeros(len(self.labels))
        for label in (0, 1):
            names = np.unique(self.sources[self.labels == label])
            drawn, times = np.unique(generator.choice(names, len(names)), return_counts=True)
            for name, count in zip(drawn, times, strict=True):
                counts[(self.sources == name) & (self.labels == label)] = count
        weights = source_weights(self.labels, self.sources, SOURCE_POWER) * counts
        platt, fusion_weights = _Rows(self.logits, self.labels, self.sources, weights).rows(counts > 0).fit()
        return replace(self, platt=platt, weights=fusion_weights)

    def calibrate(self, logits: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
        """Method → calibrated logit, Platt-scaled, for the methods of this fusion; NaN, which a method gives for an image that
        it cannot read, becomes 0: it speaks for neither side (choice)."""
        return {
            name: np.nan_to_num(logits[name] * slope + offset, nan=0.0)
            for name, (slope, offset) in zip(self.methods, self.platt, strict=True)
        }

    def fuse(self, logits: dict[str, np.ndarray]) -> np.ndarray:
        """Method → (B,) raw logits in, (B,) fused logits out; higher speaks for synthetic."""
        calibrated = self.calibrate(logits)
        parts = [weight * calibrated[name] for name, weight in zip(self.methods, self.weights, strict=False)]
        return np.sum(parts, axis=0) + self.weights[-1]

    def decide(self, logits: Mapping[str, float]) -> Verdict:
        """The verdict for one image from its methods' raw logits."""
        calibrated = self.calibrate(logits)
        parts = {name: float(w * calibrated[name]) for name, w in zip(self.methods, self.weights, strict=False)}
        logit = sum(parts.values()) + float(self.weights[-1])
        return Verdict(self.label(logit), float(expit(logit)), logit, parts, float(self.weights[-1]))

    def label(self, logit: float) -> str:
        low, high = self.band
        return "real" if logit < low else "synthetic" if logit > high else "inconclusive"

    def tensors(self) -> dict[str, np.ndarray]:
        return {
            "platt": self.platt,
            "weights": self.weights,
            "band": np.array(self.band),
            "logits": self.logits.astype(np.float32),
            "labels": self.labels,
            "views": np.array(self.views),
            "sources": self.sources,
        }

    @staticmethod
    def shapes(methods: int, sources: bool = True) -> Shapes:
        """sources: whether the file names the sources; those before it did not."""
        return {
            "platt": (methods, 2),
            "weights": (methods + 1,),
            "band": (2,),
            "logits": ("rows", methods),
            "labels": ("rows",),
            "views": (),
        } | ({"sources": ("rows",)} if sources else {})

    @classmethod
    def from_tensors(cls, methods: Sequence[str], tensors: Mapping[str, Any]) -> Fusion:
        """HeadError if the band is upside down, a label is neither 0 nor 1, or the rows are not whole images."""
        values = {name: np.asarray(value) for name, value in tensors.items()}
        (low, high), views = (float(edge) for edge in values.pop("band")), int(values.pop("views"))
        rows = len(values["labels"])
        sound = low <= high and np.isin(values["labels"], (0, 1)).all() and views > 0 and rows % views == 0
        if not sound:
            raise HeadError("The verdict's numbers contradict one another; train it again with `python -m detector train`.")
        sources = _numbered(values.pop("sources", None), rows, views)
        return cls(tuple(methods), band=(low, high), views=views, sources=sources, **values)


def _numbered(sources: np.ndarray | None, rows: int, views: int) -> np.ndarray:
    """(N,) int32, equal where the source is; a number for each image where no sources are known."""
    return np.arange(rows, dtype=np.int32) // views if sources is None else np.unique(sources, return_inverse=True)[1].astype(np.int32)


@dataclass(frozen=True)
class _Rows:
    """What a fusion is fitted on. logits: (N, M), NaN without an answer; labels, sources, weights: (N,)."""

    logits: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    weights: np.ndarray

    def rows(self, mask: np.ndarray) -> _Rows:
        return _Rows(self.logits[mask], self.labels[mask], self.sources[mask], self.weights[mask])

    def fit(self) -> tuple[np.ndarray, np.ndarray]:
        """Platt scaling (M, 2) and fusion weights (M + 1,).

        Weights are kept at 0 or above: a method that says "synthetic" must never count for "real", or its share of the verdict could not
        be read. On validation images this costs nothing (cross-fitted log loss 0.4077 against 0.4072).
        """
        scaled = []
        for column in self.logits.T:
            finite = np.isfinite(column)
            scaled.append(fit_logistic(column[finite, None], self.labels[finite], 1e-3, self.weights[finite]))
        platt = np.stack(scaled)
        return platt, fit_nonnegative_logistic(_calibrated(self.logits, platt), self.labels, 1.0, self.weights)

    def cross_fitted(self, count: int = 5) -> np.ndarray:
        """(N,) fused logits, each from a fusion that was fitted without that row's source; up to `count` folds."""
        fewest = min(len(np.unique(self.sources[self.labels == label])) for label in (0, 1))
        folds = source_folds(self.labels, self.sources, min(count, fewest))
        fused = np.zeros(len(self.labels))
        for fold in np.unique(folds):
            platt, weights = self.rows(folds != fold).fit()
            fused[folds == fold] = _calibrated(self.logits[folds == fold], platt) @ weights[:-1] + weights[-1]
        return fused


def _calibrated(logits: np.ndarray, platt: np.ndarray) -> np.ndarray:
    """(N, M) logits after Platt scaling; 0 where a method has no answer."""
    return np.nan_to_num(logits * platt[:, 0] + platt[:, 1], nan=0.0)


def cross_fitted(logits: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """(N,) fused logits, each from a fusion that was fitted on other sources. logits: (N, M), NaN without an answer; sources: (N,)."""
    return _Rows(np.asarray(logits, np.float64), labels, sources, source_weights(labels, sources, SOURCE_POWER)).cross_fitted()


def conformal_band(logits: np.ndarray, labels: np.ndarray, sources: np.ndarray, error: float) -> tuple[float, float]:
    """(low, high): of a new source's real images at most a share `error` is expected above `high`, of its synthetic ones below `low`.

    Sources, not images, are taken for exchangeable: the quantile of the pooled distribution in which each source weighs the same (Dunn,
    Wasserman and Ramdas, arXiv 1809.07441, "CDF pooling"), with the mass of one source at infinity, which makes it hold for finitely many
    sources (Lee, Barber and Willett, arXiv 2306.06342, section 3: hierarchical conformal prediction). The share is a mean over new sources;
    a single one may lie above it. As the logits are cross-fitted and not of one held-out set, it holds approximately. With too few
    sources for the share the edge is infinite. Where the classes part so well that low > high, both edges move to their middle.
    """
    real, synthetic = labels == 0, labels == 1
    high = _pooled_quantile(logits[real], sources[real], 1 - error)
    low = -_pooled_quantile(-logits[synthetic], sources[synthetic], 1 - error)
    if low > high:
        low = high = (low + high) / 2
    return low, high


def _pooled_quantile(values: np.ndarray, sources: np.ndarray, level: float) -> float:
    """The lowest value at or below which lies a mass of `level`; a source has the mass 1 / (sources + 1), as has infinity."""
    _, source, counts = np.unique(sources, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(1 / counts[source[order]]) / (len(counts) + 1)
    place = int(np.searchsorted(mass, level - 1e-9))
    return float(values[order[place]]) if place < len(values) else float("inf")
