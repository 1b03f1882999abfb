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
class Split:
    """One split for the ablations: evidence, one caption for each row ("" for none), labels (N,)."""

    evidence: Evidence
    captions: Sequence[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Ablation:
    """blocks: what the network reads. text: "both" (caption and numbers), "numbers", "caption", or "mean": the same mean training
    text for every image. tune_maps: option c of docs/methods.md, 4."""

    blocks: tuple[str, ...]
    text: str = "both"
    tune_maps: bool = False


ABLATIONS = {
    "values only": Ablation(("values",)),
    "numbers as text only": Ablation(("text",), "numbers"),
    "caption only": Ablation(("text",), "caption"),
    "image only": Ablation(("image",)),
    "image and values": Ablation(("image", "values")),
    "image and caption": Ablation(("image", "text", "product"), "caption"),
    "all": Ablation(BLOCKS),
    "all, every text the mean text (control)": Ablation(BLOCKS, "mean"),
    "all, maps tuned (option c)": Ablation(BLOCKS, tune_maps=True),
}


def inputs_by_text(backbone: Backbone, part: Split, limits: np.ndarray, core: Sequence[str]) -> dict[str, Inputs]:
    """ "both", "numbers" and "caption" → what the network reads of a split when its texts hold these."""
    values, none = part.evidence.descriptors, [""] * len(part.labels)
    ways: dict[str, tuple[Sequence[str], np.ndarray]] = {
        "both": (part.captions, values),
        "numbers": (none, values),
        "caption": (part.captions, np.full_like(values, np.nan)),
    }
    result: dict[str, Inputs] = {}
    for way, (captions, numbers) in ways.items():
        text = backbone.encode_text(written(backbone, captions, numbers, limits, core))
        result[way] = inputs(replace(part.evidence, physical_text=text), part.labels, limits, core).to(backbone.device)
    return result


def physical_clip_study(tables: dict[str, Table], backbone: Backbone, seeds: int) -> dict:
    """The fusion of image, caption and descriptors, and the network with less to read. tables: split → table with captions."""
    limits = quantiles(tables["train"].originals().evidence.descriptors)
    splits = {name: Split(t.evidence, _captions(t), t.labels) for name, t in tables.items()}
    return ablations(backbone, splits, limits, seeds, PAPER_CORE)


def _captions(table: Table) -> Sequence[str]:
    if table.evidence.alignment is None:
        raise ValueError("This study needs tables with captions; make them with `captioned_tables`.")
    return table.evidence.alignment.texts


def ablations(
    backbone: Backbone,
    splits: dict[str, Split],
    limits: np.ndarray,
    seeds: int = 3,
    core: Sequence[str] = PAPER_CORE,
    recipe: PhysicalClipRecipe = PhysicalClipRecipe(),
) -> dict:
    """Every ablation trained with every seed. "cells": ablation → split → the AUROC of each seed.

    splits: "train", "val" and the test splits. limits: (2, 15), the quantiles of `quantiles` on training images.
    """
    inputs_of = {name: inputs_by_text(backbone, split, limits, core) for name, split in splits.items()}
    mean = F.normalize(inputs_of["train"]["both"].text.mean(0), dim=0)
    for ways in inputs_of.values():
        ways["mean"] = replace(ways["both"], text=mean.expand_as(ways["both"].text))
    scale = float(backbone.model.logit_scale.exp())
    cells = {name: ablation_scores(ablation, inputs_of, scale, seeds, recipe) for name, ablation in ABLATIONS.items()}
    return {"seeds": seeds, "core": [name for name in NAMES if name in core], "cells": cells}


def ablation_scores(
    ablation: Ablation, splits: dict[str, dict[str, Inputs]], scale: float, seeds: int, recipe: PhysicalClipRecipe = PhysicalClipRecipe()
) -> dict[str, list[float]]:
    """Split → the AUROC of each seed; `train` itself is left out. splits: split → way of writing → inputs."""
    parts = {name: ways[ablation.text] for name, ways in splits.items()}
    train = parts.pop("train")
    result: dict[str, list[float]] = {name: [] for name in parts}
    for seed in range(seeds):
        form = Form(ablation.blocks, scale if ablation.tune_maps else None)
        network = train_network(train, parts["val"], form, seed, recipe)
        for name, part in parts.items():
            result[name].append(float(roc_auc_score(to_numpy(part.labels), to_numpy(network.scored(part)))))
    return result


def ablation_report(result: dict) -> str:
    """Markdown: a row for each variant, for each split the mean AUROC and its range over seeds."""
    splits = list(next(iter(result["cells"].values())))
    rows = ([name, *(f"{np.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in row.values())] for name, row in result["cells"].items())
    table = markdown_table(["the network reads", *(f"{split} AUROC" for split in splits)], rows)
    return (
        f"Mean and range over {result['seeds']} seeds. Descriptors: {', '.join(result['core'])}. Early stopping looked at `val`, so "
        "its column is optimistic. Where the row with the mean text is as good as *all*, the texts add nothing that the network "
        "uses.\n\n" + table
    )
