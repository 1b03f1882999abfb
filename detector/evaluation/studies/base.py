"""Common parts of all studies: a data set's tables, scores over seeds, and the entry of a study.

A study trains small heads on cached features with several seeds and measures them on the test splits, where nothing is selected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, read_dataset, with_splits
from detector.evaluation.metrics import chance_map, mean_ap
from detector.markdown import markdown_table
from detector.methods.base import Evidence, Score, load_head
from detector.methods.registry import PIXEL_METHODS, find_heads
from detector.methods.table import Table
from detector.training.features import cached, captioned, windowed

COPIES, FEATURE_SEED = 4, 0  # as `train` does, so that its cached features serve here


class Scorer(Protocol):
    """What a study needs of a head."""

    def score(self, evidence: Evidence) -> Score: ...


@dataclass(frozen=True)
class Corpus:
    """The tables of one data DIR: `train` with random copies, `val`, and every split whose name begins with `test`.

    cache: the folder of cached features; None for a part of another corpus.
    """

    name: str
    train: Table
    val: Table
    tests: dict[str, Table]
    cache: Path | None = None


def load_corpus(backbone: Backbone, data: Path, cache: Path | None) -> Corpus:
    """Features of every split. Where no split is named, the files are divided by a hash of their names."""
    examples = with_splits(read_dataset(data), test=True)
    splits = {name: [e for e in examples if e.split == name] for name in dict.fromkeys(e.split for e in examples)}
    tests = [name for name in splits if name.startswith("test")]
    for split in ("train", "val", *(tests or ["test"])):
        if {e.label for e in splits.get(split, [])} != {0, 1}:
            raise DataError(f"The split '{split}' of '{data}' needs images of both classes.")
    tables = {
        name: cached(backbone, splits[name], COPIES if name == "train" else 0, FEATURE_SEED, cache, name)
        for name in ("train", "val", *tests)
    }
    return Corpus(data.name, tables.pop("train"), tables.pop("val"), tables, cache)


def data_folder(backbone: Backbone, data: Path, cache: Path | None) -> Path:
    """The data DIR itself, for studies that read no cached features."""
    return data


def captioned_tables(corpora: list[Corpus], backbone: Backbone) -> dict[str, Table]:
    """Split → table with captions, of the one data set."""
    corpus = only(corpora)
    tables = {"train": corpus.train, "val": corpus.val} | corpus.tests
    return {name: captioned(table, backbone, FEATURE_SEED, corpus.cache, name) for name, table in tables.items()}


def only(corpora: list[Corpus]) -> Corpus:
    """The one data set of a study that takes one. DataError for several."""
    if len(corpora) != 1:
        raise DataError("This study takes one data folder.")
    return corpora[0]


def scores(head: Scorer, table: Table) -> dict[str, float]:
    """AUROC over all images, and mAP: the mean over synthetic sources of the AP."""
    logits = np.asarray(head.score(table.evidence).logit)
    return {"auroc": float(roc_auc_score(table.labels, logits)), "map": mean_ap(table.labels, table.sources, logits)}


def chance(tables: dict[str, Table]) -> dict[str, float]:
    """Split → the mAP of random scores, 0 to 1."""
    return {name: chance_map(table.labels, table.sources) for name, table in tables.items()}


def chance_words(result: dict) -> str:
    """The values of `chance` in one sentence."""
    return "Chance alone has an mAP of " + ", ".join(f"{value:.3f} on {name}" for name, value in result["chance"].items()) + "."


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, smallest and largest over seeds."""
    return {"mean": float(np.mean(values)), "low": float(np.min(values)), "high": float(np.max(values))}


def over_seeds(fit: Callable[[int], Scorer], corpus: Corpus, seeds: int) -> tuple[list, dict]:
    """The heads of all seeds, and split → measure → spread."""
    heads = [fit(seed) for seed in range(seeds)]
    values = {split: [scores(head, windowed(table, head, corpus.cache, split)) for head in heads] for split, table in corpus.tests.items()}
    return heads, {split: {m: spread([row[m] for row in rows]) for m in ("auroc", "map")} for split, rows in values.items()}


def seed_range(value: dict[str, float], digits: int = 3) -> str:
    """A `spread` as "mean (low–high)"."""
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"


def heads_table(rows: dict[str, dict], extra: dict[str, Callable[[dict], str]]) -> str:
    """Markdown: a row for each name; for each split AUROC and mAP with their range over seeds, then the extra columns."""
    splits = list(next(iter(rows.values()))["measures"])
    head = ["head", *(f"{split} {what}" for split in splits for what in ("AUROC", "mAP")), *extra]
    lines = (
        [
            name,
            *(seed_range(row["measures"][split][m]) for split in splits for m in ("auroc", "map")),
            *(show(row) for show in extra.values()),
        ]
        for name, row in rows.items()
    )
    return markdown_table(head, lines)


@dataclass(frozen=True)
class Study:
    """run: (inputs, backbone, seeds) → plain numbers, an input for each data DIR. report: those numbers → Markdown. question: what it
    answers. load: (backbone, data, cache) → the input of a data DIR. reads: methods whose pixel features or shipped head it measures.

    A new study is an entry of STUDIES; the command line and the marks of the cards use its name.
    """

    run: Callable[[list, Backbone, int], dict]
    report: Callable[[dict], str]
    question: str
    load: Callable[[Backbone, Path, Path | None], object] = load_corpus
    reads: tuple[str, ...] = ()

    def measured_on(self, backbone: Backbone) -> dict:
        """The weights and features that it measures. A study trains its heads, so shipped heads count only where it reads them."""
        heads = {method: path for method, path in find_heads(backbone).items() if method in self.reads and method not in PIXEL_METHODS}
        return {
            "backbone": backbone.fingerprint,
            "heads": {method: load_head(path)[1].digest for method, path in heads.items()},
            "features": {method: version for method, version in PIXEL_METHODS.items() if method in self.reads},
        }
