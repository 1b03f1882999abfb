"""Training of the orthogonal head and of the linear probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.vocabulary import vocabulary
from detector.devices import to_numpy
from detector.methods.concepts.head import concept_directions
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.orthogonal.naming import name_units
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training
from detector.trainer import Plan, Rows, train_rows

Labelled = tuple[Tensor, Tensor]  # (N, D) pooled features, (N,) labels: 1 synthetic


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
    power: float = SOURCE_POWER  # of the sources' weights, see `Table.weights` (choice)


def decorrelation(activations: Tensor) -> Tensor:
    """‖I − ÃᵀÃ‖_F with each column of the (B, k) activations scaled to unit length, uncentred, unsquared."""
    unit = F.normalize(activations, dim=0)
    gram = unit.T @ unit
    return torch.linalg.matrix_norm(torch.eye(len(gram), device=gram.device) - gram)


@dataclass(frozen=True)
class _Images:
    """What a head is trained on: training images, validation images, and the weights (N,) of the former; None: all equal."""

    train: Labelled
    val: Labelled
    weights: np.ndarray | None

    def batches(self, batch: int, seed: int) -> Rows:
        labels = self.train[1]
        weights = None if self.weights is None else torch.from_numpy(self.weights)
        return Rows(len(labels), batch, labels.device, torch.Generator().manual_seed(seed), weights)


def _train(module: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], images: _Images, recipe: AffineRecipe, seed: int) -> None:
    """AdamW with early stopping on validation average precision; leaves the best weights in `module`.

    loss: features (B, D), labels (B,) → scalar.
    """
    from sklearn.metrics import average_precision_score  # scikit-learn is slow to import, and scoring needs none of it

    (features, labels), (val_features, val_labels) = images.train, images.val
    train_rows(
        module,
        torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay),
        Plan(recipe.epochs, recipe.patience),
        images.batches(recipe.batch, seed),
        loss=lambda rows: loss(features[rows], labels[rows]),
        validate=lambda: float(average_precision_score(to_numpy(val_labels), to_numpy(module(val_features).squeeze(1)))),
    )


def _smooth(labels: Tensor, amount: float) -> Tensor:
    return (1 - amount) * labels + amount * (1 - labels)


def fit_orthogonal(
    train: Labelled,
    val: Labelled,
    *,
    units: int = 8,
    seed: int = 0,
    recipe: AffineRecipe = AffineRecipe(),
    weights: np.ndarray | None = None,
) -> OrthogonalHead:
    """Train on (pooled (N, D), labels (N,)), on the device where they lie; early stopping on `val`. The head is on the CPU.

    Loss: BCE on smoothed labels + decorrelation. weights: (N,) how often a training image is drawn; None: all equally often.
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

    _train(nn.Sequential(inner, outer), loss, _Images(train, val, weights), recipe, seed)
    parts = (inner.weight, inner.bias, outer.weight[0], outer.bias[0])
    return OrthogonalHead(*(p.detach().clone().cpu() for p in parts))


def fit_linear_probe(
    train: Labelled, val: Labelled, *, seed: int = 0, recipe: AffineRecipe = AffineRecipe(), weights: np.ndarray | None = None
) -> LinearProbe:
    """Train likewise, with the same recipe; the authors' own is not in their released code."""
    torch.manual_seed(seed)
    linear = nn.Linear(train[0].shape[1], 1).to(train[0].device)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        logits = linear(features).squeeze(1)
        return F.binary_cross_entropy_with_logits(logits, _smooth(labels, recipe.smoothing))

    _train(linear, loss, _Images(train, val, weights), recipe, seed)
    return LinearProbe(*(p[0].detach().clone().cpu() for p in (linear.weight, linear.bias)))


def fit_probe(train: Table, val: Table, training: Training) -> Fitted:
    """The linear probe on the pooled feature of the tables."""
    device = training.backbone.device
    recipe = AffineRecipe()
    parts, weights = (train.pooled(device), val.pooled(device)), train.weights(recipe.power)
    return Fitted.by(recipe, fit_linear_probe(*parts, seed=training.seed, recipe=recipe, weights=weights))


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """The orthogonal head on the pooled feature of the tables, and the names of its units over `val`."""
    backbone, recipe = training.backbone, AffineRecipe()
    parts, weights = (train.pooled(backbone.device), val.pooled(backbone.device)), train.weights(recipe.power)
    head = fit_orthogonal(*parts, seed=training.seed, recipe=recipe, weights=weights)
    clip, directions = val.evidence.clip, concept_directions(backbone)
    names = name_units(head.weight, directions, backbone.projection, vocabulary(), clip.pooled, clip.projected)
    return Fitted.by(recipe, head, names)
