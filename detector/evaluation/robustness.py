"""How well each method still tells real from synthetic after a picture was saved again, resized or blurred.

The same images are measured as they are and at every level of `detector.data.perturbations.CURVES`, both classes changed alike. The
images are a fixed random draw: `images` of each class and split (all, where there are fewer), by `seed`. The levels and the
draw: choice, ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from detector.data.datasets import DataError, Example, views
from detector.data.perturbations import AS_IS, CURVES, Variant
from detector.evaluation.evaluate import all_logits, auroc_interval, chosen_splits, verdict_measures
from detector.progress import progress
from detector.suite import Suite

IMAGES = 100  # of each class and split
BATCH = 16  # pictures in one pass


def drawn(examples: list[Example], images: int, seed: int) -> list[Example]:
    """At most `images` of each class, without replacement, in the order of the data; the same for the same seed."""
    generator, chosen = np.random.default_rng(seed), []
    for label in (0, 1):
        own = [example for example in examples if example.label == label]
        chosen += [own[i] for i in np.sort(generator.permutation(len(own))[:images])]
    return chosen


def scores(suite: Suite, examples: list[Example], variant: Variant) -> dict[str, np.ndarray]:
    """Method, and "verdict" where there is one, → (N,) logits of the changed pictures."""
    parts = [all_logits(suite, suite.evidence(pixels)) for pixels in _changed(examples, variant)]
    return {method: np.concatenate([part[method] for part in parts]) for method in parts[0]}


def _changed(examples: list[Example], variant: Variant) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(examples), BATCH):
        yield [_pixels(example, variant) for example in examples[start : start + BATCH]]


def _pixels(example: Example, variant: Variant) -> np.ndarray:
    pixels = views(example, copies=0, seed=0)[0]
    if not variant.fits(pixels):
        raise DataError(f"'{example.path}' has a side too long to be {variant.words}; leave it out.")
    return variant.apply(pixels)


def level(suite: Suite, labels: np.ndarray, logits: dict[str, np.ndarray]) -> dict[str, dict]:
    """Method → AUROC with its interval; for the verdict also what it decides (`verdict_measures`)."""
    found = {method: {"auroc": float(roc_auc_score(labels, values)), "auroc_95": list(auroc_interval(labels, values))}
             for method, values in logits.items()}
    if "verdict" in found:
        found["verdict"] |= verdict_measures(suite, labels, logits["verdict"])
    return found


def robustness(suite: Suite, data: Path, splits: list[str] | None = None, images: int = IMAGES, seed: int = 0) -> dict:
    """{"seed", "images": split → [real, synthetic], "splits": split → variant → method → measures}, "as it is" first.

    data, splits: as `evaluate` takes them. DataError, one sentence, if an image cannot be read or changed.
    """
    groups = {split: drawn(examples, images, seed) for split, examples in chosen_splits(data, splits).items()}
    variants = (AS_IS, *(variant for levels in CURVES.values() for variant in levels))
    found: dict[str, dict] = {split: {} for split in groups}
    for split, variant in progress([(s, v) for s in groups for v in variants], title="robustness"):
        labels = np.array([example.label for example in groups[split]])
        found[split][variant.name] = level(suite, labels, scores(suite, groups[split], variant))
    counts = {split: [sum(e.label == label for e in examples) for label in (0, 1)] for split, examples in groups.items()}
    return {"seed": seed, "images": counts, "splits": found}


# --- tables --------------------------------------------------------------------------------------------------------


def robustness_table(results: dict, split: str) -> str:
    """Markdown: AUROC of every method (columns) at every level (rows) of one split; the interval for the verdict."""
    levels = results["splits"][split]
    methods = list(next(iter(levels.values())))
    lines = ["| " + " | ".join([split, *methods]) + " |", "|" + "---|" * (len(methods) + 1)]
    for name, found in levels.items():
        lines.append("| " + " | ".join([name, *(_cell(method, found[method]) for method in methods)]) + " |")
    return "\n".join(lines)


def _cell(method: str, found: dict) -> str:
    return _interval(found) if method == "verdict" else f"{found['auroc']:.3f}"


def _interval(found: dict) -> str:
    low, high = found["auroc_95"]
    return f"{found['auroc']:.3f} ({low:.3f}–{high:.3f})"


def decision_table(results: dict) -> str:
    """Markdown: the verdict alone at every level, on every split; AUROC, and what it decides. '' without a verdict."""
    splits = results["splits"]
    if not all("verdict" in found for levels in splits.values() for found in levels.values()):
        return ""
    names = {"auroc": "AUROC", "coverage": "labelled", "real_called_synthetic": "real called synthetic",
             "synthetic_called_real": "synthetic called real"}
    lines = ["| image | " + " | ".join(f"{split} {text}" for split in splits for text in names.values()) + " |",
             "|---" * (1 + len(splits) * len(names)) + "|"]
    for name in next(iter(splits.values())):
        cells = [f"{splits[split][name]['verdict'][key]:{'.3f' if key == 'auroc' else '.0%'}}" for split in splits for key in names]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def images_sentence(results: dict) -> str:
    """Which images were measured."""
    counts = (f"{real} real and {synthetic} synthetic images of {split}" for split, (real, synthetic) in results["images"].items())
    return f"A fixed random draw (seed {results['seed']}): {', '.join(counts)}."


def worst_sentences(results: dict) -> str:
    """For each split the changes under which the verdict fares worst, each measure by itself. '' without a verdict."""
    parts = []
    for split, levels in results["splits"].items():
        if not all("verdict" in found for found in levels.values()):
            return ""
        verdicts = {name: found["verdict"] for name, found in levels.items()}
        start, lowest = verdicts[AS_IS.name], min(verdicts, key=lambda name: verdicts[name]["auroc"])
        parts.append(f"On {split} the verdict's AUROC is {start['auroc']:.3f} as it is and lowest for \"{lowest}\" "
                     f"({verdicts[lowest]['auroc']:.3f}); it calls real images synthetic most often for "
                     f"{_most(verdicts, 'real_called_synthetic')}, synthetic ones real for {_most(verdicts, 'synthetic_called_real')}.")
    return " ".join(parts)


def _most(verdicts: dict[str, dict], key: str) -> str:
    """The change with the largest share, that share, and the one of the images as they are."""
    name = max(verdicts, key=lambda level: verdicts[level][key])
    return f"\"{name}\" ({verdicts[name][key]:.0%}, as it is {verdicts[AS_IS.name][key]:.0%})"


def robustness_report(results: dict) -> str:
    """The text of the card: every method at every level, then what the verdict decides."""
    parts = [images_sentence(results)]
    parts += [f"AUROC, for the verdict with its 95 % interval:\n\n{robustness_table(results, split)}" for split in results["splits"]]
    if decided := decision_table(results):
        parts += ["What the verdict decides:\n\n" + decided, worst_sentences(results)]
    return "\n\n".join(parts)


def robustness_summary(results: dict) -> str:
    """The text of the README: the AUROC of the verdict alone, or of each split's first method where there is none."""
    splits = results["splits"]
    first = {split: next(iter(next(iter(levels.values())))) for split, levels in splits.items()}  # "verdict" comes first
    lines = ["| image | " + " | ".join(f"{split}, AUROC of {method} (95 %)" for split, method in first.items()) + " |",
             "|---" * (1 + len(splits)) + "|"]
    for name in next(iter(splits.values())):
        cells = [_interval(splits[split][name][method]) for split, method in first.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n\n".join(part for part in (images_sentence(results), "\n".join(lines), worst_sentences(results)) if part)


REPORTS = {"robustness": robustness_report, "robustness summary": robustness_summary}  # mark in a Markdown file → its text
