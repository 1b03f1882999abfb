"""What are the words worth to ITEM? Its network beside controls that read less, each trained by itself (docs/methods.md, 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from detector.clip.backbone import Backbone
from detector.devices import to_numpy
from detector.evaluation.tables import MEAN_TEXTS, text_gains
from detector.markdown import markdown_table
from detector.methods.item.alignment import Alignment, places_of
from detector.methods.item.train import Aligned, ItemRecipe, readable, train_network
from detector.methods.table import Table


def without_objects(alignment: Alignment) -> Alignment:
    """The whole image and its caption only."""
    return replace(
        alignment,
        count=torch.zeros_like(alignment.count),
        crops=torch.zeros_like(alignment.crops),
        phrases=torch.zeros_like(alignment.phrases),
    )


def with_mean_text(alignment: Alignment, mean: Tensor, mean_phrase: Tensor) -> Alignment:
    """Every caption and every object's text replaced by the same one, (E,) each; the crops stay as the words placed them."""
    is_object = places_of(alignment) < alignment.count[:, None]  # (B, 5)
    return replace(
        alignment,
        caption=mean.expand_as(alignment.image).where(alignment.usable[:, None], torch.nan),
        phrases=torch.where(is_object[:, :, None], mean_phrase, 0.0),
    )


def with_shuffled_text(alignment: Alignment, seed: int) -> Alignment:
    """Each image with the caption and the objects' texts of another one, and as many objects as the one with fewer has."""
    other = torch.randperm(len(alignment), generator=torch.Generator().manual_seed(seed)).to(alignment.count.device)
    count = torch.minimum(alignment.count, alignment.count[other])
    is_object = (places_of(alignment) < count[:, None])[:, :, None]
    return replace(
        alignment,
        caption=alignment.caption[other],
        count=count,
        crops=torch.where(is_object, alignment.crops, 0.0),
        phrases=torch.where(is_object, alignment.phrases[other], 0.0),
    )


def _same(alignment: Alignment) -> Alignment:
    return alignment


def control_inputs(train: Alignment, seed: int) -> dict[str, Callable[[Alignment], Alignment]]:
    """Name → what is done to the alignments of every split. Mean texts come from the training images."""
    is_object = places_of(train) < train.count[:, None]
    mean = F.normalize(train.caption[train.usable].mean(0), dim=0)
    mean_phrase = F.normalize(train.phrases[is_object].mean(0), dim=0) if is_object.any() else torch.zeros_like(mean)
    return {
        "all": _same,
        "global only": without_objects,
        "image only: mean caption, no objects": lambda a: with_mean_text(without_objects(a), mean, mean_phrase),
        MEAN_TEXTS: lambda a: with_mean_text(a, mean, mean_phrase),
        "shuffled captions": lambda a: with_shuffled_text(a, seed),
    }


def controls(
    train: Aligned, val: Aligned, tests: dict[str, Aligned], seeds: int = 3, recipe: ItemRecipe = ItemRecipe()
) -> dict[str, dict[str, list[float]]]:
    """Control → split (`val` first) → AUROC of each seed. Each control is trained by itself, as `fit_item` does."""
    splits = {"val": val} | tests
    result: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for name, change in control_inputs(train[0], seed).items():
            inputs = {split: readable((change(a), labels)) for split, (a, labels) in ({"train": train} | splits).items()}
            _note(result, name, inputs, True, seed, recipe)
        _note(result, "cosines only", _cosines({"train": train} | splits), False, seed, recipe)
    return result


def _cosines(splits: dict[str, Aligned]) -> dict[str, tuple[Tensor, Tensor]]:
    """The four numbers of the summary, standardised by the training images; no layer norm, which would take their level away."""
    summaries = {split: (inputs[:, -4:], labels) for split, (inputs, labels) in ((s, readable(part)) for s, part in splits.items())}
    mean, spread = summaries["train"][0].mean(0), summaries["train"][0].std(0).clamp(min=1e-6)
    return {split: ((values - mean) / spread, labels) for split, (values, labels) in summaries.items()}


def _note(result: dict, name: str, splits: dict[str, tuple[Tensor, Tensor]], norm: bool, seed: int, recipe: ItemRecipe) -> None:
    """Train on `train`, and add the AUROC of each other split to the result."""
    network = train_network(splits["train"], splits["val"], norm, seed=seed, recipe=recipe)
    for split, (inputs, labels) in splits.items():
        if split != "train":
            result.setdefault(name, {}).setdefault(split, []).append(float(roc_auc_score(to_numpy(labels), to_numpy(network(inputs)))))


def item_study(tables: dict[str, Table], backbone: Backbone, seeds: int) -> dict:
    """ITEM's network and its controls, each trained by itself. tables: split → table with captions."""
    parts = {split: table.aligned(backbone.device) for split, table in tables.items()}
    train, val = parts.pop("train"), parts.pop("val")
    return {"seeds": seeds, "cells": controls(train, val, parts, seeds)}


def item_report(result: dict) -> str:
    """What the words are worth in one sentence, then the table."""
    cells = result["cells"]
    gaps = text_gains(cells, [split for split in cells["all"] if split != "val"])
    words = "; ".join(f"{gap:+.3f} on {split}" for split, gap in gaps.items())
    return (
        f"AUROC, mean and range over {result['seeds']} seeds. What the words add over the same pictures with one mean text for "
        f"all: {words}. `val` chose the epoch and is optimistic.\n\n" + control_report(cells)
    )


def control_report(result: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: a row for each control, for each split the mean AUROC and its range over seeds."""
    splits = list(next(iter(result.values())))
    rows = ([name, *(f"{np.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in by_split.values())] for name, by_split in result.items())
    return markdown_table(["the network reads", *(f"{split} AUROC" for split in splits)], rows)
