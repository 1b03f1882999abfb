"""How well each method separates real from synthetic images that were saved again, resized or blurred.

The same images are measured as they are and at every level of `detector.data.perturbations.CURVES`, both classes changed alike. The
images are a fixed random draw: `images` of each class and split (all, where there are fewer), by `seed`. The levels and the
draw: choice, ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from detector.data.datasets import DataError, Example, views
from detector.data.perturbations import AS_IS, CURVES, Variant
from detector.evaluation.evaluate import all_logits, evaluation_splits
from detector.evaluation.metrics import auroc_interval, decisions
from detector.progress import progress
from detector.suite import Suite

IMAGES = 100  # of each class and split
BATCH = 16  # pictures in one pass


def sample(examples: list[Example], images: int, seed: int) -> list[Example]:
    """At most `images` of each class, without replacement, in the order of the data; the same for the same seed."""
    generator, subset = np.random.default_rng(seed), []
    for label in (0, 1):
        members = [example for example in examples if example.label == label]
        subset += [members[i] for i in np.sort(generator.permutation(len(members))[:images])]
    return subset


def scores(suite: Suite, examples: list[Example], variant: Variant) -> dict[str, np.ndarray]:
    """Method, and "verdict" where there is one, → (N,) logits of the changed pictures."""
    parts = [all_logits(suite, suite.evidence(pixels)) for pixels in _batches(examples, variant)]
    return {method: np.concatenate([part[method] for part in parts]) for method in parts[0]}


def _batches(examples: list[Example], variant: Variant) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(examples), BATCH):
        yield [_pixels(example, variant) for example in examples[start : start + BATCH]]


def _pixels(example: Example, variant: Variant) -> np.ndarray:
    pixels = views(example, copies=0, seed=0)[0]
    if not variant.fits(pixels):
        raise DataError(f"'{example.path}' has a side too long to be {variant.words}; leave it out.")
    return variant.apply(pixels)


def level_measures(suite: Suite, labels: np.ndarray, logits: dict[str, np.ndarray]) -> dict[str, dict]:
    """Method → AUROC with its interval; for the verdict also what it decides (`metrics.decisions`)."""
    result: dict[str, dict] = {
        method: {"auroc": float(roc_auc_score(labels, values)), "auroc_95": list(auroc_interval(labels, values))}
        for method, values in logits.items()
    }
    if suite.fusion:
        result["verdict"] |= decisions(suite.fusion.band, labels, logits["verdict"])
    return result


def robustness(suite: Suite, data: Sequence[Path], splits: list[str] | None = None, images: int = IMAGES, seed: int = 0) -> dict:
    """{"seed", "images": split → [real, synthetic], "splits": split → variant → method → measures}, "as it is" first.

    data, splits: as `evaluate` takes them. DataError, one sentence, if an image cannot be read or changed.
    """
    groups = {split: sample(examples, images, seed) for split, examples in evaluation_splits(data, splits).items()}
    variants = (AS_IS, *(variant for levels in CURVES.values() for variant in levels))
    levels: dict[str, dict] = {split: {} for split in groups}
    for split, variant in progress([(s, v) for s in groups for v in variants], title="robustness"):
        labels = np.array([example.label for example in groups[split]])
        levels[split][variant.name] = level_measures(suite, labels, scores(suite, groups[split], variant))
    counts = {split: [sum(e.label == label for e in examples) for label in (0, 1)] for split, examples in groups.items()}
    return {"seed": seed, "images": counts, "splits": levels}
