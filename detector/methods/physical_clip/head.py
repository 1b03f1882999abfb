"""Image, caption and descriptors written as text side by side in CLIP's space, and a small network on them (arXiv 2604.04608).

Known from the paper: descriptors are written as text, put after a caption, and image and text are aligned in CLIP's space. Its
network, loss and what is tuned are not published; the following are choices (docs/methods.md, 4). With the unit image embedding z,
the unit embedding t of the text and the core descriptors v in [0, 1]: u = [z; t; z∘t; v] → layer norm → Linear 512 → GELU →
Linear 1. By default CLIP stays as it is. The tuned form (option c) also learns a linear map on each embedding, the identity at
first, from the same loss plus half an InfoNCE of image and text. No label is ever part of the text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.backbone import Backbone, Sizes
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError, Score, Shapes
from detector.methods.physical.features import NAMES, PAPER_CORE
from detector.methods.physical_clip.text import normalised, written

BLOCKS = ("image", "text", "product", "values")
UNDEFINED = 0.5  # place of a descriptor that is not defined: the middle. Choice, ours; its text leaves it out
SAME_TEXT = 1 - 1e-4  # cosine from which two texts count as one


@dataclass(frozen=True)
class PhysicalClipHead:
    """K core descriptors, embeddings of width E, F = 3 E + K inputs, H hidden units.

    limits: (2, 15) training percentiles that become 0 and 1. core: (K,) places in `physical.NAMES`. image_map, text_map: (E, E),
    the identity unless tuned. norm_weight, norm_bias: (F,). hidden_weight: (H, F), hidden_bias: (H,). readout: (H,), bias: scalar.
    """

    limits: Tensor
    core: Tensor
    image_map: Tensor
    text_map: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    readout: Tensor
    bias: Tensor

    @property
    def core_names(self) -> tuple[str, ...]:
        return tuple(NAMES[j] for j in self.core.tolist())

    def with_text(self, backbone: Backbone, evidence: Evidence, captions: Sequence[str]) -> Evidence:
        """The evidence with `physical_text` as this head was trained to read it; one caption for each image, "" for none."""
        return with_text(backbone, evidence, captions, to_numpy(self.limits), self.core_names)

    def logits(self, projected: Tensor, text: Tensor, descriptors: np.ndarray) -> Tensor:
        """(B, E) not normalised, (B, E) unit rows, (B, 15) → (B,); higher speaks for synthetic."""
        image = F.normalize(F.normalize(projected, dim=1) @ self.image_map.T, dim=1)
        text = F.normalize(text @ self.text_map.T, dim=1)
        values = places(descriptors, to_numpy(self.limits), self.core_names).to(image.device)
        inputs = joint(image, text, values, BLOCKS)  # (B, F)
        inputs = F.layer_norm(inputs, inputs.shape[1:], self.norm_weight, self.norm_bias)
        return F.gelu(inputs @ self.hidden_weight.T + self.hidden_bias) @ self.readout + self.bias

    def score(self, evidence: Evidence) -> Score:
        """HeadError if the evidence holds no `physical_text`."""
        return Score(to_numpy(self.logits(evidence.clip.projected, _text(evidence), evidence.descriptors)))

    def scaled(self, slope: float, offset: float) -> PhysicalClipHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        maps = (sizes.projected, sizes.projected)
        return {"limits": (2, len(NAMES)), "core": ("core",), "image_map": maps, "text_map": maps, "norm_weight": ("inputs",),
                "norm_bias": ("inputs",), "hidden_weight": ("hidden", "inputs"), "hidden_bias": ("hidden",), "readout": ("hidden",),
                "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> PhysicalClipHead:
        """HeadError if the network does not read the three embeddings and the core descriptors."""
        core, width = tensors["core"], len(tensors["image_map"])
        if len(tensors["norm_weight"]) != 3 * width + len(core) or not bool(((core >= 0) & (core < len(NAMES))).all()):
            raise HeadError("The physical_clip head reads other descriptors than it names; train it again.")
        return cls(**tensors)


def _text(evidence: Evidence) -> Tensor:
    if evidence.physical_text is None:
        raise HeadError("The physical_clip head reads the descriptors as text, and this evidence holds none: see `with_text`.")
    return evidence.physical_text


# --- what it reads -------------------------------------------------------------------------------------------------


def with_text(backbone: Backbone, evidence: Evidence, captions: Sequence[str], limits: np.ndarray, core: Sequence[str]) -> Evidence:
    """The evidence with `physical_text`, (B, E) unit rows: the caption and the core descriptors as text, in CLIP's space."""
    texts = written(backbone, captions, evidence.descriptors, limits, core)
    return replace(evidence, physical_text=backbone.encode_text(texts))


def places(descriptors: np.ndarray, limits: np.ndarray, core: Sequence[str]) -> Tensor:
    """(B, 15) → (B, K) places of the core descriptors between the limits, in [0, 1], in the order of `physical.NAMES`."""
    columns = [j for j, name in enumerate(NAMES) if name in core]
    values = np.nan_to_num(normalised(np.asarray(descriptors), limits)[:, columns], nan=UNDEFINED)
    return torch.as_tensor(values, dtype=torch.float32)


def joint(image: Tensor, text: Tensor, values: Tensor, blocks: Sequence[str]) -> Tensor:
    """(B, E), (B, E), (B, K) → the chosen blocks beside one another, in the order of BLOCKS."""
    parts = {"image": image, "text": text, "product": image * text, "values": values}
    return torch.cat([parts[name] for name in BLOCKS if name in blocks], dim=1)


# --- training ------------------------------------------------------------------------------------------------------


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
    values, labels = places(evidence.descriptors, limits, core), torch.as_tensor(labels, dtype=torch.float32)
    image = F.normalize(evidence.clip.projected, dim=1)
    return Inputs(image, _text(evidence), values, labels).to(image.device)


class _Network(nn.Module):
    """The trainable part. The maps are kept as their distance from the identity, so that weight decay draws them back to it."""

    def __init__(self, width: int, values: int, blocks: Sequence[str], tuned: bool, recipe: PhysicalClipRecipe):
        super().__init__()
        self.blocks = blocks
        self.image_step, self.text_step = (nn.Parameter(torch.zeros(width, width), requires_grad=tuned) for _ in range(2))
        count = sum(values if name == "values" else width for name in blocks)
        # a layer norm over nothing but the few values would take their common level away
        self.norm = nn.LayerNorm(count) if set(blocks) != {"values"} else nn.Identity()
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
        chosen = torch.tensor([j for j, name in enumerate(NAMES) if name in core])
        maps = (torch.eye(len(step), device=step.device) + step for step in (self.image_step, self.text_step))
        parts = (*maps, self.norm.weight, self.norm.bias, self.hidden.weight, self.hidden.bias, self.readout.weight[0],
                 self.readout.bias[0])
        return PhysicalClipHead(torch.as_tensor(limits), chosen, *(part.detach().clone().cpu() for part in parts))


def contrastive(image: Tensor, text: Tensor, scale: float) -> Tensor:
    """InfoNCE of (B, E) unit rows, mean of both directions, in nats. Another row with the very same text is no wrong answer."""
    same = (text.detach() @ text.detach().T > SAME_TEXT).fill_diagonal_(False)
    logits = (scale * image @ text.T).masked_fill(same, -torch.inf)
    truth = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def _loss(network: _Network, batch: Inputs, scale: float | None, recipe: PhysicalClipRecipe) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(network(batch), batch.labels)
    return entropy if scale is None else entropy + recipe.contrast * contrastive(*network.mapped(batch), scale)


def _train(train: Inputs, val: Inputs, blocks: Sequence[str], scale: float | None, seed: int, recipe: PhysicalClipRecipe) -> _Network:
    """AdamW; keeps the epoch with the best validation average precision. scale: CLIP's temperature, None for not tuned."""
    from sklearn.metrics import average_precision_score  # slow to import, and scoring needs none of it

    torch.manual_seed(seed)
    network = _Network(train.image.shape[1], train.values.shape[1], blocks, scale is not None, recipe).to(train.image.device)
    optimiser = network.optimiser(recipe)
    best, state, waited = -1.0, None, 0
    for _ in range(recipe.epochs):
        network.train()
        for rows in torch.randperm(len(train.labels)).to(train.labels.device).split(recipe.batch):
            optimiser.zero_grad()
            _loss(network, train.rows(rows), scale, recipe).backward()
            optimiser.step()
        precision = average_precision_score(to_numpy(val.labels), to_numpy(network.scored(val)))
        waited = waited + 1 if precision <= best else 0
        if not waited:
            best, state = precision, copy.deepcopy(network.state_dict())
        if waited >= recipe.patience:
            break
    network.load_state_dict(state)
    return network


def fit_physical_clip(train: tuple[Evidence, np.ndarray], val: tuple[Evidence, np.ndarray], limits: np.ndarray, *,
                      core: Sequence[str] = PAPER_CORE, scale: float | None = None, seed: int = 0,
                      recipe: PhysicalClipRecipe = PhysicalClipRecipe()) -> PhysicalClipHead:
    """Train on (evidence with `physical_text`, labels (N,)), on the device of the evidence's `clip`; early stopping on `val`.

    The head is on the CPU. limits and core: those that the texts were written with (`with_text`). scale: CLIP's temperature, the
    exponential of its `logit_scale`, for the tuned form; None leaves both embeddings as they are. HeadError without `physical_text`.
    """
    parts = [inputs(evidence, labels, limits, core) for evidence, labels in (train, val)]
    return _train(*parts, BLOCKS, scale, seed, recipe).head(limits, core)


# --- what each part is worth ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One split for the ablations: evidence, one caption for each row ("" for none), labels (N,)."""

    evidence: Evidence
    captions: Sequence[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Variant:
    """blocks: what the network reads. text: "both" (caption and numbers), "numbers", "caption", or "mean": the same mean training
    text for every image. tuned: option c."""

    blocks: tuple[str, ...]
    text: str = "both"
    tuned: bool = False


VARIANTS = {
    "values only": Variant(("values",)),
    "numbers as text only": Variant(("text",), "numbers"),
    "caption only": Variant(("text",), "caption"),
    "image only": Variant(("image",)),
    "image and values": Variant(("image", "values")),
    "image and caption": Variant(("image", "text", "product"), "caption"),
    "all": Variant(BLOCKS),
    "all, every text the mean text (control)": Variant(BLOCKS, "mean"),
    "all, maps tuned (option c)": Variant(BLOCKS, tuned=True),
}


def written_three_ways(backbone: Backbone, part: Part, limits: np.ndarray, core: Sequence[str]) -> dict[str, Inputs]:
    """"both", "numbers" and "caption" → what the network reads of a split when its texts hold these."""
    values, count = part.evidence.descriptors, len(part.labels)
    ways = {"both": (part.captions, values), "numbers": ([""] * count, values), "caption": (part.captions, np.full_like(values, np.nan))}
    found = {}
    for way, (captions, shown) in ways.items():
        text = backbone.encode_text(written(backbone, captions, shown, limits, core))
        found[way] = inputs(replace(part.evidence, physical_text=text), part.labels, limits, core).to(backbone.device)
    return found


def ablations(backbone: Backbone, train: Part, val: Part, tests: dict[str, Part], limits: np.ndarray, seeds: int = 3,
              core: Sequence[str] = PAPER_CORE, recipe: PhysicalClipRecipe = PhysicalClipRecipe()) -> dict:
    """Every variant trained with every seed. "cells": variant → split (`val` first) → the AUROC of each seed."""
    splits = {name: written_three_ways(backbone, part, limits, core) for name, part in ({"train": train, "val": val} | tests).items()}
    mean = F.normalize(splits["train"]["both"].text.mean(0), dim=0)
    for ways in splits.values():
        ways["mean"] = replace(ways["both"], text=mean.expand_as(ways["both"].text))
    scale = float(backbone.model.logit_scale.exp())
    cells = {name: compared(variant, splits, scale, seeds, recipe) for name, variant in VARIANTS.items()}
    return {"seeds": seeds, "core": [name for name in NAMES if name in core], "cells": cells}


def compared(variant: Variant, splits: dict[str, dict[str, Inputs]], scale: float, seeds: int,
             recipe: PhysicalClipRecipe = PhysicalClipRecipe()) -> dict[str, list[float]]:
    """Split → the AUROC of each seed; `train` itself is left out. splits: split → way of writing → inputs."""
    from sklearn.metrics import roc_auc_score

    read = {name: ways[variant.text] for name, ways in splits.items()}
    train, result = read.pop("train"), {name: [] for name in read}
    for seed in range(seeds):
        network = _train(train, read["val"], variant.blocks, scale if variant.tuned else None, seed, recipe)
        for name, part in read.items():
            result[name].append(float(roc_auc_score(to_numpy(part.labels), to_numpy(network.scored(part)))))
    return result


def ablation_report(result: dict) -> str:
    """Markdown: a row for each variant, for each split the mean AUROC and its range over seeds."""
    splits = list(next(iter(result["cells"].values())))
    lines = ["| the network reads | " + " | ".join(f"{split} AUROC" for split in splits) + " |", "|" + "---|" * (len(splits) + 1)]
    for name, found in result["cells"].items():
        cells = (f"{np.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in found.values())
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return (f"Mean and range over {result['seeds']} seeds. Descriptors: {', '.join(result['core'])}. Early stopping looked at `val`, so "
            "its column is optimistic. Where the row with the mean text is as good as *all*, the texts add nothing that the network "
            "uses.\n\n" + "\n".join(lines))
