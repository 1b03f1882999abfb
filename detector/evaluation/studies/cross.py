"""How well do heads work on generators that no training image came from?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError
from detector.evaluation.studies.base import Corpus, chance, chance_words, only, scores, spread
from detector.markdown import markdown_table
from detector.methods.concepts.head import concept_directions
from detector.methods.concepts.train import fit_concepts
from detector.methods.orthogonal.train import fit_linear_probe, fit_orthogonal
from detector.methods.physical.head import PhysicalHead
from detector.methods.residual.head import ResidualHead
from detector.methods.table import Table


def cross_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """Heads trained on each data set and tested on the test splits of each.

    With one data set, its training generators are divided in two (`halves`); test splits that hold none of them come besides.
    "sets": data set → its synthetic training sources; "tested": column → numbers of real and synthetic images; "cells": one for
    each method, training set and column, AUROC and mAP over seeds.
    """
    parts = corpora if len(corpora) > 1 else halves(only(corpora))
    if len({part.name for part in parts}) < len(parts):
        raise DataError("Two of the data folders have the same name; rename one.")
    columns = {f"{part.name} {split}": table for part in parts for split, table in part.tests.items()}
    columns |= foreign_tests(corpora[0]) if len(corpora) == 1 else {}
    cells = [
        {"method": method, "trained": part.name, "tested": column, **figures}
        for method, fit in cross_fitters(backbone).items()
        for part in parts
        for column, figures in _scores_by_column([fit(part, seed) for seed in range(seeds)], columns).items()
    ]
    return {
        "seeds": seeds,
        "divided": len(corpora) == 1,
        "chance": chance(columns),
        "sets": {part.name: synthetic_sources(part.train) for part in parts},
        "tested": {name: [int((t.labels == 0).sum()), int((t.labels == 1).sum())] for name, t in columns.items()},
        "cells": cells,
    }


def _scores_by_column(heads: list, columns: dict[str, Table]) -> dict[str, dict]:
    """Column → AUROC and mAP, each as `spread` over the heads."""
    values = {name: [scores(head, table) for head in heads] for name, table in columns.items()}
    return {name: {m: spread([row[m] for row in rows]) for m in ("auroc", "map")} for name, rows in values.items()}


def synthetic_sources(table: Table) -> list[str]:
    """Names of the synthetic sources, sorted."""
    return [str(source) for source in sorted(set(table.sources[table.labels == 1]))]


def foreign_tests(corpus: Corpus) -> dict[str, Table]:
    """The test splits in which no image comes from a generator of `train`."""
    sources = synthetic_sources(corpus.train)
    return {split: table for split, table in corpus.tests.items() if not np.isin(synthetic_sources(table), sources).any()}


def cross_fitters(backbone: Backbone) -> dict[str, Callable[[Corpus, int], object]]:
    """Method → a function of (corpus, seed) that trains its head."""
    device, directions = backbone.device, concept_directions(backbone)

    def residual(corpus: Corpus, seed: int) -> ResidualHead:
        validation = (corpus.val.evidence.residual, corpus.val.labels)
        return ResidualHead.fit(corpus.train.evidence.residual, corpus.train.labels, validation)

    def physical(corpus: Corpus, seed: int) -> PhysicalHead:
        plain = corpus.train.rows(corpus.train.copy == 0)
        reference = (plain.evidence.descriptors, plain.labels)
        return PhysicalHead.fit(corpus.train.evidence.descriptors, corpus.train.labels, reference)

    return {
        "linear probe": lambda c, seed: fit_linear_probe(c.train.pooled(device), c.val.pooled(device), seed=seed),
        "orthogonal": lambda c, seed: fit_orthogonal(c.train.pooled(device), c.val.pooled(device), seed=seed),
        "concepts": lambda c, seed: fit_concepts(c.train.projected(device), c.val.projected(device), directions, seed=seed),
        "physical": physical,
        "residual": residual,
    }


def halves(corpus: Corpus) -> list[Corpus]:
    """Two data sets, A and B, from one: its synthetic training sources in the order of their names, cut where the number of
    training images is halved best; the real images stand in both.

    Names of one family begin alike as a rule, so that this order keeps families together. Each half has the test splits in which
    its sources occur, without the other's. DataError if there are fewer than two sources or a half lacks validation images.
    """
    sources = synthetic_sources(corpus.train)
    if len(sources) < 2:
        raise DataError("With one data folder this study needs at least two synthetic sources in 'train'.")
    before = np.cumsum([(corpus.train.sources == source).sum() for source in sources])[:-1]
    index = int(np.argmin(np.abs(before - (corpus.train.labels == 1).sum() / 2))) + 1
    return [_subset(corpus, name, names) for name, names in (("A", sources[:index]), ("B", sources[index:]))]


def _subset(corpus: Corpus, name: str, names: list[str]) -> Corpus:
    """The corpus without the other synthetic sources."""

    def rows_of(table: Table) -> Table:
        return table.rows((table.labels == 0) | np.isin(table.sources, names))

    tests = {split: rows_of(table) for split, table in corpus.tests.items() if np.isin(synthetic_sources(table), names).any()}
    part = Corpus(name, rows_of(corpus.train), rows_of(corpus.val), tests)
    if not (part.val.labels == 1).any():
        raise DataError(f"'val' has no image of the sources {', '.join(names)}.")
    return part


def cross_report(result: dict) -> str:
    """A table for each method: rows trained on, columns tested on; AUROC, mAP."""
    cells = {(c["method"], c["trained"], c["tested"]): f"{c['auroc']['mean']:.3f} / {c['map']['mean']:.3f}" for c in result["cells"]}
    parts = [_cross_words(result)]
    for method in dict.fromkeys(method for method, _, _ in cells):
        rows = ([f"trained on {trained}", *(cells[method, trained, column] for column in result["tested"])] for trained in result["sets"])
        parts.append(markdown_table([method, *result["tested"]], rows))
    return "\n\n".join(parts)


def _cross_words(result: dict) -> str:
    """What the tables hold, which generators each set has, and how many images each column rests on."""
    counts = "; ".join(f"{name}: {real} real, {synthetic} synthetic" for name, (real, synthetic) in result["tested"].items())
    words = f"AUROC / mAP, mean over {result['seeds']} seeds. Columns: tested on ({counts}). {chance_words(result)}"
    if not result["divided"]:
        return words
    sets = "; ".join(f"{name}: {', '.join(sources)}" for name, sources in result["sets"].items())
    return (
        f"{words} One data set, its training generators divided by name ({sets}); both halves share the real images, so only "
        "the change of generator is measured, not that of photographs."
    )
