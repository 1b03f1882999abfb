"""Questions that a card should answer, each measured by one command: `python -m detector study NAME --data DIR`.

A study trains small heads on cached features with several seeds and reports them on the test splits; nothing is chosen there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from detector.backbone import Backbone
from detector.concepts import ConceptHead, concept_directions, fit_concepts
from detector.data import DataError, read_dataset, with_splits
from detector.format_study import format_report, format_study
from detector.orthogonal import correlations, fit_linear_probe, fit_orthogonal
from detector.physical_head import PhysicalHead
from detector.residual import ResidualHead
from detector.train import Table, cached

COPIES, FEATURE_SEED = 4, 0  # as `train` does, so that its cached features serve here
UNITS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Corpus:
    """The tables of one data DIR: `train` with random copies, `val`, and every split whose name begins with `test`.

    folder: the DIR itself, for studies that read its images; None for a made-up part of one.
    """

    name: str
    train: Table
    val: Table
    tests: dict[str, Table]
    folder: Path | None = None


def load_corpus(backbone: Backbone, data: Path, cache: Path | None) -> Corpus:
    """Features of every split. Where no split is named, the files are divided by a hash of their names."""
    examples = with_splits(read_dataset(data), test=True)
    splits = {name: [e for e in examples if e.split == name] for name in dict.fromkeys(e.split for e in examples)}
    for needed in ("train", "val"):
        if {e.label for e in splits.get(needed, [])} != {0, 1}:
            raise DataError(f"The split '{needed}' of '{data}' needs images of both classes.")
    tables = {name: cached(backbone, part, COPIES if name == "train" else 0, FEATURE_SEED, cache, name)
              for name, part in splits.items() if name in ("train", "val") or name.startswith("test")}
    return Corpus(data.name, tables.pop("train"), tables.pop("val"), tables, data)


def mean_ap(table: Table, logits: np.ndarray) -> float:
    """Mean over synthetic sources of the AP against all real images (own ones where a source has some)."""
    values = []
    for source in sorted(set(table.sources[table.labels == 1])):
        own = (table.sources == source) & (table.labels == 0)
        rows = ((table.sources == source) & (table.labels == 1)) | (own if own.any() else table.labels == 0)
        values.append(average_precision_score(table.labels[rows], logits[rows]))
    return float(np.mean(values))


def scores(head, table: Table) -> dict[str, float]:
    logits = np.asarray(head.score(table.evidence).logit)
    return {"auroc": float(roc_auc_score(table.labels, logits)), "map": mean_ap(table, logits)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, smallest and largest over seeds."""
    return {"mean": float(np.mean(values)), "low": float(np.min(values)), "high": float(np.max(values))}


def over_seeds(fit: Callable[[int], object], corpus: Corpus, seeds: int) -> tuple[list, dict]:
    """The heads of all seeds, and split → measure → spread."""
    heads = [fit(seed) for seed in range(seeds)]
    found = {split: [scores(head, table) for head in heads] for split, table in corpus.tests.items()}
    return heads, {split: {m: spread([row[m] for row in rows]) for m in ("auroc", "map")} for split, rows in found.items()}


def _range(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f}–{value['high']:.3f})"


def _table(rows: dict[str, dict], extra: dict[str, Callable[[dict], str]]) -> str:
    """Markdown: a row for each name; for each split AUROC and mAP with their range over seeds, then the extra columns."""
    splits = list(next(iter(rows.values()))["measures"])
    head = ["head", *(f"{split} {what}" for split in splits for what in ("AUROC", "mAP")), *extra]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        cells = [_range(row["measures"][split][m]) for split in splits for m in ("auroc", "map")]
        lines.append("| " + " | ".join([name, *cells, *(show(row) for show in extra.values())]) + " |")
    return "\n".join(lines)


# --- how many units ------------------------------------------------------------------------------------------------


def units_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """Orthogonal heads of 2, 4, 8 and 16 units beside the linear probe, and whether their axes come back with another seed.

    "axes": mean size of the correlation between matched units of two seeds over `val`; "boundary": correlation of the two
    logits. The paper reports that 2 to 16 units change mAP by at most 0.03.
    """
    corpus = corpora[0]
    train, val = corpus.train.pooled(), corpus.val.pooled()
    _, probe = over_seeds(lambda seed: fit_linear_probe(train, val, seed=seed), corpus, seeds)
    rows: dict[str, dict] = {"linear probe": {"measures": probe}}
    for units in UNITS:
        heads, measured = over_seeds(lambda seed, k=units: fit_orthogonal(train, val, units=k, seed=seed), corpus, seeds)
        rows[f"{units} units"] = {"measures": measured, **_stability(heads, val[0])}
    return {"seeds": seeds, "rows": rows}


def _stability(heads: list, pooled: torch.Tensor) -> dict[str, float]:
    """How alike two seeds' units and logits are over the same images, mean over pairs of seeds."""
    from scipy.optimize import linear_sum_assignment

    axes, boundary = [], []
    for first, second in ((a, b) for i, a in enumerate(heads) for b in heads[i + 1 :]):
        alike = np.abs(correlations(first.activations(pooled).numpy(), second.activations(pooled).numpy()))
        axes.append(alike[linear_sum_assignment(-alike)].mean())
        boundary.append(np.corrcoef(first.logits(pooled).numpy(), second.logits(pooled).numpy())[0, 1])
    return {"axes": float(np.mean(axes)), "boundary": float(np.mean(boundary))} if axes else {}


def units_report(result: dict) -> str:
    """The table, and in words the largest difference in mAP."""
    extra = {"same axes in another seed": lambda row: f"{row['axes']:.2f}" if "axes" in row else "–",
             "same logits": lambda row: f"{row['boundary']:.2f}" if "boundary" in row else "–"}
    rows = {name: row for name, row in result["rows"].items() if name != "linear probe"}
    gaps = {split: [row["measures"][split]["map"]["mean"] for row in rows.values()] for split in next(iter(rows.values()))["measures"]}
    words = "; ".join(f"{max(v) - min(v):.3f} on {split}" for split, v in gaps.items())
    return (f"Mean and range over {result['seeds']} seeds. Between 2 and 16 units the mean mAP differs by {words} "
            "(the paper: at most 0.03). *Same axes*: mean size of the correlation between matched units of two seeds on "
            "validation images; where it is low, a unit's name belongs to one training run and not to the task.\n\n"
            + _table(result["rows"], extra))


# --- the gated concept model ---------------------------------------------------------------------------------------


def concepts_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """The gated concept model beside the linear probe, and how sparse it is on `val` images."""
    corpus = corpora[0]
    train, val, directions = corpus.train.projected(), corpus.val.projected(), concept_directions(backbone)
    _, probe = over_seeds(lambda seed: fit_linear_probe(corpus.train.pooled(), corpus.val.pooled(), seed=seed), corpus, seeds)
    heads, gated = over_seeds(lambda seed: fit_concepts(train, val, directions, seed=seed), corpus, seeds)
    sparse = [sparsity(head, val[0]) for head in heads]
    return {"seeds": seeds, "concepts": len(directions), "sparsity": {name: spread([s[name] for s in sparse]) for name in sparse[0]},
            "rows": {"linear probe": {"measures": probe}, "concept model": {"measures": gated}}}


def sparsity(head: ConceptHead, projected: torch.Tensor) -> dict[str, float]:
    """"open": mean number of gates above one half in an image; "ever": concepts open in at least one image; "needed": mean
    number of concepts that make up 90 % of an image's summed absolute contributions."""
    gates, parts = head.gates(projected), head.contributions(projected).abs().sort(dim=1, descending=True).values
    share = parts.cumsum(1) / parts.sum(1, keepdim=True).clamp(min=1e-12)
    return {"open": float((gates > 0.5).float().sum(1).mean()), "ever": float((gates > 0.5).any(0).sum()),
            "needed": float((share < 0.9).sum(1).float().mean() + 1)}


def concepts_report(result: dict) -> str:
    sparse = {name: _range(value) for name, value in result["sparsity"].items()}
    return (f"Mean and range over {result['seeds']} seeds. Of {result['concepts']} gates {sparse['open']} are open (above one "
            f"half) in an image, {sparse['ever']} in at least one validation image; {sparse['needed']} concepts make up 90 % of "
            "an image's contributions.\n\n" + _table(result["rows"], {}))


# --- trained on one, tested on the other ---------------------------------------------------------------------------


def cross_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """Heads trained on each data set and tested on each. With one data set, its training generators are halved by name."""
    parts = corpora if len(corpora) > 1 else halves(corpora[0])
    fitters = cross_fitters(backbone)
    cells = {}
    for trained in parts:
        for method, fit in fitters.items():
            heads = [fit(trained, seed) for seed in range(seeds)]
            for tested in parts:
                for split, table in tested.tests.items():
                    found = [scores(head, table) for head in heads]
                    cells[f"{method}|{trained.name}|{tested.name} {split}"] = {m: spread([f[m] for f in found]) for m in ("auroc", "map")}
    return {"seeds": seeds, "sets": [part.name for part in parts], "cells": cells}


def cross_fitters(backbone: Backbone) -> dict[str, Callable[[Corpus, int], object]]:
    """Method → a function of (corpus, seed) that trains its head."""
    directions = concept_directions(backbone)

    def residual(corpus: Corpus, seed: int) -> ResidualHead:
        validation = (corpus.val.evidence.residual, corpus.val.labels)
        return ResidualHead.fit(corpus.train.evidence.residual, corpus.train.labels, seed=seed, validation=validation)

    def physical(corpus: Corpus, seed: int) -> PhysicalHead:
        plain = corpus.train.rows(corpus.train.copy == 0)
        reference = (plain.evidence.descriptors, plain.labels)
        return PhysicalHead.fit(corpus.train.evidence.descriptors, corpus.train.labels, reference)

    return {
        "linear probe": lambda c, seed: fit_linear_probe(c.train.pooled(), c.val.pooled(), seed=seed),
        "orthogonal": lambda c, seed: fit_orthogonal(c.train.pooled(), c.val.pooled(), seed=seed),
        "concepts": lambda c, seed: fit_concepts(c.train.projected(), c.val.projected(), directions, seed=seed),
        "physical": physical, "residual": residual,
    }


def halves(corpus: Corpus) -> list[Corpus]:
    """Two data sets from one: every second synthetic training source, by name, with all real images.

    Each half is tested on the test images of its own sources and of the other's; sources that `train` lacks are left out.
    """
    sources = sorted(set(corpus.train.sources[corpus.train.labels == 1]))
    parts = []
    for name, chosen in (("A", sources[::2]), ("B", sources[1::2])):
        def own(table: Table, chosen=tuple(chosen)) -> Table:
            return table.rows((table.labels == 0) | np.isin(table.sources, chosen))

        tests = {split: own(table) for split, table in corpus.tests.items() if np.isin(table.sources, chosen).any()}
        parts.append(Corpus(f"{name} ({', '.join(chosen)})", own(corpus.train), own(corpus.val), tests))
    return parts


def cross_report(result: dict) -> str:
    """A table for each method: rows trained on, columns tested on; AUROC, mAP."""
    names = [cell.split("|") for cell in result["cells"]]
    methods, rows, columns = (list(dict.fromkeys(n[i] for n in names)) for i in range(3))
    parts = [f"AUROC / mAP, mean over {result['seeds']} seeds; rows: trained on, columns: tested on."]
    for method in methods:
        lines = [f"| {method} | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
        for row in rows:
            cells = [result["cells"][f"{method}|{row}|{column}"] for column in columns]
            lines.append(f"| {row} | " + " | ".join(f"{c['auroc']['mean']:.3f} / {c['map']['mean']:.3f}" for c in cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


@dataclass(frozen=True)
class Study:
    """run: (corpora, backbone, seeds) → plain numbers. report: those → Markdown. question: what it answers."""

    run: Callable[[list[Corpus], Backbone, int], dict]
    report: Callable[[dict], str]
    question: str


STUDIES = {
    "units": Study(units_study, units_report, "does the number of orthogonal units matter, and do they come back?"),
    "concepts": Study(concepts_study, concepts_report, "how good and how sparse is the gated concept model?"),
    "format": Study(lambda corpora, backbone, seeds: format_study(corpora[0].folder), format_report,
                    "how much of the descriptors' skill is file format?"),
    "cross": Study(cross_study, cross_report, "what is left on generators that no training image came from?"),
}
