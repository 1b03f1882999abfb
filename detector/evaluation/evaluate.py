"""Measures of every method and of the verdict on each split of a labelled folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detector.data.datasets import DataError, Example, read_datasets
from detector.evaluation.metrics import at_threshold, by_source, decisions, false_alarms, mean_ap, measures, reliability
from detector.evaluation.subgroups import matched_figures, subgroups, table_facts
from detector.methods.base import Evidence
from detector.methods.registry import CAPTIONED
from detector.methods.table import Table
from detector.progress import progress
from detector.suite import Suite
from detector.training.features import cached, captioned, windowed, with_released


def evaluate(suite: Suite, data: Sequence[Path], cache: Path | None = None, splits: list[str] | None = None) -> dict:
    """Split → method → measures, for the splits of `evaluation_splits`. data: folders. cache: folder of cached features, None for none."""
    groups, results = evaluation_splits(data, splits), {}
    for split in progress(groups, title="splits"):
        table = feature_table(suite, groups[split], cache, split.replace("/", "-"))
        logits = all_logits(suite, table.evidence)
        parts = subgroup_figures(suite, table, logits)
        results[split] = {method: figures | parts[method] for method, figures in evaluate_table(suite, table, logits).items()}
    return results


def evaluation_splits(data: Sequence[Path], splits: list[str] | None = None) -> dict[str, list[Example]]:
    """Split → examples; with several folders "FOLDER/split", such as "web/test_seen". Without `splits`: every split of a folder whose name
    starts with `test`, else all images as "all".

    DataError, one sentence, if a split does not hold both classes.
    """
    groups: dict[str, list[Example]] = {}
    for example in read_datasets(data):
        groups.setdefault(_split_name(example, len(data) > 1), []).append(example)
    tests = [name for name in groups if name.rpartition("/")[2].startswith("test")]
    for split in splits or tests or list(groups):
        if {example.label for example in groups.get(split, [])} != {0, 1}:
            folders = " and ".join(folder.name for folder in data)
            raise DataError(f"The split '{split}' of '{folders}' needs images of both classes; there are {', '.join(groups)}.")
    return {split: groups[split] for split in splits or tests or list(groups)}


def _split_name(example: Example, with_corpus: bool) -> str:
    split = example.split or "all"
    return f"{example.corpus}/{split}" if with_corpus else split


def evaluate_table(suite: Suite, table: Table, logits: Mapping[str, np.ndarray]) -> dict:
    """All measures of every method and of the verdict on one split. logits: of `all_logits`."""
    result: dict[str, dict[str, dict]] = {
        method: {
            "overall": measures(table.labels, values),
            "sources": by_source(table.labels, table.sources, values),
            "real_sources": false_alarms(table.labels, table.sources, values),
        }
        for method, values in logits.items()
    }
    for method, values in logits.items():
        result[method]["overall"]["mean_ap_over_sources"] = mean_ap(table.labels, table.sources, values)
    for percent in (1, 5):
        for method, threshold in frozen_thresholds(suite, percent / 100).items():
            result[method]["overall"][f"frozen_at_{percent}_fpr"] = at_threshold(table.labels, logits[method], threshold)
    if suite.fusion:
        result["verdict"]["overall"] |= decisions(suite.fusion.band, table.labels, logits["verdict"])
    for method, values in logits.items():
        result[method]["reliability"] = reliability(table.labels, values)
    return result


def subgroup_figures(suite: Suite, table: Table, logits: Mapping[str, np.ndarray]) -> dict[str, dict[str, dict]]:
    """Method, and "verdict", → `subgroups` and `matched`, see `detector.evaluation.subgroups`. logits: of `all_logits`."""
    facts = table_facts(table, suite.backbone)
    decide = partial(decisions, suite.fusion.band) if suite.fusion else None
    matched = matched_figures(facts, logits)
    return {
        method: {"subgroups": subgroups(facts, values, decide if method == "verdict" else None), "matched": matched.get(method, {})}
        for method, values in logits.items()
    }


def frozen_thresholds(suite: Suite, false_positive_rate: float) -> dict[str, float]:
    """Method, and "verdict", → the lowest logit above which at most a share `false_positive_rate` of the real images lies that the verdict
    was fitted on.

    Their logits come from the verdict's file, so a method that the verdict does not read has no such threshold; {} without a verdict.
    Where sources were left out they are logits of the folds' heads, on Platt's scale like those of the head that is measured. With few
    real images a share of 1 % is coarse.
    """
    if suite.fusion is None:
        return {}
    logits = {method: suite.fusion.logits[:, i] for i, method in enumerate(suite.fusion.methods)}
    real = (suite.fusion.labels == 0) & suite.fusion.originals
    above = int(false_positive_rate * real.sum() + 1e-9)
    return {
        method: float(np.sort(values[real])[-1 - above]) for method, values in (logits | {"verdict": suite.fusion.fuse(logits)}).items()
    }


def feature_table(suite: Suite, examples: list[Example], cache: Path | None, title: str) -> Table:
    """The table of the examples without random copies, with everything that the suite's methods read."""
    table = cached(suite.backbone, examples, 0, 0, cache, title)
    if not suite.heads.keys().isdisjoint(CAPTIONED):
        table = captioned(table, suite.backbone, 0, cache, title)
    table = windowed(table, suite.heads.get("sdd"), cache, title)
    return with_released(table, suite.backbone, suite.released.heads, cache, title)


def all_logits(suite: Suite, evidence: Evidence) -> dict[str, np.ndarray]:
    """Method, and "verdict" first where there is one, → (N,) logits; 0 where a method has no answer."""
    raw = suite.logits(evidence)
    logits = {method: np.nan_to_num(values, nan=0.0) for method, values in raw.items()}
    return {"verdict": suite.fusion.fuse(raw), **logits} if suite.fusion else logits


def measured_on(suite: Suite) -> dict:
    """The weights that were measured: fingerprint of the backbone, and the digest of every head and of the verdict."""
    return {"backbone": suite.backbone.fingerprint, "heads": {method: card.digest for method, card in sorted(suite.cards.items())}}
