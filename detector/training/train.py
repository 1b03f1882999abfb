"""Train the heads of a backbone on a labelled folder: features once, then each method, then the verdict on `val`.

Both classes get the same random copies (crop, scale, blur, compression). Early stopping and calibration use the `val` split,
the verdict and its band that split and one random copy of each of its images; test splits are never read here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from detector.assets import EMBEDDED
from detector.clip.backbone import Backbone
from detector.data.datasets import read_dataset, training_splits
from detector.methods.base import HeadCard, save_head
from detector.methods.calibration import calibrated, logits_of
from detector.methods.registry import CAPTIONED, METHODS, PIXEL_METHODS, TOWER_METHODS, expected_card, find_heads, heads_folders, read_head
from detector.methods.sdd.train import SddOptions
from detector.methods.table import Table, Training
from detector.training.features import CAPTIONED_COPIES, cached, captioned, windowed
from detector.verdict.fusion import Fusion
from detector.verdict.reference import Reference

VAL_COPIES = 1  # of a validation image, for the verdict alone: what it says must hold of pictures that were saved again, too


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUROC on validation images that the method could read."""
    read = np.isfinite(logits)
    return {"auroc_val": round(float(roc_auc_score(labels[read], logits[read])), 4)}


# --- the whole -----------------------------------------------------------------------------------------------------


def _card(
    method: str, backbone: Backbone, data: str, counts: tuple[int, int], copies: int, seed: int, details: dict, metrics: dict
) -> HeadCard:
    views = "random windows of each, drawn anew in every epoch" if method in TOWER_METHODS else f"{copies} random copies of each"
    command = f"python -m detector train {method if method in METHODS else 'all'} --data DIR --copies {copies} --seed {seed}"
    return replace(
        expected_card(method, backbone),
        command=command,
        details=details,
        metrics=metrics,
        training_data=f"{data}: {counts[0]} training images, {views}; {counts[1]} for validation",
    )


@dataclass(frozen=True)
class Splits:
    """Tables of `train` and `val`, both with random copies; `told`: of `train` with captions, None where no method learns from them."""

    train: Table
    val: Table
    told: Table | None


def split_tables(backbone: Backbone, data: Path, copies: int, seed: int, cache: Path | None, trained: set[str], fused: set[str]) -> Splits:
    """What training some methods and fusing others needs. DataError where a class has too few images.

    Captions cost more than all else together: training images get them only where a method that reads them is trained.
    """
    train, val = training_splits(read_dataset(data), data)
    parts = ((train, copies, "train"), (val, min(copies, VAL_COPIES), "val"))
    tables = [cached(backbone, part, n, seed, cache, name) for part, n, name in parts]
    told = captioned(tables[0], backbone, seed, cache, "train") if trained & set(CAPTIONED) else None
    val_table = captioned(tables[1], backbone, seed, cache, "val") if fused & set(CAPTIONED) else tables[1]
    return Splits(tables[0], val_table, told)


def train_heads(
    methods: list[str],
    data: Path,
    backbone_name: str = EMBEDDED,
    out: Path | None = None,
    copies: int = 4,
    seed: int = 0,
    cache: Path | None = None,
    device: str | None = None,
    sdd: SddOptions | None = None,
) -> dict[str, Path]:
    """Train the named methods, then fit the verdict over all heads that are present. Returns method → head file."""
    backbone = Backbone.load(backbone_name, device)
    present = set() if out else set(find_heads(backbone_name))
    splits = split_tables(backbone, data, copies, seed, cache, set(methods), set(methods) | present)
    train, told, val = splits.train, splits.told, splits.val
    counts = tuple(int((table.copy == 0).sum()) for table in (train, val))
    written = {}
    for method in methods:
        training = Training(backbone, seed, sdd if method == "sdd" else None)
        fitted = METHODS[method].fitter()(told if method in CAPTIONED else train, val.originals(), training)
        val = windowed(val, fitted.head, cache, "val")
        plain = val.originals()
        head = calibrated(fitted.head, plain, backbone)
        figures = measured(logits_of(head, plain, backbone), plain.labels)
        path = (out or target_folder(method, backbone_name)) / f"{method}.safetensors"
        seen = min(copies, CAPTIONED_COPIES) if method in CAPTIONED else copies
        save_head(path, head.tensors(), _card(method, backbone, data.name, counts, seen, seed, fitted.details, figures))
        written[method] = path
    written["reference"] = (out or heads_folders(backbone_name)[0]) / "reference.safetensors"
    card = _card("reference", backbone, data.name, counts, copies, seed, {}, {})
    save_head(written["reference"], reference_of(val.originals()).tensors(), card)
    written["verdict"] = fit_verdict(backbone_name, backbone, val, out, data.name, counts, copies, seed, written, cache)
    return written


def reference_of(val: Table, captions: int = 200, seed: int = 0) -> Reference:
    """The validation images, and as embeddings `captions` of their captions, drawn at random: half of real, half of synthetic images."""
    clip, alignment = val.evidence.clip, val.evidence.alignment
    drawn = alignment.caption[caption_rows(val.labels, alignment.usable.numpy(), captions, seed)] if alignment else clip.projected[:0]
    return Reference(clip.pooled, clip.projected, torch.as_tensor(val.labels), drawn)


def caption_rows(labels: np.ndarray, usable: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` places with a usable caption, or fewer where there are none left, as many of each class; the same for the same seed."""
    generator = np.random.default_rng(seed)
    each = min(count // 2, *(int(((labels == label) & usable).sum()) for label in (0, 1)))
    return np.sort(np.concatenate([generator.permutation(np.flatnonzero((labels == label) & usable))[:each] for label in (0, 1)]))


def target_folder(method: str, backbone: str) -> Path:
    """The pixel methods' shared folder belongs to the embedded model's verdict; other backbones get copies of their own."""
    own, shared = heads_folders(backbone)
    return shared if method in PIXEL_METHODS and backbone == EMBEDDED else own


def fit_verdict(name: str, backbone: Backbone, val: Table, out: Path | None, data: str, counts, copies, seed, written, cache):
    """Fuse the heads just written and, without `out`, those that the backbone already has, on the logits of `val` and its copies."""
    paths = written if out else find_heads(name) | written
    heads, digests = {}, {}
    for method in sorted(set(paths) & set(METHODS)):
        heads[method], card = read_head(paths[method], method, backbone)
        digests[method] = card.digest
        val = windowed(val, heads[method], cache, "val")
    fusion = Fusion.fit({m: logits_of(h, val, backbone) for m, h in heads.items()}, val.labels, int(val.copy.max()) + 1)
    path = (out or heads_folders(name)[0]) / "verdict.safetensors"
    fused = fusion.fuse({method: fusion.logits[:, i] for i, method in enumerate(fusion.methods)})
    metrics = measured(fused[fusion.originals], val.labels[fusion.originals])
    save_head(path, fusion.tensors(), _card("verdict", backbone, data, counts, copies, seed, {"heads": digests}, metrics))
    return path
