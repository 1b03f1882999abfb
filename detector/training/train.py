"""Train the heads of a backbone on labelled folders: features once, then each method, then the verdict on `val`.

Both classes get the same random copies (crop, scale, blur, compression). Early stopping and calibration use the `val` split. The verdict
and its band use out-of-source logits of all images and one random copy of each (`stacking`), or those of `val` where the data have too few
sources; test splits are never read here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from detector.assets import EMBEDDED, MODELS
from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, read_datasets, read_photographs, training_splits
from detector.methods.base import HeadCard, HeadError, save_head
from detector.methods.calibration import calibrated, logits_of
from detector.methods.registry import (
    CAPTIONED,
    METHODS,
    PIXEL_METHODS,
    TOWER_METHODS,
    expected_card,
    find_heads,
    heads_in,
    home_folder,
    read_head,
    require_suited,
    shipped_folders,
)
from detector.methods.sdd.train import SddOptions
from detector.methods.table import Table, Training
from detector.training.features import CAPTIONED_COPIES, cached, cached_clip, captioned, windowed
from detector.training.resynthesis import Resynthesis, with_resyntheses
from detector.training.splits import Splits
from detector.training.stacking import (
    FOLDS,
    SCORED_COPIES,
    Stack,
    fold_count,
    out_of_source_logits,
    read_logits,
    unscored_folds,
    write_logits,
)
from detector.verdict.fusion import Fusion
from detector.verdict.reference import Reference

PHOTOGRAPHS = 300  # at most so many of each collection of `TrainingRun.photographs`: as many as the largest of ours has (choice)
VAL_COPIES = 1  # of a validation image, for the verdict alone: what it says must hold of pictures that were saved again, too


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUROC on validation images that the method could read."""
    finite = np.isfinite(logits)
    return {"auroc_val": round(float(roc_auc_score(labels[finite], logits[finite])), 4)}


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingRun:
    """One training of heads.

    data: folders of labelled images. backbone: its name. out: folder of the head files; None: the user's own. copies: random copies
    of each training image. cache: folder of measured features; None: nothing is written. device: None: a GPU where there is one. given:
    method → file of out-of-source logits, see `stacking.write_logits`. resyntheses: share of the training photographs that are
    re-synthesised, see `resynthesis`. photographs: folder of more real pictures for the methods that read CLIP's features alone, a
    subfolder for each collection; a collection of the name of one in `data` counts as that one.
    """

    data: Sequence[Path]
    backbone: str = EMBEDDED
    out: Path | None = None
    copies: int = 4
    seed: int = 0
    cache: Path | None = None
    device: str | None = None
    given: Mapping[str, Path] = field(default_factory=dict)
    resyntheses: float = 0.0
    photographs: Path | None = None

    @property
    def name(self) -> str:
        """The names of the data folders, without what leads to them."""
        return " and ".join(folder.resolve().name for folder in self.data)

    def folder(self, method: str, backbone: Backbone) -> Path:
        """Where the method's file is written. Pixel methods that are made for the embedded model serve every backbone."""
        shared = method in PIXEL_METHODS and self.out is not None and self.out.resolve() == shipped_folders(EMBEDDED)[0].resolve()
        return MODELS / "pixels" if shared else self.out or home_folder(backbone)

    def present(self, backbone: Backbone) -> dict[str, Path]:
        """Method → head file, of the heads that a verdict fuses beside the new ones: those in `out`, else all that `score` uses."""
        return heads_in([self.out, self.folder("physical", backbone)]) if self.out else find_heads(backbone)


@dataclass(frozen=True)
class Fit:
    """What a card says of a fit. method: of a head, "verdict" or "reference". photographs: how many more there were, in words."""

    method: str
    details: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    photographs: str = ""


def card_of(fit: Fit, run: TrainingRun, backbone: Backbone, counts: tuple[int, int]) -> HeadCard:
    """The card of a fit. counts: of training images and of validation images."""
    method, copies = fit.method, min(run.copies, CAPTIONED_COPIES) if fit.method in CAPTIONED else run.copies
    more = f" --resyntheses {run.resyntheses}" if run.resyntheses else ""
    more += " --photographs DIR" if run.photographs else ""
    return replace(
        expected_card(method, backbone),
        command=f"python -m detector train {method if method in METHODS else 'all'} --data DIR --copies {copies} --seed {run.seed}{more}",
        details=fit.details,
        metrics=fit.metrics,
        training_data=f"{run.name}: {counts[0]} training images{fit.photographs}, {_views(method, copies)}; {counts[1]} for validation",
    )


def _views(method: str, copies: int) -> str:
    """What of each training image a fit reads besides the image. copies: random ones that were asked for."""
    if method in TOWER_METHODS:
        return "random windows of each, drawn once"
    copies = min(copies, SCORED_COPIES) if method == "verdict" else copies
    return f"{copies} random {'copy' if copies == 1 else 'copies'} of each"


def split_tables(run: TrainingRun, backbone: Backbone, trained: set[str], fused: set[str]) -> Splits:
    """What training some methods and fusing others needs. DataError where a class has too few images.

    Captions cost more than all else together: training images get them only where a method that reads them is trained.
    """
    train, val = training_splits(read_datasets(run.data), run.name)
    train = with_resyntheses(train, Resynthesis(run.resyntheses), run.cache)
    parts = ((train, run.copies, "train"), (val, min(run.copies, VAL_COPIES), "val"))
    tables = [cached(backbone, part, copies, run.seed, run.cache, title) for part, copies, title in parts]
    learned = captioned(tables[0], backbone, run.seed, run.cache, "train") if (trained | _stacked(fused, tables)) & set(CAPTIONED) else None
    val_table = captioned(tables[1], backbone, run.seed, run.cache, "val") if fused & set(CAPTIONED) else tables[1]
    return Splits(tables[0], val_table, learned, photographs_of(run, backbone))


def photographs_of(run: TrainingRun, backbone: Backbone) -> Table | None:
    """The table of `run.photographs`, with as many random copies as the training images have; None where there are none."""
    if run.photographs is None:
        return None
    examples = read_photographs(run.photographs, PHOTOGRAPHS)
    return cached_clip(backbone, examples, run.copies, run.seed, run.cache, "photographs")


def _stacked(fused: set[str], tables: Sequence[Table]) -> set[str]:
    """The fused methods where their verdict needs heads of folds, too."""
    return fused if fold_count(Splits(tables[0], tables[1], None)) else set()


def train_heads(methods: list[str], run: TrainingRun, options: Mapping[str, object] | None = None) -> dict[str, Path]:
    """Train the named methods, then fit the verdict over all heads that are present. Returns method → head file.

    options: method → what its `fit` reads from `Training.options`.
    """
    backbone = Backbone.load(run.backbone, run.device)
    methods = suited(methods, backbone)
    present = set(run.present(backbone))
    splits = split_tables(run, backbone, set(methods), set(methods) | present)
    paths = {}
    for method in methods:
        training = Training(backbone, run.seed, (options or {}).get(method))
        paths[method], splits = train_head(method, run, training, splits)
    paths["reference"] = run.folder("reference", backbone) / "reference.safetensors"
    card = card_of(Fit("reference"), run, backbone, splits.counts)
    save_head(paths["reference"], reference_of(splits.val.originals()).tensors(), card)
    paths["verdict"] = fit_verdict(run, Training(backbone, run.seed), splits, paths, fold_options(options or {}))
    return paths


def suited(methods: list[str], backbone: Backbone) -> list[str]:
    """The methods that the backbone can train; the others are named on stderr. HeadError where none is left."""
    reasons: dict[str, HeadError] = {}
    for method in methods:
        try:
            require_suited(method, backbone)
        except HeadError as error:
            reasons[method] = error
    if methods and len(reasons) == len(methods):
        raise next(iter(reasons.values()))
    for reason in reasons.values():
        print(reason, file=sys.stderr)
    return [method for method in methods if method not in reasons]


def train_head(method: str, run: TrainingRun, training: Training, splits: Splits) -> tuple[Path, Splits]:
    """Train and calibrate one head, and write its file. Returns the file, and the tables with what its scores took."""
    backbone = training.backbone
    fitted = METHODS[method].fitter()(splits.training_table(method), splits.val.originals(), training)
    splits = replace(splits, val=windowed(splits.val, fitted.head, run.cache, "val"))
    originals = splits.val.originals()
    head = calibrated(fitted.head, originals, backbone)
    metrics = measured(logits_of(head, originals, backbone), originals.labels)
    fit = Fit(method, fitted.details, metrics, splits.photographs_in_words(method))
    path = run.folder(method, backbone) / f"{method}.safetensors"
    save_head(path, head.tensors(), card_of(fit, run, backbone, splits.counts))
    return path, splits


def reference_of(val: Table, captions: int = 200, seed: int = 0) -> Reference:
    """The validation images, and as embeddings `captions` of their captions, drawn at random: half of real, half of synthetic images."""
    clip, alignment = val.evidence.clip, val.evidence.alignment
    texts = alignment.caption[caption_rows(val.labels, alignment.usable.numpy(), captions, seed)] if alignment else clip.projected[:0]
    return Reference(clip.pooled, clip.projected, torch.as_tensor(val.labels), texts)


def caption_rows(labels: np.ndarray, usable: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` places with a usable caption, or fewer where there are none left, as many of each class; the same for the same seed."""
    generator = np.random.default_rng(seed)
    each = min(count // 2, *(int(((labels == label) & usable).sum()) for label in (0, 1)))
    return np.sort(np.concatenate([generator.permutation(np.flatnonzero((labels == label) & usable))[:each] for label in (0, 1)]))


@dataclass(frozen=True)
class Logits:
    """Of the images that the verdict is fitted on. logits: method → (N,); labels: (N,); views: rows of an image; sources: (N,) names, None
    where the heads saw the images' sources."""

    logits: dict[str, np.ndarray]
    labels: np.ndarray
    views: int
    sources: np.ndarray | None = None

    def fusion(self) -> Fusion:
        """The verdict on them."""
        return Fusion.fit(self.logits, self.labels, self.views, sources=self.sources)


def validation_logits(heads: Mapping[str, Any], splits: Splits, run: TrainingRun, backbone: Backbone) -> Logits:
    """Of `val` and its copies, for data with too few sources to leave some out. heads: method → head."""
    val, logits = splits.val, {}
    for method, head in heads.items():
        val = windowed(val, head, run.cache, "val")
        logits[method] = logits_of(head, val, backbone)
    return Logits(logits, val.labels, int(val.copy.max()) + 1)


def fit_verdict(run: TrainingRun, training: Training, splits: Splits, written: Mapping[str, Path], options: Mapping[str, Any]) -> Path:
    """Fuse the heads just written and those of `run.present`.

    On out-of-source logits of all images where there are sources enough, else on those of `val`. written: method → head file. options: see
    `train_heads`. Returns the verdict's file.
    """
    backbone = training.backbone
    paths = run.present(backbone) | dict(written)
    heads = {method: read_head(paths[method], method, backbone) for method in sorted(set(paths) & set(METHODS))}
    if fold_count(splits):
        logits = stacked_logits(list(heads), run, training, splits, options)
    else:
        logits = validation_logits({method: head for method, (head, _) in heads.items()}, splits, run, backbone)
    fusion = logits.fusion()
    fused = fusion.fuse({method: fusion.logits[:, i] for i, method in enumerate(fusion.methods)})
    metrics = measured(fused[fusion.originals], logits.labels[fusion.originals])
    if logits.sources is not None:
        metrics = {"auroc_out_of_source": metrics["auroc_val"]}
    details = {"heads": {method: card.digest for method, (_, card) in heads.items()}}
    path = run.folder("verdict", backbone) / "verdict.safetensors"
    save_head(path, fusion.tensors(), card_of(Fit("verdict", details, metrics), run, backbone, splits.counts))
    return path


def stacked_logits(methods: list[str], run: TrainingRun, training: Training, splits: Splits, options: Mapping[str, Any]) -> Logits:
    """Out-of-source logits of the images of both splits; kept in the cache folder, a file a method. A fold of which a given file holds no
    logit is left out, and named on stderr."""
    stack = stack_of(methods, run, training, splits, options)
    missing = {method: unscored_folds(stack, method) for method in run.given if method in stack.logits}
    for method, folds in missing.items():
        if folds:
            print(f"The verdict is fitted without {len(folds)} folds, of which {method} has no logits.", file=sys.stderr)
    rows = ~np.isin(stack.folds, [fold for folds in missing.values() for fold in folds])
    logits = {method: values[rows] for method, values in stack.logits.items()}
    return Logits(logits, stack.labels[rows], stack.views, stack.sources[rows])


def stack_of(methods: list[str], run: TrainingRun, training: Training, splits: Splits, options: Mapping[str, Any]) -> Stack:
    """As `out_of_source_logits`, with the methods that `run.given` has a file for read from it. The logits are written to the cache."""
    given = {method: read_logits(path, splits) for method, path in run.given.items()}
    count = fold_count(splits)
    if not count:
        raise DataError(f"'{run.name}' needs at least {FOLDS} sources of each class to leave some out; add sources.")
    stack = out_of_source_logits(methods, splits, training, options, given, count)
    if run.cache:
        write_logits(run.cache / "out-of-source", stack)
    return stack


def fold_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the heads of folds: SDD trains for two epochs on fewer windows, since it is slow, and writes no checkpoints."""
    sdd = options.get("sdd") or SddOptions()
    recipe = replace(sdd.recipe, epochs=min(sdd.recipe.epochs, 2), windows=min(sdd.recipe.windows, 4))
    return {**options, "sdd": replace(sdd, recipe=recipe, checkpoints=None, resume=False)}
