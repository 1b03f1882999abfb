"""Figures for parts of a split: by what the pictures show, by their size, and on images matched in their file facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from detector.clip.backbone import Backbone
from detector.data.datasets import photo_of
from detector.evaluation.audit import matched, matching_warnings
from detector.evaluation.audit_facts import NAMES, Facts, content_facts, kinds_of, pixel_facts
from detector.evaluation.groups import CONTENT, KINDS, SIZES, size_of
from detector.evaluation.matching import matched_weights, weighted_auroc
from detector.methods.table import Table
from detector.progress import progress

FEWEST = 10  # images of each class for an AUROC (choice)


def table_facts(table: Table, backbone: Backbone) -> Facts:
    """The file facts of a table's images; the content comes from the features at hand."""
    pixels = [pixel_facts(photo_of(example)) for example in progress(table.pictures.examples, len(table.labels), "facts")]
    return Facts(np.column_stack([pixels, content_facts(table.evidence.clip.projected, backbone)]), table.labels, table.sources)


def _kinds(facts: Facts) -> np.ndarray:
    return kinds_of(facts.values[:, [NAMES.index(f"content: {word}") for word in CONTENT]])


def _sizes(facts: Facts) -> np.ndarray:
    return np.array([size_of(side) for side in facts.values[:, NAMES.index("long side")]])


def subgroups(facts: Facts, logits: np.ndarray, decide: Callable[[np.ndarray, np.ndarray], dict] | None = None) -> dict[str, dict]:
    """Kind or size → `images` (real, synthetic), `auroc` with `auroc_95` where both classes have `FEWEST` images, and for the verdict what
    `decide` gives of labels and logits, likewise. Groups without images are left out."""
    result: dict[str, dict] = {}
    for names, groups in ((list(KINDS), _kinds(facts)), ([name for _, name in SIZES], _sizes(facts))):
        for name in names:
            rows = groups == name
            counts = [int((facts.labels[rows] == label).sum()) for label in (0, 1)]
            if sum(counts):
                known = min(counts) >= FEWEST
                measures = dict(weighted_auroc(logits[rows], facts.labels[rows])) if known else {}
                result[name] = {"images": counts, **measures, **(decide(facts.labels[rows], logits[rows]) if decide and known else {})}
    return result


def matched_figures(facts: Facts, logits: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """Method → AUROC with interval on the images matched in their file facts by overlap weights, which `effective` images (real, synthetic)
    are worth; {} where the classes cannot be matched."""
    matching = matched(facts)
    if matching_warnings(matching):
        return {}
    weights = matched_weights(facts.numbers(), facts.labels)
    return {
        method: dict(weighted_auroc(values, facts.labels, weights)) | {"effective": matching["effective"]}
        for method, values in logits.items()
    }
