"""A linear head on the residual's numbers: logistic regression, so that each number's share of the logit is exact.

The one neural network tried in its place (64 hidden units) did worse on generators it had not seen. Penalties and clipping: choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from detector.clip.backbone import Sizes
from detector.logistic import balanced
from detector.methods.base import Evidence, HeadError, Score, Shapes
from detector.methods.residual.features import CHANNELS, FEATURES, FIRST_BIN, GROUPS, LAST_BIN, SPECTRUM, group_of
from detector.methods.residual.window_rows import WindowRows

CLIP = 4.0  # standard deviations: a file unlike all training files cannot push one number further (choice)
PENALTIES = (0.003, 0.01, 0.03)  # L2 strengths that a validation set chooses from (choice)
DEFAULT_PENALTY = 0.01
_MEMBERS = (np.array([group_of(name) for name in FEATURES])[:, None] == np.array(GROUPS)).astype(np.float32)  # (F, G)


@dataclass(frozen=True)
class Weighting:
    """How training images count. weights: (N,) of the images within their class, None: all equal. sources: (N,) names.

    gamma: strength of the source penalty, 0 for none: for each class, gamma / 2 times the variance over its sources of a source's mean
    logit is added to the loss, so that weights avoid directions in which sources of one class differ. Choice, after nuisance attribute
    projection (Solomonoff, Campbell and Boardman 2005) and V-REx (arXiv 2003.00688), which takes the variance of losses.
    """

    weights: np.ndarray | None = None
    sources: np.ndarray | None = None
    gamma: float = 0.0


Features: TypeAlias = "np.ndarray | WindowRows"  # (B, F) of images, or the windows of B images


@dataclass
class ResidualHead:
    """Logistic regression on standardised, clipped features; additive, so every share of the logit is exact.

    logit = bias + sum over features of weight * clip((feature - mean) / scale, -4, 4); above 0 speaks for synthetic. pooling: "image", the
    features are those of the image; "windows", each window has such a logit, and the image's is their mean, so that a map of window logits
    is exact.
    """

    mean: np.ndarray  # (F,) of the training features
    scale: np.ndarray  # (F,)
    weight: np.ndarray  # (F,)
    bias: np.ndarray  # ()
    spectrum_real: np.ndarray  # (3, 43) mean spectrum of the real training images, for the chart
    spectrum_synthetic: np.ndarray  # (3, 43)
    pooling: str = "image"

    @classmethod
    def fit(
        cls,
        features: Features,
        labels: np.ndarray,
        validation: tuple[Features, np.ndarray] | None = None,
        penalties: Sequence[float] = PENALTIES,
        weighting: Weighting = Weighting(),
    ) -> ResidualHead:
        """features of N images, labels (N,) with 1 for synthetic, validation (features, labels) -> a trained head.

        Windows in `features` make a head with that pooling; each has its share of its image's weight. Both classes weigh the same. With a
        validation set the penalty of lowest balanced log loss there is taken.
        """
        rows, pooling = _training_rows(features, np.asarray(labels), weighting), "windows" if isinstance(features, WindowRows) else "image"
        curves = [np.average(rows.values[of, SPECTRUM], 0, rows.weights[of]) for label in (0, 1) for of in [rows.labels == label]]
        spectra = [curve.reshape(len(CHANNELS), -1).astype(np.float32) for curve in curves]
        mean, scale = rows.standardise()
        strengths = (DEFAULT_PENALTY,) if validation is None else penalties
        heads = [cls(mean, scale, *_logistic(rows, penalty), spectra[0], spectra[1], pooling) for penalty in strengths]
        if validation is None:
            return heads[0]
        values, truth = validation
        return min(heads, key=lambda head: _log_loss(head.logits(values), truth))

    def reads(self, evidence: Evidence) -> Features:
        """What of the evidence the head reads. HeadError if it reads windows and there are none."""
        if self.pooling == "image":
            return evidence.residual
        if evidence.residual_windows is None:
            raise HeadError("The residual head reads single windows, and this evidence holds none.")
        return evidence.residual_windows

    def _shares(self, features: Features) -> np.ndarray:
        """(B, G): what each group of GROUPS adds to the logit; for windows the mean over them."""
        if isinstance(features, WindowRows):
            return features.means(self._shares)
        standard = np.clip((np.asarray(features, np.float32) - self.mean) / self.scale, -CLIP, CLIP)
        return standard @ (self.weight[:, None] * _MEMBERS)

    def logits(self, features: Features) -> np.ndarray:
        """Of B images, or (W, F) of single windows -> (B,) or (W,); higher is synthetic."""
        return self._shares(features).sum(1) + self.bias

    def contributions(self, features: Features) -> dict[str, np.ndarray]:
        """Group -> (B,), for every group in GROUPS; their sum plus the bias is the logit."""
        return dict(zip(GROUPS, self._shares(features).T, strict=True))

    def score(self, evidence: Evidence) -> Score:
        return Score(self.logits(self.reads(evidence)))

    def scaled(self, slope: float, offset: float) -> ResidualHead:
        """The same head with logit * slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, np.ndarray]:
        """Name -> float32 array, ready for a safetensors file. `pooling` is not among them: it stands in the card's details."""
        return {name: np.asarray(getattr(self, name), np.float32) for name in self.shapes()}

    @staticmethod
    def shapes(sizes: Sizes | None = None) -> Shapes:
        each, curves = (len(FEATURES),), (len(CHANNELS), LAST_BIN + 1 - FIRST_BIN)
        return {"mean": each, "scale": each, "weight": each, "bias": (), "spectrum_real": curves, "spectrum_synthetic": curves}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], details: Mapping[str, Any] = {}) -> ResidualHead:  # noqa: B006
        """The inverse of `tensors`. details: of the card. HeadError for a pooling that there is none of."""
        pooling = details.get("pooling", "image")
        if pooling not in ("image", "windows"):
            raise HeadError(
                "The residual head pools in a way that this version does not know; train it again with `python -m detector train`."
            )
        return cls(**{name: np.asarray(tensors[name], np.float32) for name in cls.shapes()}, pooling=pooling)


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    labels = np.asarray(labels)
    margins = np.where(labels == 1, logits, -logits)
    return float(np.mean(balanced(labels) * np.logaddexp(0, -margins)))


@dataclass
class _Rows:
    """What the regression is fitted on. values: (R, F) float32; labels, weights: (R,); sources: (R,) or None; gamma: see `Weighting`."""

    values: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    sources: np.ndarray | None
    gamma: float

    def standardise(self) -> tuple[np.ndarray, np.ndarray]:
        """Standardise and clip the values where they lie, since a copy would take gigabytes. Returns mean and scale, (F,) each."""
        shares = (self.weights / self.weights.sum()).astype(np.float32)
        mean = shares @ self.values
        self.values -= mean
        scale = np.sqrt(np.einsum("r,rf,rf->f", shares, self.values, self.values)) + np.float32(1e-6)
        self.values /= scale
        np.clip(self.values, -CLIP, CLIP, out=self.values)
        return mean, scale

    def spread(self) -> np.ndarray:
        """(S, F) such that half of |spread @ weight|^2 is the source penalty; (0, F) without one."""
        if self.sources is None or not self.gamma:
            return np.zeros((0, self.values.shape[1]), np.float32)
        parts = []
        for label in (0, 1):
            names = np.unique(self.sources[self.labels == label])
            masks = ((self.labels == label) & (self.sources == name) for name in names)
            means = np.stack([np.average(self.values[mask], 0, self.weights[mask]) for mask in masks])
            parts.append(np.sqrt(self.gamma / len(names)) * (means - means.mean(0)))
        return np.concatenate(parts).astype(np.float32)


def _training_rows(features: Features, labels: np.ndarray, weighting: Weighting) -> _Rows:
    """A row for each image, or for each window with its share of the image's weight. The values are a copy."""
    weights = np.ones(len(labels)) if weighting.weights is None else weighting.weights
    if not isinstance(features, WindowRows):
        return _Rows(np.array(features, np.float32), labels, weights, weighting.sources, weighting.gamma)
    of_window = partial(np.repeat, repeats=features.counts)
    sources = None if weighting.sources is None else of_window(weighting.sources)
    return _Rows(features.values.astype(np.float32), of_window(labels), features.shared(weights), sources, weighting.gamma)


def _logistic(rows: _Rows, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimise balanced log loss + penalty / 2 * |weight|^2 + source penalty by L-BFGS in float32 -> weight (F,), bias ().

    Not `fit_logistic`, which has no source penalty. On 60,000 rows of 1,614 numbers and one thread this took 8 s, in float64 29 s,
    scikit-learn's solvers 21 s (float64) and 27 s (float32).
    """
    inputs, targets, spread = (torch.from_numpy(array) for array in (rows.values, (rows.labels == 1).astype(np.float32), rows.spread()))
    balance = torch.from_numpy(balanced(rows.labels, rows.weights).astype(np.float32))
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = inputs @ weight + bias
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, balance)
        value = entropy + penalty / 2 * weight.square().sum() + (spread @ weight).square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()
