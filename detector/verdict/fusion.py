"""The verdict: calibrated logits of the methods, fused, and allowed to say "inconclusive".

Each method's logit is calibrated by Platt scaling; a logistic regression without negative weights fuses the calibrated
logits. The band in which no label is given takes conformal quantiles for each class, of fused logits from five-fold
cross-fitting: a share `error` of real images should lie above it and the same share of synthetic ones below it. All is
fitted on the validation images and a random copy of each (cropped, scaled, blurred, saved again), so that the methods weigh what
they are worth on handled pictures too. The heads' early stopping has seen these images: so the share is an aim, and what it is on
other images is measured. Choices, ours.

The validation logits travel with the verdict, so that a fusion for any subset of methods is fitted from them at load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from detector.logistic import fit_logistic, fit_nonnegative_logistic
from detector.methods.base import HeadError, Shapes

ERROR = 0.10  # of each class may be given the other's label


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
    given; logits: (N, M) and labels: (N,) of the validation images it was fitted on; views: how many rows belong to each
    image, one after another, the first of them the image as it is.
    """

    methods: tuple[str, ...]
    platt: np.ndarray
    weights: np.ndarray
    band: tuple[float, float]
    logits: np.ndarray
    labels: np.ndarray
    views: int = 1

    @classmethod
    def fit(cls, logits: dict[str, np.ndarray], labels: np.ndarray, views: int = 1, error: float = ERROR) -> Fusion:
        """logits: method → (N,), raw, higher speaks for synthetic; labels: (N,), 0 real, 1 synthetic; views: as above."""
        matrix = np.column_stack([logits[name] for name in logits]).astype(np.float64)
        labels = np.asarray(labels)
        platt = np.stack([fit_logistic(column[read, None], labels[read], 1e-3) for column in matrix.T for read in [np.isfinite(column)]])
        calibrated = np.nan_to_num(matrix * platt[:, 0] + platt[:, 1], nan=0.0)
        weights = _fit_fusion(calibrated, labels)
        band = conformal_band(_out_of_fold(calibrated, labels, views), labels, error)
        return cls(tuple(logits), platt, weights, band, matrix, labels, views)

    @property
    def originals(self) -> np.ndarray:
        """(N,) bool: rows of images as they are."""
        return np.arange(len(self.labels)) % self.views == 0

    def restrict(self, methods: tuple[str, ...]) -> Fusion:
        """The fusion of fewer methods, fitted on the same validation logits."""
        if methods == self.methods:
            return self
        columns = {name: self.logits[:, self.methods.index(name)] for name in methods}
        return Fusion.fit(columns, self.labels, self.views)

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
            "logits": self.logits,
            "labels": self.labels,
            "views": np.array(self.views),
        }

    @staticmethod
    def shapes(methods: int) -> Shapes:
        return {
            "platt": (methods, 2),
            "weights": (methods + 1,),
            "band": (2,),
            "logits": ("rows", methods),
            "labels": ("rows",),
            "views": (),
        }

    @classmethod
    def from_tensors(cls, methods: Sequence[str], tensors: Mapping[str, Any]) -> Fusion:
        """HeadError if the band is upside down, a label is neither 0 nor 1, or the rows are not whole images."""
        values = {name: np.asarray(value) for name, value in tensors.items()}
        (low, high), views = (float(edge) for edge in values.pop("band")), int(values.pop("views"))
        sound = low <= high and np.isin(values["labels"], (0, 1)).all() and views > 0 and len(values["labels"]) % views == 0
        if not sound:
            raise HeadError("The verdict's numbers contradict one another; train it again with `python -m detector train`.")
        return cls(tuple(methods), band=(low, high), views=views, **values)


def _fit_fusion(calibrated: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights are kept at 0 or above: a method that says "synthetic" must never count for "real", or its share of the
    verdict could not be read. On validation images this costs nothing (cross-fitted log loss 0.4077 against 0.4072)."""
    return fit_nonnegative_logistic(calibrated, labels, penalty=1.0)


def _out_of_fold(calibrated: np.ndarray, labels: np.ndarray, views: int = 1, folds: int = 5) -> np.ndarray:
    """(N,) fused logits, each from a fusion that was fitted without that image's fold; folds alternate within a class."""
    fold = np.zeros(len(labels), int)
    for label in (0, 1):
        fold[labels == label] = np.arange((labels == label).sum()) // views % folds
    fused = np.zeros(len(labels))
    for index in range(folds):
        rest = fold != index
        weights = _fit_fusion(calibrated[rest], labels[rest])
        fused[~rest] = calibrated[~rest] @ weights[:-1] + weights[-1]
    return fused


def conformal_band(logits: np.ndarray, labels: np.ndarray, error: float) -> tuple[float, float]:
    """(low, high): above `high` at most a share `error` of new real images is expected, below `low` of synthetic ones.

    Conformal quantiles for each class with the finite-sample correction, which takes rows for independent; with too few images for
    the promised share the edge is infinite. Where the classes part so well that low > high, both edges move to their middle.
    """
    real, synthetic = np.sort(logits[labels == 0]), np.sort(logits[labels == 1])
    above, below = int(np.ceil((len(real) + 1) * (1 - error))), int(np.floor((len(synthetic) + 1) * error))
    high = real[above - 1] if above <= len(real) else np.inf
    low = synthetic[below - 1] if below >= 1 else -np.inf
    if low > high:
        low = high = (low + high) / 2
    return float(low), float(high)
