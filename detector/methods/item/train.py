"""Training of ITEM's network, with early stopping on validation images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.captioning import captioner
from detector.devices import to_numpy
from detector.methods.base import HeadError
from detector.methods.item.alignment import Alignment
from detector.methods.item.head import ItemHead
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training
from detector.trainer import Plan, Rows, train_rows


@dataclass(frozen=True)
class ItemRecipe:
    """Optimisation; all of it docs/methods.md, 3, where it is choice, not from the paper."""

    hidden: int = 512
    batch: int = 256
    epochs: int = 50
    patience: int = 5  # epochs without a better average precision on validation images
    rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1
    power: float = SOURCE_POWER  # of the sources' weights, see `Table.weights` (choice)
    copies: bool = True  # ours: random copies of the training images are learnt, too


PAPER_RECIPE = ItemRecipe(copies=False, power=0.0)  # the paper's abstract names the features alone; all else is choice (docs/methods.md, 3)

Labelled = tuple[Tensor, Tensor]  # (N, F) inputs, (N,) labels: 1 synthetic
Aligned = tuple[Alignment, Tensor]  # N images, (N,) labels


def _network(width: int, norm: bool, recipe: ItemRecipe) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width) if norm else nn.Identity(),
        nn.Linear(width, recipe.hidden),
        nn.GELU(),
        nn.Dropout(recipe.dropout),
        nn.Linear(recipe.hidden, 1),
        nn.Flatten(0),
    )


def train_network(
    train: Labelled,
    val: Labelled,
    norm: bool = True,
    *,
    seed: int = 0,
    recipe: ItemRecipe = ItemRecipe(),
    weights: Tensor | None = None,
) -> nn.Sequential:
    """AdamW on ((N, F), (N,)); keeps the epoch with the best validation average precision, in evaluation mode.

    weights: (N,) how often a training row is drawn; None: all equally often.
    """
    from sklearn.metrics import average_precision_score  # slow to import, and scoring needs none of it

    (inputs, labels), val_labels = train, to_numpy(val[1])
    torch.manual_seed(seed)
    network = _network(inputs.shape[1], norm, recipe).to(inputs.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    train_rows(
        network,
        optimiser,
        Plan(recipe.epochs, recipe.patience),
        Rows(len(labels), recipe.batch, labels.device, weights=weights),
        loss=lambda rows: F.binary_cross_entropy_with_logits(network(inputs[rows]), labels[rows]),
        validate=lambda: float(average_precision_score(val_labels, to_numpy(network(val[0])))),
    )
    return network.requires_grad_(False)


def readable(part: Aligned) -> Labelled:
    """Inputs and labels of the images that have a caption."""
    alignment, labels = part
    labels = torch.as_tensor(labels, dtype=torch.float32, device=alignment.image.device)
    return alignment.inputs[alignment.usable], labels[alignment.usable]


def fit_item(
    train: Aligned, val: Aligned, *, seed: int = 0, recipe: ItemRecipe = ItemRecipe(), weights: np.ndarray | None = None
) -> ItemHead:
    """Train on (alignment, labels (N,)), on the alignment's device; early stopping on `val`. The head is on the CPU.

    Images without a usable caption are left out. weights: (N,) how often a training image is drawn; None: all equally often.
    HeadError if one of the two has no image of a class with a usable caption.
    """
    for part in (train, val):
        if set(readable(part)[1].tolist()) != {0.0, 1.0}:
            raise HeadError("The item head needs images of both classes with usable captions; this backbone writes too few.")
    drawn = None if weights is None else torch.from_numpy(weights)[train[0].usable.cpu()]
    state = train_network(readable(train), readable(val), seed=seed, recipe=recipe, weights=drawn).cpu().state_dict()
    norm, hidden = ((state[f"{layer}.weight"], state[f"{layer}.bias"]) for layer in (0, 1))
    return ItemHead(*norm, *hidden, state["4.weight"][0], state["4.bias"][0])


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """ITEM's network on the tables' images against their captions. training.options: an `ItemRecipe`."""
    backbone, recipe = training.backbone, training.recipe(ItemRecipe())
    learnt = train if recipe.copies else train.originals()
    parts, weights = (learnt.aligned(backbone.device), val.aligned(backbone.device)), learnt.weights(recipe.power)
    head = fit_item(*parts, seed=training.seed, recipe=recipe, weights=weights)
    return Fitted.by(recipe, head, {"captioner": captioner(backbone)})
