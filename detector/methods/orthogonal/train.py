"""Training of the orthogonal head and of the linear probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.vocabulary import vocabulary
from detector.data.augmentation import paper_copy
from detector.devices import to_numpy
from detector.methods.concepts.head import concept_directions
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.orthogonal.naming import name_units, unnamed
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training
from detector.progress import progress
from detector.trainer import Plan, Rows, train_rows

BATCH = 16  # images in one forward

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
    views: str = "ours"  # random copies: "ours", milder and harsher ones that all methods share; "paper", `paper_copy`


PAPER_RECIPE = AffineRecipe(
    views="paper", power=0.0
)  # docs/methods.md, 1.3; the resize stays the backbone's own, which is what is read at scoring


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


def training_rows(train: Table, training: Training, recipe: AffineRecipe) -> tuple[Labelled, np.ndarray]:
    """What a head is trained on: the table, or the images as they are and as many of the paper's views of them as the table has copies;
    and the weights (N,) of its rows."""
    device = training.backbone.device
    if recipe.views == "ours":
        return train.pooled(device), train.weights(recipe.power)
    plain, copies = train.originals(), int(train.copy.max())
    features, labels = plain.pooled(device)
    generator = np.random.default_rng(training.seed)
    pictures = progress((pixels for _ in range(copies) for pixels in plain.pictures), copies * len(plain.labels), "the paper's views")
    prepared = (training.backbone.prepare(paper_copy(pixels, generator)) for pixels in pictures)
    batches = iter(lambda: list(islice(prepared, BATCH)), [])
    pooled = [training.backbone.encode(torch.stack(batch), tokens=False).pooled.to(device) for batch in batches]
    return (torch.cat([features, *pooled]), labels.repeat(1 + copies)), np.tile(plain.weights(recipe.power), 1 + copies)


def fit_probe(train: Table, val: Table, training: Training) -> Fitted:
    """The linear probe on the pooled feature of the tables. training.options: an `AffineRecipe`."""
    recipe = training.recipe(AffineRecipe())
    (rows, weights), val_rows = training_rows(train, training, recipe), val.pooled(training.backbone.device)
    return Fitted.by(recipe, fit_linear_probe(rows, val_rows, seed=training.seed, recipe=recipe, weights=weights))


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """The orthogonal head on the pooled feature of the tables, and the names of its units over `val`. training.options: an
    `AffineRecipe`."""
    backbone, recipe = training.backbone, training.recipe(AffineRecipe())
    (rows, weights), val_rows = training_rows(train, training, recipe), val.pooled(backbone.device)
    head = fit_orthogonal(rows, val_rows, seed=training.seed, recipe=recipe, weights=weights)
    if not backbone.reads_text:
        return Fitted.by(recipe, head, unnamed(len(head.weight)))
    clip, directions = val.evidence.clip, concept_directions(backbone)
    names = name_units(head.weight, directions, backbone.projection, vocabulary(), clip.pooled, clip.projected)
    return Fitted.by(recipe, head, names)
