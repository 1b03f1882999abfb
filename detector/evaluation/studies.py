"""Questions that a card should answer, each measured by one command: `python -m detector study NAME --data DIR`.

A study trains small heads on cached features with several seeds and reports them on the test splits; nothing is chosen there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, read_dataset, with_splits
from detector.devices import to_numpy
from detector.evaluation.caption_study import alignment_report, alignment_study, item_report, item_study, physical_clip_study
from detector.evaluation.format_study import format_report, format_study
from detector.evaluation.metrics import chance_map, mean_ap
from detector.methods.base import load_head
from detector.methods.concepts.head import ConceptHead, concept_directions, fit_concepts
from detector.methods.orthogonal.head import correlations, fit_linear_probe, fit_orthogonal
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical_clip.head import ablation_report
from detector.methods.registry import PIXEL_METHODS, find_heads, read_head
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddHead
from detector.methods.sdd.train import SHIPPED, SHIPPED_RECIPE, SddRecipe, fit_sdd, middle_window
from detector.training.train import Table, cached, captioned, sdd_teacher, windowed

COPIES, FEATURE_SEED = 4, 0  # as `train` does, so that its cached features serve here
UNITS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Corpus:
    """The tables of one data DIR: `train` with random copies, `val`, and every split whose name begins with `test`.

    folder: the DIR itself, for studies that read its images; cache: where measured features are kept. None for a made-up part.
    """

    name: str
    train: Table
    val: Table
    tests: dict[str, Table]
    folder: Path | None = None
    cache: Path | None = None


def load_corpus(backbone: Backbone, data: Path, cache: Path | None) -> Corpus:
    """Features of every split. Where no split is named, the files are divided by a hash of their names."""
    examples = with_splits(read_dataset(data), test=True)
    splits = {name: [e for e in examples if e.split == name] for name in dict.fromkeys(e.split for e in examples)}
    tests = [name for name in splits if name.startswith("test")]
    for needed in ("train", "val", *(tests or ["test"])):
        if {e.label for e in splits.get(needed, [])} != {0, 1}:
            raise DataError(f"The split '{needed}' of '{data}' needs images of both classes.")
    tables = {name: cached(backbone, splits[name], COPIES if name == "train" else 0, FEATURE_SEED, cache, name)
              for name in ("train", "val", *tests)}
    return Corpus(data.name, tables.pop("train"), tables.pop("val"), tables, data, cache)


def told(corpora: list[Corpus], backbone: Backbone) -> dict[str, Table]:
    """Split → table with captions, of the one data set."""
    corpus = only(corpora)
    tables = {"train": corpus.train, "val": corpus.val} | corpus.tests
    return {name: captioned(table, backbone, FEATURE_SEED, corpus.cache, name) for name, table in tables.items()}


def only(corpora: list[Corpus]) -> Corpus:
    """The one data set of a study that takes one. DataError for several."""
    if len(corpora) != 1:
        raise DataError("This study takes one data folder.")
    return corpora[0]


def scores(head, table: Table) -> dict[str, float]:
    """AUROC over all images, and mAP: the mean over synthetic sources of the AP."""
    logits = np.asarray(head.score(table.evidence).logit)
    return {"auroc": float(roc_auc_score(table.labels, logits)), "map": mean_ap(table.labels, table.sources, logits)}


def chance(tables: dict[str, Table]) -> dict[str, float]:
    """Split → the mAP of scores that know nothing."""
    return {name: chance_map(table.labels, table.sources) for name, table in tables.items()}


def _chance_words(result: dict) -> str:
    return "Chance alone has an mAP of " + ", ".join(f"{value:.3f} on {name}" for name, value in result["chance"].items()) + "."


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, smallest and largest over seeds."""
    return {"mean": float(np.mean(values)), "low": float(np.min(values)), "high": float(np.max(values))}


def over_seeds(fit: Callable[[int], object], corpus: Corpus, seeds: int) -> tuple[list, dict]:
    """The heads of all seeds, and split → measure → spread."""
    heads = [fit(seed) for seed in range(seeds)]
    found = {split: [scores(head, windowed(table, head, corpus.cache, split)) for head in heads] for split, table in corpus.tests.items()}
    return heads, {split: {m: spread([row[m] for row in rows]) for m in ("auroc", "map")} for split, rows in found.items()}


def _range(value: dict[str, float], digits: int = 3) -> str:
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"


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
    corpus = only(corpora)
    train, val = corpus.train.pooled(backbone.device), corpus.val.pooled(backbone.device)
    _, probe = over_seeds(lambda seed: fit_linear_probe(train, val, seed=seed), corpus, seeds)
    rows: dict[str, dict] = {"linear probe": {"measures": probe}}
    for units in UNITS:
        heads, measured = over_seeds(lambda seed, k=units: fit_orthogonal(train, val, units=k, seed=seed), corpus, seeds)
        rows[f"{units} units"] = {"measures": measured, **_stability(heads, corpus.val.evidence.clip.pooled)}
    return {"seeds": seeds, "chance": chance(corpus.tests), "rows": rows}


def _stability(heads: list, pooled: torch.Tensor) -> dict[str, float]:
    """How alike two seeds' units and logits are over the same images, mean over pairs of seeds."""
    from scipy.optimize import linear_sum_assignment

    axes, boundary = [], []
    for first, second in ((a, b) for i, a in enumerate(heads) for b in heads[i + 1 :]):
        alike = np.abs(correlations(to_numpy(first.activations(pooled)), to_numpy(second.activations(pooled))))
        axes.append(alike[linear_sum_assignment(-alike)].mean())
        boundary.append(np.corrcoef(to_numpy(first.logits(pooled)), to_numpy(second.logits(pooled)))[0, 1])
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
            f"validation images; where it is low, a unit's name belongs to one training run and not to the task. "
            f"{_chance_words(result)}\n\n" + _table(result["rows"], extra))


# --- the gated concept model ---------------------------------------------------------------------------------------


def concepts_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """The gated concept model beside the linear probe, and how sparse it is on `val` images."""
    corpus = only(corpora)
    device, directions = backbone.device, concept_directions(backbone)
    train, val = corpus.train.projected(device), corpus.val.projected(device)
    pooled = corpus.train.pooled(device), corpus.val.pooled(device)
    _, probe = over_seeds(lambda seed: fit_linear_probe(*pooled, seed=seed), corpus, seeds)
    heads, gated = over_seeds(lambda seed: fit_concepts(train, val, directions, seed=seed), corpus, seeds)
    sparse = [sparsity(head, corpus.val.evidence.clip.projected) for head in heads]
    return {"seeds": seeds, "chance": chance(corpus.tests), "concepts": len(directions),
            "sparsity": {name: spread([s[name] for s in sparse]) for name in sparse[0]},
            "rows": {"linear probe": {"measures": probe}, "concept model": {"measures": gated}}}


def sparsity(head: ConceptHead, projected: torch.Tensor) -> dict[str, float]:
    """How few concepts speak, over the images whose projected features (B, E) are given.

    "above_half", "above_tenth": mean number of gates above 0.5 and 0.1 in an image. "ever": share, 0 to 1, of all concepts whose
    gate is above 0.5 in at least one image. "needed": mean number of concepts that make up 90 % of an image's summed absolute
    contributions, the largest first.
    """
    gates, parts = head.gates(projected), head.contributions(projected).abs().sort(dim=1, descending=True).values
    short = parts.cumsum(1) < 0.9 * parts.sum(1, keepdim=True)
    return {"above_half": float((gates > 0.5).float().sum(1).mean()), "above_tenth": float((gates > 0.1).float().sum(1).mean()),
            "ever": float((gates > 0.5).any(0).float().mean()), "needed": float((short.sum(1) + 1).float().mean())}


def concepts_report(result: dict) -> str:
    """In words how sparse the gates are, then the table."""
    half, tenth, needed = (_range(result["sparsity"][name], 1) for name in ("above_half", "above_tenth", "needed"))
    ever = result["sparsity"]["ever"]
    return (f"Mean and range over {result['seeds']} seeds. Of {result['concepts']} gates {half} are above 0.5 in a validation image "
            f"and {tenth} above 0.1; {ever['mean']:.0%} ({ever['low']:.0%}–{ever['high']:.0%}) of the concepts have a gate above 0.5 "
            f"in at least one; {needed} concepts make up 90 % of an image's contributions. "
            f"{_chance_words(result)}\n\n" + _table(result["rows"], {}))


# --- trained on one, tested on the other ---------------------------------------------------------------------------


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
    cells = [{"method": method, "trained": part.name, "tested": column, **measured}
             for method, fit in cross_fitters(backbone).items() for part in parts
             for column, measured in _tested([fit(part, seed) for seed in range(seeds)], columns).items()]
    return {"seeds": seeds, "divided": len(corpora) == 1, "chance": chance(columns),
            "sets": {part.name: synthetic_sources(part.train) for part in parts},
            "tested": {name: [int((t.labels == 0).sum()), int((t.labels == 1).sum())] for name, t in columns.items()}, "cells": cells}


def _tested(heads: list, columns: dict[str, Table]) -> dict[str, dict]:
    """Column → AUROC and mAP, each as `spread` over the heads."""
    found = {name: [scores(head, table) for head in heads] for name, table in columns.items()}
    return {name: {m: spread([row[m] for row in rows]) for m in ("auroc", "map")} for name, rows in found.items()}


def synthetic_sources(table: Table) -> list[str]:
    """Names of the synthetic sources, sorted."""
    return [str(source) for source in sorted(set(table.sources[table.labels == 1]))]


def foreign_tests(corpus: Corpus) -> dict[str, Table]:
    """The test splits in which no image comes from a generator of `train`."""
    known = synthetic_sources(corpus.train)
    return {split: table for split, table in corpus.tests.items() if not np.isin(synthetic_sources(table), known).any()}


def cross_fitters(backbone: Backbone) -> dict[str, Callable[[Corpus, int], object]]:
    """Method → a function of (corpus, seed) that trains its head."""
    device, directions = backbone.device, concept_directions(backbone)

    def residual(corpus: Corpus, seed: int) -> ResidualHead:
        validation = (corpus.val.evidence.residual, corpus.val.labels)
        return ResidualHead.fit(corpus.train.evidence.residual, corpus.train.labels, seed=seed, validation=validation)

    def physical(corpus: Corpus, seed: int) -> PhysicalHead:
        plain = corpus.train.rows(corpus.train.copy == 0)
        reference = (plain.evidence.descriptors, plain.labels)
        return PhysicalHead.fit(corpus.train.evidence.descriptors, corpus.train.labels, reference)

    return {
        "linear probe": lambda c, seed: fit_linear_probe(c.train.pooled(device), c.val.pooled(device), seed=seed),
        "orthogonal": lambda c, seed: fit_orthogonal(c.train.pooled(device), c.val.pooled(device), seed=seed),
        "concepts": lambda c, seed: fit_concepts(c.train.projected(device), c.val.projected(device), directions, seed=seed),
        "physical": physical, "residual": residual,
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
    cut = int(np.argmin(np.abs(before - (corpus.train.labels == 1).sum() / 2))) + 1
    return [_restricted(corpus, name, chosen) for name, chosen in (("A", sources[:cut]), ("B", sources[cut:]))]


def _restricted(corpus: Corpus, name: str, chosen: list[str]) -> Corpus:
    """The corpus without the other synthetic sources."""

    def own(table: Table) -> Table:
        return table.rows((table.labels == 0) | np.isin(table.sources, chosen))

    tests = {split: own(table) for split, table in corpus.tests.items() if np.isin(synthetic_sources(table), chosen).any()}
    part = Corpus(name, own(corpus.train), own(corpus.val), tests)
    if not (part.val.labels == 1).any():
        raise DataError(f"'val' has no image of the sources {', '.join(chosen)}.")
    return part


def cross_report(result: dict) -> str:
    """A table for each method: rows trained on, columns tested on; AUROC, mAP."""
    cells = {(c["method"], c["trained"], c["tested"]): f"{c['auroc']['mean']:.3f} / {c['map']['mean']:.3f}" for c in result["cells"]}
    parts = [_cross_words(result)]
    for method in dict.fromkeys(method for method, _, _ in cells):
        lines = [f"| {method} | " + " | ".join(result["tested"]) + " |", "|" + "---|" * (len(result["tested"]) + 1)]
        for trained in result["sets"]:
            row = (cells[method, trained, column] for column in result["tested"])
            lines.append(f"| trained on {trained} | " + " | ".join(row) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cross_words(result: dict) -> str:
    """What the tables hold, which generators each set has, and how many images each column rests on."""
    counts = "; ".join(f"{name}: {real} real, {synthetic} synthetic" for name, (real, synthetic) in result["tested"].items())
    words = f"AUROC / mAP, mean over {result['seeds']} seeds. Columns: tested on ({counts}). {_chance_words(result)}"
    if not result["divided"]:
        return words
    sets = "; ".join(f"{name}: {', '.join(sources)}" for name, sources in result["sets"].items())
    return (f"{words} One data set, its training generators divided by name ({sets}); both halves share the real images, so only "
            "the change of generator is measured, not that of photographs.")


# --- what each part of SDD is worth --------------------------------------------------------------------------------

ABLATION = {"all": {}, "without STS": {"use_sts": False}, "without CFDL": {"use_cfdl": False},
            "without the enhancer": {"use_enhancer": False}}
ABLATION_RECIPE = replace(SHIPPED_RECIPE, epochs=2)  # short, because there are twelve trainings
ABLATION_CHECKPOINTS = Path("checkpoints/sdd-study")


def sdd_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """The shipped recipe over seeds, and Table 4 of arXiv 2508.12341 on our data: all of SDD and without each of its parts, for a
    shorter time.

    The trainings of a seed share the enhancer's own. What was trained before is taken from its checkpoint.
    """
    corpus = only(corpora)
    trainings = {"as shipped": ({}, SHIPPED_RECIPE)} | {name: (change, ABLATION_RECIPE) for name, change in ABLATION.items()}
    rows = {name: {"epochs": recipe.epochs, "measures": over_seeds(partial(_trained, corpus, backbone, change, recipe), corpus, seeds)[1]}
            for name, (change, recipe) in trainings.items()}
    return {"seeds": seeds, "chance": chance(corpus.tests), "rows": rows, "streams": streams(corpus, backbone)}


def streams(corpus: Corpus, backbone: Backbone) -> dict[str, dict[str, float]]:
    """Which half of the shipped head's classifier carries the signal: split → "both", "CLS token", "enhancer" → AUROC.

    One window in the middle of each image; a half left out is replaced by its mean over `val`. {} where there is no head.
    """
    path = find_heads(backbone.name).get("sdd")
    if path is None:
        return {}
    head, _ = read_head(path, "sdd", backbone)
    parts = {name: _halves_of(head, table) for name, table in {"val": corpus.val, **corpus.tests}.items()}
    typical = [half.mean(0, keepdim=True) for half in parts["val"]]
    found = {}
    for split, table in corpus.tests.items():
        token, summary = parts[split]
        chosen = {"both": (token, summary), "CLS token": (token, typical[1].expand_as(summary)),
                  "enhancer": (typical[0].expand_as(token), summary)}
        found[split] = {name: float(roc_auc_score(table.labels, to_numpy(head.model.classify(torch.cat(pair, 1))[:, 0])))
                        for name, pair in chosen.items()}
    return found


@torch.inference_mode()
def _halves_of(head: SddHead, table: Table) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) CLS tokens and (N, 256) summaries of the enhancer, of the middle window of each image."""
    outputs = [head.model(head.prepare([middle_window(pixels, head.size)])) for pixels in table.evidence.pixels]
    return torch.cat([out.tokens[:, 0] for out in outputs]), torch.cat([out.features for out in outputs])


def _trained(corpus: Corpus, backbone: Backbone, change: dict[str, bool], recipe: SddRecipe, seed: int) -> SddHead:
    own, parts = backbone.fingerprint[:8], [table.pictures.originals() for table in (corpus.train, corpus.val)]
    checkpoint = ABLATION_CHECKPOINTS / f"{'-'.join([own, str(recipe.epochs), *change, str(seed)])}.pt"
    teacher = partial(sdd_teacher, corpus.train, corpus.val, backbone, seed)
    return fit_sdd(*parts, backbone, replace(SHIPPED, **change), recipe, seed, checkpoint, True, teacher,
                   ABLATION_CHECKPOINTS / f"{own}-enhancer-{seed}.pt").head


def sdd_report(result: dict) -> str:
    """In words how they were trained, then the table."""
    return (f"Mean and range over {result['seeds']} seeds. Every row but the first is trained for fewer epochs than the shipped head: "
            "these rows compare with one another. The enhancer's own training comes before and is shared by the rows of a seed. "
            f"{_chance_words(result)}\n\n" + _table(result["rows"], {"epochs": lambda row: str(row["epochs"])})
            + _streams_words(result["streams"]))


def _streams_words(found: dict[str, dict[str, float]]) -> str:
    if not found:
        return ""
    words = "; ".join(f"{split}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()) for split, row in found.items())
    return f"\n\nWhat each half of the shipped head's classifier reaches with the other held at its mean (AUROC, one window): {words}."


@dataclass(frozen=True)
class Study:
    """run: (corpora, backbone, seeds) → plain numbers. report: those → Markdown. question: what it answers. load: (backbone,
    data, cache) → what `run` takes one of for each data DIR. reads: methods whose pixel features or whose shipped head it measures.

    A new study is one more entry of STUDIES; the command line and the card's marks follow its name.
    """

    run: Callable[[list[Corpus], Backbone, int], dict]
    report: Callable[[dict], str]
    question: str
    load: Callable[[Backbone, Path, Path | None], object] = load_corpus
    reads: tuple[str, ...] = ()

    def measured_on(self, backbone: Backbone) -> dict:
        """Which weights and features its figures belong to. A study trains heads of its own, so no other head counts."""
        heads = {method: path for method, path in find_heads(backbone.name).items() if method in self.reads and method not in PIXEL_METHODS}
        return {"backbone": backbone.fingerprint, "heads": {method: load_head(path)[1].digest for method, path in heads.items()},
                "features": {method: version for method, version in PIXEL_METHODS.items() if method in self.reads}}


STUDIES = {
    "units": Study(units_study, units_report, "does the number of orthogonal units matter, and do they come back?"),
    "concepts": Study(concepts_study, concepts_report, "how good and how sparse is the gated concept model?"),
    "format": Study(lambda corpora, backbone, seeds: format_study(corpora[0].folder), format_report,
                    "how much of the descriptors' skill is file format?", reads=("physical",)),
    "alignment": Study(alignment_study, alignment_report, "do captions and boxes fit photographs?",
                       lambda backbone, data, cache: data),
    "item": Study(lambda corpora, backbone, seeds: item_study(told(corpora, backbone), backbone, seeds), item_report,
                  "what are the words worth to ITEM?"),
    "physical_clip": Study(lambda corpora, backbone, seeds: physical_clip_study(told(corpora, backbone), backbone, seeds),
                           ablation_report, "what is each part of image, caption and descriptors worth?", reads=("physical",)),
    "sdd": Study(sdd_study, sdd_report, "what is each part of SDD worth?", reads=("sdd",)),
    "cross": Study(cross_study, cross_report, "what is left on generators that no training image came from?",
                   reads=("physical", "residual")),
}
