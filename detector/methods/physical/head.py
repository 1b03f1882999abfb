"""The interpretable model on the fifteen descriptors, and the reference distributions that give a value its percentile."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from detector.clip.backbone import Sizes
from detector.logistic import fit_logistic
from detector.methods.base import Evidence, Score, Shapes
from detector.methods.physical.features import NAMES

PERCENTILES = np.linspace(0, 100, 101)
PENALTY = 3.0  # on the squared weights at the knots (choice)
KNOTS = 5  # of each descriptor's piecewise linear contribution


def quantile_table(values: np.ndarray) -> np.ndarray:
    """(N, 15) values of reference images → (101, 15): their 0th to 100th percentiles, undefined values left out."""
    return np.nanpercentile(values, PERCENTILES, axis=0)


def percentiles(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(..., 15) values → their percentile, 0 to 100, among the reference images of `table` (101, 15); NaN stays NaN."""
    columns = [np.interp(values[..., j], table[:, j], PERCENTILES) for j in range(table.shape[1])]
    return np.where(np.isnan(values), np.nan, np.stack(columns, axis=-1))


def _basis(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(B, 15) → (B, 15, KNOTS) hat functions of each value's percentile; an undefined value counts as the median."""
    position = np.nan_to_num(percentiles(values, table), nan=50.0) / 100 * (KNOTS - 1)
    return np.clip(1 - np.abs(position[..., None] - np.arange(KNOTS)), 0, None)


@dataclass(frozen=True)
class PhysicalHead:
    """An additive logistic regression: each descriptor contributes a piecewise linear function of its percentile.

    real, synthetic, table: (101, 15) percentiles of the real, the synthetic and all reference images.
    weight: (15, KNOTS) logits at the knots; bias: scalar. Choice, ours: a value far outside the reference range counts
    as the most extreme reference value, so that no single odd number decides.
    """

    real: np.ndarray
    synthetic: np.ndarray
    table: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        labels: np.ndarray,
        reference: tuple[np.ndarray, np.ndarray],
        penalty: float = PENALTY,
        weights: np.ndarray | None = None,
    ) -> PhysicalHead:
        """Fit on (N, 15) values, augmented copies included; `reference` (values, labels) gives the percentile tables.

        weights: (N,) of the rows within their class; None: all equal.
        """
        plain, plain_labels = reference
        table = quantile_table(plain)
        basis = _basis(values, table)
        coefficients = fit_logistic(basis.reshape(len(basis), -1), labels, penalty, weights)
        weight = coefficients[:-1].reshape(basis.shape[1:])
        typical = _basis(plain, table).mean(0)  # so that a typical image's contributions are about 0
        centre = (weight * typical).sum(1)
        real, synthetic = (quantile_table(plain[plain_labels == label]) for label in (0, 1))
        return cls(real, synthetic, table, weight - centre[:, None], np.asarray(coefficients[-1] + centre.sum()))

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """(B, 15) → (B, 15) in logits; positive speaks for synthetic; their sum plus `bias` is the logit."""
        return (_basis(values, self.table) * self.weight).sum(-1)

    def logits(self, values: np.ndarray) -> np.ndarray:
        """(B, 15) → (B,); higher speaks for synthetic."""
        return self.contributions(values).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(self.logits(evidence.descriptors))

    def scaled(self, slope: float, offset: float) -> PhysicalHead:
        """The same head with logit·slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, np.ndarray]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        table = (len(PERCENTILES), len(NAMES))
        return {"real": table, "synthetic": table, "table": table, "weight": (len(NAMES), KNOTS), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict) -> PhysicalHead:
        return cls(**{name: np.asarray(value) for name, value in tensors.items()})
