"""A linear head on the residual's numbers: logistic regression, so that each number's share of the logit is exact.

The one neural network tried in its place (64 hidden units) did worse on generators it had not seen. Penalties and clipping: choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from detector.clip.backbone import Sizes
from detector.logistic import balanced
from detector.methods.base import Evidence, Score, Shapes
from detector.methods.residual.features import CHANNELS, FEATURES, FIRST_BIN, GROUPS, LAST_BIN, SPECTRUM, group_of

CLIP = 4.0  # standard deviations: a file unlike all training files cannot push one number further (choice)
PENALTIES = (0.003, 0.01, 0.03)  # L2 strengths that a validation set chooses from (choice)
DEFAULT_PENALTY = 0.01


@dataclass
class ResidualHead:
    """Logistic regression on standardised, clipped features; additive, so every share of the logit is exact.

    logit = bias + sum over features of weight * clip((feature - mean) / scale, -4, 4); above 0 speaks for synthetic.
    """

    mean: np.ndarray  # (F,) of the training features
    scale: np.ndarray  # (F,)
    weight: np.ndarray  # (F,)
    bias: np.ndarray  # ()
    spectrum_real: np.ndarray  # (3, 43) mean spectrum of the real training images, for the chart
    spectrum_synthetic: np.ndarray  # (3, 43)

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        labels: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        penalties: Sequence[float] = PENALTIES,
        weights: np.ndarray | None = None,
    ) -> ResidualHead:
        """features (N, F), labels (N,) with 1 for synthetic, validation (features, labels) -> a trained head.

        Both classes weigh the same; weights: (N,) of the rows within their class, None: all equal. With a validation set the penalty of
        lowest balanced log loss there is taken.
        """
        features, labels = np.asarray(features, np.float32), np.asarray(labels)
        curves = [features[labels == label, SPECTRUM].mean(0).reshape(len(CHANNELS), -1) for label in (0, 1)]
        mean, scale = features.mean(0), features.std(0) + 1e-6
        standard = np.clip((features - mean) / scale, -CLIP, CLIP)
        strengths = (DEFAULT_PENALTY,) if validation is None else penalties
        heads = [cls(mean, scale, *_logistic(standard, labels, penalty, weights), *curves) for penalty in strengths]
        if validation is None:
            return heads[0]
        values, truth = validation
        return min(heads, key=lambda head: _log_loss(head.logits(values), truth))

    def _shares(self, features: np.ndarray) -> np.ndarray:
        """(B, F): what each feature adds to the logit."""
        standard = (np.asarray(features, np.float32) - self.mean) / self.scale
        return np.clip(standard, -CLIP, CLIP) * self.weight

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(B, F) -> (B,) float32; higher is synthetic."""
        return self._shares(features).sum(1) + self.bias

    def contributions(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """(B, F) -> group -> (B,), for every group in GROUPS; their sum plus the bias is the logit."""
        shares = self._shares(features)
        groups = np.array([group_of(name) for name in FEATURES])
        return {group: shares[:, groups == group].sum(1) for group in GROUPS}

    def score(self, evidence: Evidence) -> Score:
        return Score(self.logits(evidence.residual))

    def scaled(self, slope: float, offset: float) -> ResidualHead:
        """The same head with logit * slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, np.ndarray]:
        """Name -> float32 array, ready for a safetensors file."""
        return {field.name: np.asarray(getattr(self, field.name), np.float32) for field in fields(self)}

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        each, curves = (len(FEATURES),), (len(CHANNELS), LAST_BIN + 1 - FIRST_BIN)
        return {"mean": each, "scale": each, "weight": each, "bias": (), "spectrum_real": curves, "spectrum_synthetic": curves}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> ResidualHead:
        """The inverse of `tensors`."""
        return cls(**{field.name: np.asarray(tensors[field.name], np.float32) for field in fields(cls)})


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    labels = np.asarray(labels)
    margins = np.where(labels == 1, logits, -logits)
    return float(np.mean(balanced(labels) * np.logaddexp(0, -margins)))


def _logistic(standard: np.ndarray, labels: np.ndarray, penalty: float, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Minimise balanced log loss + penalty / 2 * |weight|^2 by L-BFGS in float32: (N, F), (N,) -> weight (F,), bias ().

    Not `fit_logistic`: the shipped head was fitted by this, and on random data its logits differ from scikit-learn's by up to 0.009.
    """
    inputs, targets = torch.from_numpy(standard), torch.from_numpy((labels == 1).astype(np.float32))
    balance = torch.from_numpy(balanced(labels, weights).astype(np.float32))
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = inputs @ weight + bias
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, balance)
        value = entropy + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()
