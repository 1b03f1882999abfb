"""How far do the figures of the shipped heads move with the seed of their training?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import Backbone
from detector.evaluation.evaluate import evaluation_splits
from detector.evaluation.studies.base import seed_range, spread
from detector.markdown import markdown_table
from detector.methods.base import Head
from detector.methods.calibration import logits_of
from detector.methods.registry import CAPTIONED, METHODS
from detector.methods.table import Table, Training
from detector.training.features import cached, captioned
from detector.training.train import TrainingRun, split_tables

DRAWN = ("linear_probe", "orthogonal", "concepts", "item", "physical_clip")  # start from random numbers; SDD has a study of its own


@dataclass(frozen=True)
class Folder:
    """A data DIR, the folder of cached features, and one of more photographs, see `TrainingRun`."""

    data: Path
    cache: Path | None
    photographs: Path | None = None


def folder(backbone: Backbone, data: Path, cache: Path | None) -> Folder:
    """The input of a data DIR; its features are measured with those of the others."""
    return Folder(data, cache)


def with_photographs(corpus: object, photographs: Path) -> Folder:
    """The input with a folder of more photographs. ValueError, one sentence, for the input of another study."""
    if not isinstance(corpus, Folder):
        raise ValueError("Only the study 'seeds' trains with more photographs; leave out --photographs.")
    return replace(corpus, photographs=photographs)


def seeds_study(folders: list[Folder], backbone: Backbone, seeds: int) -> dict:
    """Each method of DRAWN trained as `train` does on all folders together, with each seed; the random copies are those of seed 0."""
    first = folders[0]
    run = TrainingRun([each.data for each in folders], backbone.name, cache=first.cache, photographs=first.photographs)
    splits = split_tables(run, backbone, set(DRAWN), set(DRAWN))
    tests = tables_of_tests(run, backbone)
    rows = {}
    for method in DRAWN:
        train, val, fit = splits.training_table(method), splits.val.originals(), METHODS[method].fitter()
        heads = [fit(train, val, Training(backbone, seed)).head for seed in range(seeds)]
        rows[method] = {split: spread([auroc(head, table, backbone) for head in heads]) for split, table in tests.items()}
    return {"seeds": seeds, "rows": rows}


def auroc(head: Head, table: Table, backbone: Backbone) -> float:
    """Over all images; a picture that the head cannot read has logit 0."""
    return float(roc_auc_score(table.labels, np.nan_to_num(logits_of(head, table, backbone), nan=0.0)))


def tables_of_tests(run: TrainingRun, backbone: Backbone) -> dict[str, Table]:
    """Split → table, with captions where a method reads them."""
    tables = {}
    for split, examples in evaluation_splits(run.data).items():
        title = split.replace("/", "-")
        table = cached(backbone, examples, 0, 0, run.cache, title)
        tables[split] = captioned(table, backbone, 0, run.cache, title) if set(DRAWN) & set(CAPTIONED) else table
    return tables


def seeds_report(result: dict) -> str:
    """AUROC of each method and split with its range over seeds."""
    splits = list(next(iter(result["rows"].values())))
    lines = ([method, *(seed_range(row[split]) for split in splits)] for method, row in result["rows"].items())
    table = markdown_table(["method", *(f"{split} AUROC" for split in splits)], lines)
    words = f"Mean and range over {result['seeds']} seeds of the training; images and random copies are the same. "
    return f"{words}`residual` and `physical` are convex fits, which no seed changes; `sdd` has its own study.\n\n{table}"
