"""SynthCLIC's orthogonal linear head and the linear probe, on the pooled feature (arXiv 2602.12381).

Both are affine in the feature h, so their parts add up to the logit exactly. The orthogonal head looks at h through k
directions that are kept decorrelated over a batch: a = W h + c, logit = v·a + d, contribution of unit i = v_i a_i.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.backbone import Sizes
from detector.devices import to_numpy
from detector.methods.base import Evidence, Score, Shapes


@dataclass(frozen=True)
class AffineRecipe:
    """Optimisation of both heads. batch, epochs, patience, decay, smoothing and penalty: the authors' configuration;
    AdamW, its rate and the monitored quantity (validation average precision): choice, not from the paper."""

    batch: int = 64
    epochs: int = 200
    patience: int = 5
    rate: float = 1e-3
    weight_decay: float = 0.01
    smoothing: float = 0.1
    penalty: float = 0.33


@dataclass(frozen=True)
class OrthogonalHead:
    """W: (k, D), c: (k,), v: (k,), d: scalar."""

    weight: Tensor
    offset: Tensor
    readout: Tensor
    bias: Tensor

    def activations(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B, k): a = W h + c. Any sign; no unit."""
        return pooled @ self.weight.T + self.offset

    def contributions(self, pooled: Tensor) -> Tensor:
        """(B, k) in logits: v_i a_i. Positive speaks for synthetic; their sum plus `bias` is the logit."""
        return self.activations(pooled) * self.readout

    def logits(self, pooled: Tensor) -> Tensor:
        """(B,); higher speaks for synthetic."""
        return self.contributions(pooled).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.pooled)))

    def scaled(self, slope: float, offset: float) -> OrthogonalHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {"weight": ("units", sizes.pooled), "offset": ("units",), "readout": ("units",), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> OrthogonalHead:
        return cls(**tensors)


@dataclass(frozen=True)
class LinearProbe:
    """logit = w·h + b on the pooled feature. weight: (D,), bias: scalar."""

    weight: Tensor
    bias: Tensor

    def contributions(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B, D) in logits: w_j h_j; their sum plus `bias` is the logit."""
        return pooled * self.weight

    def logits(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B,); higher speaks for synthetic."""
        return self.contributions(pooled).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.pooled)))

    def scaled(self, slope: float, offset: float) -> LinearProbe:
        """The same head with logit·slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {"weight": (sizes.pooled,), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LinearProbe:
        return cls(**tensors)


def decorrelation(activations: Tensor) -> Tensor:
    """‖I − ÃᵀÃ‖_F with each column of the (B, k) activations scaled to unit length, uncentred, unsquared."""
    unit = F.normalize(activations, dim=0)
    gram = unit.T @ unit
    return torch.linalg.matrix_norm(torch.eye(len(gram), device=gram.device) - gram)


def _train(module: nn.Module, loss: Callable, score: Callable, train, val, recipe: AffineRecipe, seed: int) -> None:
    """AdamW with early stopping on validation average precision; leaves the best weights in `module`."""
    from sklearn.metrics import average_precision_score  # scikit-learn is slow to import, and scoring needs none of it

    (features, labels), (val_features, val_labels) = train, val
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    best, state, waited = -1.0, None, 0
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(labels), generator=generator).to(labels.device).split(recipe.batch):
            optimiser.zero_grad()
            loss(features[rows], labels[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            precision = average_precision_score(to_numpy(val_labels), to_numpy(score(val_features)))
        waited = waited + 1 if precision <= best else 0
        if not waited:
            best, state = precision, copy.deepcopy(module.state_dict())
        if waited >= recipe.patience:
            break
    module.load_state_dict(state)


def _smooth(labels: Tensor, amount: float) -> Tensor:
    return (1 - amount) * labels + amount * (1 - labels)


def fit_orthogonal(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], *, units: int = 8, seed: int = 0,
                   recipe: AffineRecipe = AffineRecipe()) -> OrthogonalHead:
    """Train on (pooled (N, D), labels (N,)), on the device where they lie; early stopping on `val`. The head is on the CPU.

    Loss: BCE on smoothed labels + decorrelation.
    """
    torch.manual_seed(seed)
    inner, outer = nn.Linear(train[0].shape[1], units), nn.Linear(units, 1)
    nn.init.orthogonal_(inner.weight)
    nn.init.zeros_(inner.bias)
    inner, outer = inner.to(train[0].device), outer.to(train[0].device)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        activations = inner(features)
        logits = outer(activations).squeeze(1)
        entropy = F.binary_cross_entropy_with_logits(logits, _smooth(labels, recipe.smoothing))
        return entropy + recipe.penalty * decorrelation(activations)

    _train(nn.ModuleList([inner, outer]), loss, lambda x: outer(inner(x)).squeeze(1), train, val, recipe, seed)
    parts = (inner.weight, inner.bias, outer.weight[0], outer.bias[0])
    return OrthogonalHead(*(p.detach().clone().cpu() for p in parts))


def fit_linear_probe(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], *, seed: int = 0,
                     recipe: AffineRecipe = AffineRecipe()) -> LinearProbe:
    """Train likewise, with the same recipe; the authors' own is not in their released code."""
    torch.manual_seed(seed)
    linear = nn.Linear(train[0].shape[1], 1).to(train[0].device)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        logits = linear(features).squeeze(1)
        return F.binary_cross_entropy_with_logits(logits, _smooth(labels, recipe.smoothing))

    _train(linear, loss, lambda x: linear(x).squeeze(1), train, val, recipe, seed)
    return LinearProbe(*(p[0].detach().clone().cpu() for p in (linear.weight, linear.bias)))


def correlations(activations: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Pearson correlation of each unit with each concept over N images: (N, k), (N, C) → (k, C), in [−1, 1]."""

    def standard(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(0)
        return centred / np.maximum(np.sqrt((centred**2).sum(0)), 1e-12)

    return standard(activations).T @ standard(concepts)
