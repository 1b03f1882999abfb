"""Training of the `physical_clip` head.

The tuned form (option c) also learns a linear map on each embedding, the identity at first, from the same loss plus half an InfoNCE
of image and text. Choice, not from the paper (docs/methods.md, 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.captioning import captioner
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError
from detector.methods.physical.features import NAMES, PAPER_CORE
from detector.methods.physical.selection import FEWEST, group_sources, select
from detector.methods.physical_clip.head import BLOCKS, PhysicalClipHead, joint, places, text_of, with_text
from detector.methods.physical_clip.text import quantiles
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training
from detector.trainer import Plan, Rows, train_rows

SAME_TEXT = 1 - 1e-4  # cosine from which two texts count as one


@dataclass(frozen=True)
class PhysicalClipRecipe:
    """Optimisation. All of it is choice, not from the paper; what docs/methods.md, 3 says for the same kind of network."""

    hidden: int = 512
    batch: int = 256
    epochs: int = 50
    patience: int = 5  # epochs without a better average precision on validation images
    rate: float = 1e-3
    map_rate: float = 1e-4  # of the maps on the embeddings, which start where they should stay near
    weight_decay: float = 1e-2
    dropout: float = 0.1
    contrast: float = 0.5  # weight of InfoNCE in the tuned form
    power: float = SOURCE_POWER  # of the sources' weights, see `Table.weights`


@dataclass(frozen=True)
class Form:
    """What the network reads: names of BLOCKS. scale: CLIP's temperature, the exponential of its `logit_scale`, for the tuned form;
    None leaves both embeddings as they are."""

    blocks: Sequence[str] = BLOCKS
    scale: float | None = None


@dataclass(frozen=True)
class Inputs:
    """image, text: (N, E) unit rows; values: (N, K) in [0, 1]; labels: (N,) float, 1 synthetic."""

    image: Tensor
    text: Tensor
    values: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Inputs:
        """The same on another device."""
        return Inputs(*(part.to(device) for part in vars(self).values()))

    def rows(self, index: Tensor) -> Inputs:
        return Inputs(*(part[index] for part in vars(self).values()))


def inputs(evidence: Evidence, labels: np.ndarray, limits: np.ndarray, core: Sequence[str]) -> Inputs:
    """What the network reads of labelled evidence, on the device of its projected features. HeadError without `physical_text`."""
    values, image = places(evidence.descriptors, limits, core), F.normalize(evidence.clip.projected, dim=1)
    return Inputs(image, text_of(evidence), values, torch.as_tensor(labels, dtype=torch.float32)).to(image.device)


class _Network(nn.Module):
    """The trainable part. The maps are kept as their distance from the identity, so that weight decay draws them back to it."""

    def __init__(self, width: int, values: int, form: Form, recipe: PhysicalClipRecipe):
        super().__init__()
        self.blocks, tuned = form.blocks, form.scale is not None
        self.image_step, self.text_step = (nn.Parameter(torch.zeros(width, width), requires_grad=tuned) for _ in range(2))
        count = sum(values if name == "values" else width for name in form.blocks)
        # a layer norm over nothing but the few values would take their common level away
        self.norm = nn.LayerNorm(count) if set(form.blocks) != {"values"} else nn.Identity()
        self.hidden, self.readout = nn.Linear(count, recipe.hidden), nn.Linear(recipe.hidden, 1)
        self.dropout = nn.Dropout(recipe.dropout)

    def mapped(self, batch: Inputs) -> tuple[Tensor, Tensor]:
        """Image and text embeddings after their maps, (B, E) unit rows each."""
        pairs = ((batch.image, self.image_step), (batch.text, self.text_step))
        image, text = (F.normalize(part + part @ step.T, dim=1) for part, step in pairs)
        return image, text

    def forward(self, batch: Inputs) -> Tensor:
        inputs = self.norm(joint(*self.mapped(batch), batch.values, self.blocks))  # (B, F)
        return self.readout(self.dropout(F.gelu(self.hidden(inputs)))).squeeze(1)

    def optimiser(self, recipe: PhysicalClipRecipe) -> torch.optim.Optimizer:
        maps = [self.image_step, self.text_step]
        others = [*self.norm.parameters(), *self.hidden.parameters(), *self.readout.parameters()]
        groups = [{"params": others, "lr": recipe.rate}, {"params": maps, "lr": recipe.map_rate}]
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)

    @torch.no_grad()
    def scored(self, batch: Inputs) -> Tensor:
        """(B,) logits without dropout; leaves the network in evaluation mode."""
        return self.eval()(batch)

    def head(self, limits: np.ndarray, core: Sequence[str]) -> PhysicalClipHead:
        """The head, on the CPU."""
        columns = torch.tensor([j for j, name in enumerate(NAMES) if name in core])
        state = {name: value.detach().clone().cpu() for name, value in self.state_dict().items()}
        image_map, text_map = (torch.eye(len(state[step])) + state[step] for step in ("image_step", "text_step"))
        layers = {f"{layer}_{part}": state[f"{layer}.{part}"] for layer in ("norm", "hidden") for part in ("weight", "bias")}
        readout = {"readout": state["readout.weight"][0], "bias": state["readout.bias"][0]}
        return PhysicalClipHead(torch.as_tensor(limits), columns, image_map, text_map, **layers, **readout)


def contrastive(image: Tensor, text: Tensor, scale: float) -> Tensor:
    """InfoNCE of (B, E) unit rows, mean of both directions, in nats. Another row with the very same text is no wrong answer."""
    same = (text.detach() @ text.detach().T > SAME_TEXT).fill_diagonal_(False)
    logits = (scale * image @ text.T).masked_fill(same, -torch.inf)
    truth = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def _loss(network: _Network, batch: Inputs, scale: float | None, recipe: PhysicalClipRecipe) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(network(batch), batch.labels)
    return entropy if scale is None else entropy + recipe.contrast * contrastive(*network.mapped(batch), scale)


def train_network(
    train: Inputs,
    val: Inputs,
    form: Form = Form(),
    seed: int = 0,
    recipe: PhysicalClipRecipe = PhysicalClipRecipe(),
    weights: np.ndarray | None = None,
) -> _Network:
    """AdamW; keeps the epoch with the best validation average precision. weights: (N,) how often a training image is drawn; None: all
    equally often."""
    from sklearn.metrics import average_precision_score  # slow to import, and scoring needs none of it

    torch.manual_seed(seed)
    network = _Network(train.image.shape[1], train.values.shape[1], form, recipe).to(train.image.device)
    return train_rows(
        network,
        network.optimiser(recipe),
        Plan(recipe.epochs, recipe.patience),
        Rows(len(train.labels), recipe.batch, train.labels.device, weights=None if weights is None else torch.from_numpy(weights)),
        loss=lambda rows: _loss(network, train.rows(rows), form.scale, recipe),
        validate=lambda: float(average_precision_score(to_numpy(val.labels), to_numpy(network(val)))),
    )


@dataclass(frozen=True)
class Texts:
    """How descriptors become text, and values in [0, 1]: limits (2, 15), percentiles that become 0 and 1; core: names of descriptors."""

    limits: np.ndarray
    core: Sequence[str] = PAPER_CORE


def fit_physical_clip(
    train: tuple[Evidence, np.ndarray],
    val: tuple[Evidence, np.ndarray],
    texts: Texts,
    *,
    scale: float | None = None,
    seed: int = 0,
    recipe: PhysicalClipRecipe = PhysicalClipRecipe(),
) -> PhysicalClipHead:
    """Train on (evidence with `physical_text`, labels (N,)), on the device of the evidence's `clip`; early stopping on `val`.

    The head is on the CPU. texts: how `physical_text` was written (`with_text`). scale: see `Form`. HeadError without `physical_text`.
    """
    train_inputs, val_inputs = (inputs(evidence, labels, texts.limits, texts.core) for evidence, labels in (train, val))
    return train_network(train_inputs, val_inputs, Form(scale=scale), seed, recipe).head(texts.limits, texts.core)


@dataclass(frozen=True)
class PhysicalClipOptions:
    """How the method `physical_clip` is trained. maps: "frozen", both embeddings as they are (option b), or "tuned" (option c). core:
    "paper", the descriptors that the paper names and one more of our choice, or "selected", what `selection.select` chooses on the
    training images as they are. docs/methods.md, 4."""

    maps: str = "frozen"
    core: str = "paper"
    recipe: PhysicalClipRecipe = PhysicalClipRecipe()


def selected_core(train: Table) -> tuple[str, ...]:
    """The descriptors that `selection.select` takes by their score over the synthetic sources. HeadError where there is none."""
    plain = train.originals()
    groups, left_out = group_sources(plain.evidence.descriptors, plain.labels, plain.sources)
    names = select(groups, left_out, draws=0).chosen if groups else []
    if not names:
        raise HeadError(f"No descriptor tells sources of {FEWEST} or more training images apart in one direction; train with --core paper.")
    return tuple(name for name in NAMES if name in names)


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """The network on images, captions and core descriptors as text; their limits come from the images as they are. training.options:
    `PhysicalClipOptions`."""
    options, backbone = training.recipe(PhysicalClipOptions()), training.backbone
    texts = Texts(quantiles(train.originals().evidence.descriptors), PAPER_CORE if options.core == "paper" else selected_core(train))
    tables = [with_text(backbone, table.evidence, table.evidence.aligned().texts, texts.limits, texts.core) for table in (train, val)]
    moved, moved_val = (replace(evidence, clip=evidence.clip.to(backbone.device)) for evidence in tables)
    scale = float(backbone.model.logit_scale.exp()) if options.maps == "tuned" else None
    pairs = ((moved, train.labels), (moved_val, val.labels))
    parts = [inputs(evidence, labels, texts.limits, texts.core) for evidence, labels in pairs]
    network = train_network(parts[0], parts[1], Form(scale=scale), training.seed, options.recipe, train.weights(options.recipe.power))
    details = {"captioner": captioner(backbone), "maps": options.maps, "core": list(texts.core)}
    return Fitted.by(options.recipe, network.head(texts.limits, texts.core), details)
