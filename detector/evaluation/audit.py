"""Shortcut audit of labelled images: how well facts of the files alone tell real from synthetic images.

Where they do, a detector can reach a high AUROC on such images and know nothing of generators. Measured by logistic regression and by
gradient boosting, cross-validated twice: with random folds (what a detector can learn from these sources) and with folds that leave out
whole sources of both classes (what would carry over to other sources).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, Example, read_datasets
from detector.data.sources import random_folds
from detector.evaluation.audit_facts import GROUPS, NAMES, Facts, measure_facts
from detector.evaluation.fact_models import CLASSIFIERS, Scorer, boosting_scores, logistic_scores, out_of_fold, source_folds
from detector.evaluation.matching import Auroc, Resampling, auroc, effective_sizes, matched_weights, weighted_auroc
from detector.progress import progress

TELLING = 0.75  # AUROC from which a fact alone tells the classes apart (choice)
RESIDUAL = 0.6  # AUROC of the facts from which matching counts as failed (choice)
FEWEST = 20  # images of a class for an audit (choice)
FEWEST_OF_A_PAIR = 10  # images of each source for the AUROC of a pair (choice)
WORST_PAIRS = 10
SETS: dict[str, tuple[str, ...]] = {
    **GROUPS,
    "all but content": tuple(name for group, names in GROUPS.items() if group != "content" for name in names),
    "all": NAMES,
}


def audit_folders(folders: Sequence[Path], backbone: Backbone, split: str = "train") -> dict:
    """`audit` of one split of several data folders; images that belong to no split always count.

    DataError, one sentence, if a folder or an image cannot be read or a class has fewer than `FEWEST` images.
    """
    result = audit(measure_facts(_examples(folders, split), backbone))
    return {"data": [folder.name for folder in folders], "split": split, "measured_on": {"backbone": backbone.fingerprint}} | result


def _examples(folders: Sequence[Path], split: str) -> list[Example]:
    examples = read_datasets(folders)
    chosen = [example for example in examples if example.split in (split, "")]
    counts = [sum(example.label == label for example in chosen) for label in (0, 1)]
    if min(counts) < FEWEST:
        splits = ", ".join(dict.fromkeys(example.split for example in examples if example.split)) or "none"
        raise DataError(
            f"The split '{split}' holds {counts[0]} real and {counts[1]} synthetic images, and an audit needs {FEWEST} of each; "
            f"add images or name another split (there are: {splits})."
        )
    return chosen


def audit(facts: Facts) -> dict:
    """All measures as plain numbers: `images` and `sources` (real, synthetic), `facts`, `sets`, `pairs`, `worst_pairs`, `matched`,
    `telling` (`TELLING`), `warnings`. An AUROC above 0.5 means that higher values or scores speak for synthetic."""
    labels, sources = facts.labels, facts.sources
    single = {name: single_fact(facts, name) for name in progress(NAMES, title="single facts")}
    pairs, matching = pair_matrix(facts), matched(facts)
    return {
        "images": [int((labels == label).sum()) for label in (0, 1)],
        "sources": [len(set(sources[labels == label])) for label in (0, 1)],
        "facts": single,
        "sets": {name: fact_set(facts, names) for name, names in progress(SETS.items(), title="sets of facts")},
        "pairs": pairs,
        "worst_pairs": worst_pairs(pairs),
        "matched": matching,
        "telling": TELLING,
        "warnings": [*fact_warnings(single), *matching_warnings(matching)],
    }


# --- measures --------------------------------------------------------------------------------------------------------


def single_fact(facts: Facts, name: str) -> dict:
    """One fact: `median` (real, synthetic), `auroc` of the fact itself with `auroc_95`, over the images that have it, and
    `any_shape`: AUROC of cross-validated boosting on it alone, which also sees classes that differ in spread or in lacking it."""
    labels, values = facts.labels, facts.values[:, NAMES.index(name)]
    known = ~np.isnan(values)
    medians = [float(np.median(part)) if len(part) else None for label in (0, 1) for part in [values[known & (labels == label)]]]
    ranked = dict(weighted_auroc(values[known], labels[known])) if None not in medians else {}
    folds = random_folds(labels)
    scores = out_of_fold(values[:, None], labels, folds, boosting_scores)
    return {"median": medians, **ranked, "any_shape": auroc(scores, labels, folds=folds)}


def separation(fact: dict) -> float:
    """How well a single fact tells the classes apart, whatever its direction: an AUROC, 0.5 for not at all, 1 for always."""
    ranked = fact.get("auroc", 0.5)
    return max(ranked, 1 - ranked, fact["any_shape"])


def fact_set(facts: Facts, names: Sequence[str]) -> dict[str, dict[str, Auroc] | None]:
    """A set of facts: `images` (random folds, images drawn for the interval) and `sources` (folds of whole sources, sources drawn;
    None where there are too few), each with an AUROC and its interval for every classifier."""
    by_source = source_folds(facts.labels, facts.sources)
    return {
        "images": _skills(facts, names, random_folds(facts.labels), None),
        "sources": None if by_source is None else _skills(facts, names, by_source, facts.sources),
    }


def _skills(facts: Facts, names: Sequence[str], folds: np.ndarray, units: np.ndarray | None) -> dict[str, Auroc]:
    numbers = facts.numbers(names)

    def skill(scorer: Scorer) -> Auroc:
        scores = out_of_fold(numbers, facts.labels, folds, scorer)
        return weighted_auroc(scores, facts.labels, resampling=Resampling(folds, units))

    return {name: skill(scorer) for name, scorer in CLASSIFIERS.items()}


def pair_matrix(facts: Facts) -> dict[str, dict[str, float | None]]:
    """Real source → synthetic source → AUROC of cross-validated logistic regression on all facts; None where images are too few."""
    real, synthetic = (sorted(set(facts.sources[facts.labels == label])) for label in (0, 1))
    return {str(one): {str(other): _pair(facts, one, other) for other in synthetic} for one in progress(real, title="pairs")}


def _pair(facts: Facts, real: str, synthetic: str) -> float | None:
    pair = facts.rows(np.where(facts.labels == 0, facts.sources == real, facts.sources == synthetic))
    if np.bincount(pair.labels, minlength=2).min() < FEWEST_OF_A_PAIR:
        return None
    folds = random_folds(pair.labels)
    scores = out_of_fold(pair.numbers(), pair.labels, folds, logistic_scores)
    return auroc(scores, pair.labels, folds=folds)


def worst_pairs(pairs: dict[str, dict[str, float | None]]) -> list[tuple[str, str, float]]:
    """(real source, synthetic source, AUROC) of the pairs that file facts tell apart best, the highest AUROC first."""
    rows = [(real, synthetic, value) for real, row in pairs.items() for synthetic, value in row.items() if value is not None]
    return sorted(rows, key=lambda row: -row[2])[:WORST_PAIRS]


def matched(facts: Facts) -> dict:
    """What overlap weighting leaves: `effective` sizes (real, synthetic), and `before` and `after` it the `imbalance` of the facts."""
    numbers, labels = facts.numbers(), facts.labels
    weights = matched_weights(numbers, labels)
    return {
        "effective": list(effective_sizes(labels, weights)),
        "before": imbalance(facts, np.ones(len(labels))),
        "after": imbalance(facts, weights),
    }


def imbalance(facts: Facts, weights: np.ndarray) -> dict:
    """What the facts tell of weighted images: `worst_fact`, the fact whose weighted AUROC is furthest from 0.5, and its AUROC; for each
    classifier the weighted AUROC, cross-validated on other folds than `matched_weights` uses and trained without weights, as a detector
    is that has learned a shortcut."""
    numbers, labels, folds = facts.numbers(), facts.labels, random_folds(facts.labels, seed=1)
    single = {}
    for name, column in zip(NAMES, numbers.T, strict=True):
        known = ~np.isnan(column)
        if set(labels[known]) == {0, 1}:
            single[name] = auroc(column[known], labels[known], weights[known])
    worst = max(single, key=lambda name: abs(single[name] - 0.5))
    scores = {name: out_of_fold(numbers, labels, folds, scorer) for name, scorer in CLASSIFIERS.items()}
    skills = {name: weighted_auroc(values, labels, weights, Resampling(folds)) for name, values in scores.items()}
    return {"worst_fact": [worst, single[worst]], **skills}


def fact_warnings(single: dict[str, dict]) -> list[str]:
    """One sentence for each fact that alone tells the classes apart, the highest AUROC first."""
    telling = sorted((name for name in single if separation(single[name]) >= TELLING), key=lambda name: -separation(single[name]))
    return [
        f"The fact '{name}' alone tells the classes apart (AUROC {separation(single[name]):.2f}), so that a detector may rest on it: make "
        "the classes alike in it, or give the AUROC on the matched subset."
        for name in telling
    ]


def matching_warnings(matching: dict) -> list[str]:
    """One sentence where the weights leave too few images, or do not make the classes alike: their facts do not overlap then."""
    real, synthetic = matching["effective"]
    left = max((matching["after"][name] for name in CLASSIFIERS), key=lambda skill: skill["auroc"])
    if min(real, synthetic) >= FEWEST and not (left["auroc"] >= RESIDUAL and left["auroc_95"][0] > 0.5):
        return []
    return [
        f"The classes cannot be matched: after weighting, the set is worth {real:.0f} real and {synthetic:.0f} synthetic images, and the "
        f"facts still have an AUROC of {left['auroc']:.2f}; no AUROC on this subset is free of them."
    ]
