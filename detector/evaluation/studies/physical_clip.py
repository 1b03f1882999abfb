"""What is each part of image, caption and descriptors worth? The network of `physical_clip` with less to read (docs/methods.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import Backbone
from detector.devices import to_numpy
from detector.markdown import markdown_table
from detector.methods.base import Evidence
from detector.methods.physical.features import NAMES, PAPER_CORE
from detector.methods.physical_clip.head import BLOCKS
from detector.methods.physical_clip.text import quantiles, written
from detector.methods.physical_clip.train import Form, Inputs, PhysicalClipRecipe, inputs, train_network
from detector.methods.table import Table


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
    """ "both", "numbers" and "caption" → what the network reads of a split when its texts hold these."""
    values, count = part.evidence.descriptors, len(part.labels)
    ways = {"both": (part.captions, values), "numbers": ([""] * count, values), "caption": (part.captions, np.full_like(values, np.nan))}
    found = {}
    for way, (captions, shown) in ways.items():
        text = backbone.encode_text(written(backbone, captions, shown, limits, core))
        found[way] = inputs(replace(part.evidence, physical_text=text), part.labels, limits, core).to(backbone.device)
    return found


def physical_clip_study(told: dict[str, Table], backbone: Backbone, seeds: int) -> dict:
    """The fusion of image, caption and descriptors, and the network with less to read. told: split → table with captions."""
    limits = quantiles(told["train"].originals().evidence.descriptors)
    parts = {split: Part(t.evidence, t.evidence.alignment.texts, t.labels) for split, t in told.items()}
    train, val = parts.pop("train"), parts.pop("val")
    return ablations(backbone, train, val, parts, limits, seeds, PAPER_CORE)


def ablations(
    backbone: Backbone,
    train: Part,
    val: Part,
    tests: dict[str, Part],
    limits: np.ndarray,
    seeds: int = 3,
    core: Sequence[str] = PAPER_CORE,
    recipe: PhysicalClipRecipe = PhysicalClipRecipe(),
) -> dict:
    """Every variant trained with every seed. "cells": variant → split (`val` first) → the AUROC of each seed."""
    splits = {name: written_three_ways(backbone, part, limits, core) for name, part in ({"train": train, "val": val} | tests).items()}
    mean = F.normalize(splits["train"]["both"].text.mean(0), dim=0)
    for ways in splits.values():
        ways["mean"] = replace(ways["both"], text=mean.expand_as(ways["both"].text))
    scale = float(backbone.model.logit_scale.exp())
    cells = {name: compared(variant, splits, scale, seeds, recipe) for name, variant in VARIANTS.items()}
    return {"seeds": seeds, "core": [name for name in NAMES if name in core], "cells": cells}


def compared(
    variant: Variant, splits: dict[str, dict[str, Inputs]], scale: float, seeds: int, recipe: PhysicalClipRecipe = PhysicalClipRecipe()
) -> dict[str, list[float]]:
    """Split → the AUROC of each seed; `train` itself is left out. splits: split → way of writing → inputs."""
    read = {name: ways[variant.text] for name, ways in splits.items()}
    train, result = read.pop("train"), {name: [] for name in read}
    for seed in range(seeds):
        network = train_network(train, read["val"], Form(variant.blocks, scale if variant.tuned else None), seed, recipe)
        for name, part in read.items():
            result[name].append(float(roc_auc_score(to_numpy(part.labels), to_numpy(network.scored(part)))))
    return result


def ablation_report(result: dict) -> str:
    """Markdown: a row for each variant, for each split the mean AUROC and its range over seeds."""
    splits = list(next(iter(result["cells"].values())))
    rows = ([name, *(f"{np.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in found.values())] for name, found in result["cells"].items())
    table = markdown_table(["the network reads", *(f"{split} AUROC" for split in splits)], rows)
    return (
        f"Mean and range over {result['seeds']} seeds. Descriptors: {', '.join(result['core'])}. Early stopping looked at `val`, so "
        "its column is optimistic. Where the row with the mean text is as good as *all*, the texts add nothing that the network "
        "uses.\n\n" + table
    )
