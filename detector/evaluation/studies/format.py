"""The format question: how much of the descriptors' skill is file format?

In many public sets real images are JPEG and synthetic ones PNG. Here the same interpretable model is trained and tested on
the images as they are (in our corpus, format-matched) and on copies in which every real image gets one more JPEG compression
and no synthetic one does. That is what such a set looks like to a descriptor; the copies are made by this evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from detector.data.augmentation import recompress
from detector.data.datasets import Example, read_dataset, with_splits
from detector.data.images import load_photo
from detector.evaluation.metrics import auroc_interval
from detector.markdown import markdown_table
from detector.methods.physical import features as physical
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical.selection import relations
from detector.progress import progress

QUALITY = (75, 95)  # of the one more JPEG compression, drawn for each image
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"fixed": physical.measure, "native": physical.describe}
CONDITIONS = ("matched", "reals JPEG, synthetics PNG")


def recompress_once(pixels: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8 after one JPEG compression whose quality is drawn from the file's name: the same at every run."""
    low, high = QUALITY
    quality = low + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % (high - low + 1)
    return recompress(pixels, ".jpg", quality)


def descriptors_by_condition(examples: list[Example], title: str) -> dict[str, dict[str, np.ndarray]]:
    """Scale → condition → (N, 15) descriptors of the examples."""

    def all_four(example: Example) -> list[np.ndarray]:
        plain = load_photo(example.path).pixels
        other = plain if example.label else recompress_once(plain, example.path.name)
        return [measure(pixels) for measure in SCALES.values() for pixels in (plain, other)]

    with ThreadPoolExecutor() as pool:
        rows = list(progress(pool.map(all_four, examples), len(examples), f"{title}: both formats"))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return {scale: dict(zip(CONDITIONS, columns[2 * i : 2 * i + 2], strict=True)) for i, scale in enumerate(SCALES)}


def format_study(data: Path) -> dict:
    """Trained and tested on each condition, at each scale, for every test split: AUROC with its 95 % bootstrap interval.

    Keys of "cells": split|scale|trained on|tested on; of "single": split|scale|condition; of "gain": split|scale, by how much the
    AUROC rises where the formats are apart, in training and test. "reading": the page's sentences.
    """
    examples = with_splits(read_dataset(data), test=True)
    splits = {name: [e for e in examples if e.split == name] for name in dict.fromkeys(e.split for e in examples)}
    tests = [name for name in splits if name.startswith("test")]
    values = {name: descriptors_by_condition(splits[name], name) for name in ("train", *tests)}
    labels = {name: np.array([e.label for e in splits[name]]) for name in values}
    cells, single, gain = {}, {}, {}
    for scale in SCALES:
        heads = {
            train_condition: PhysicalHead.fit(v, labels["train"], (v, labels["train"]))
            for train_condition, v in values["train"][scale].items()
        }
        for split in tests:
            for test_condition, v in values[split][scale].items():
                single[f"{split}|{scale}|{test_condition}"] = single_descriptors(v, labels[split])
                for train_condition, head in heads.items():
                    cells[f"{split}|{scale}|{train_condition}|{test_condition}"] = _auroc(labels[split], head.logits(v))
            logits = np.column_stack([head.logits(values[split][scale][condition]) for condition, head in heads.items()])
            gain[f"{split}|{scale}"] = paired_gain(labels[split], logits)
    result = {"images": sum(map(len, labels.values())), "cells": cells, "single": single, "gain": gain}
    return result | {"reading": format_reading(result)}


def _auroc(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    low, high = auroc_interval(labels, logits)
    return {"auroc": float(roc_auc_score(labels, logits)), "low": low, "high": high}


def paired_gain(labels: np.ndarray, logits: np.ndarray, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """(N, 2) logits of the same images → by how much the second AUROC exceeds the first, with its 95 % bootstrap interval.

    Both see the same draws, so the difference does not depend on how hard these images are.
    """
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    gains = []
    for _ in range(draws):
        rows = np.concatenate([generator.choice(members, len(members)) for members in classes])
        gains.append(np.diff(relations(logits[rows], labels[rows]))[0] / 2)
    low, high = np.percentile(gains, [2.5, 97.5])
    return {"gain": float(np.diff(relations(logits, labels))[0] / 2), "low": float(low), "high": float(high)}


def single_descriptors(values: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    """ "all": AUROC of each descriptor by itself, below 0.5 where a lower value speaks for synthetic. "descriptor" and "auroc": of the
    one farthest from 0.5. values: (N, 15); labels: (N,)."""
    areas = (relations(values, labels) + 1) / 2
    best = int(np.argmax(np.abs(areas - 0.5)))
    return {"descriptor": physical.NAMES[best], "auroc": float(areas[best]), "all": dict(zip(physical.NAMES, areas.tolist(), strict=True))}


def single_table(single: dict[str, dict]) -> str:
    """Markdown: AUROC of each descriptor by itself, matched → with the formats apart, for each split and scale."""
    places = list(dict.fromkeys(key.rpartition("|")[0] for key in single))
    head = ["descriptor alone, matched → apart", *(place.replace("|", ", ") for place in places)]
    return markdown_table(
        head,
        (
            [name, *(" → ".join(f"{single[f'{place}|{c}']['all'][name]:.2f}" for c in CONDITIONS) for place in places)]
            for name in physical.NAMES
        ),
    )


def format_report(result: dict) -> str:
    """Markdown: for each split and scale rows trained on, columns tested on; then every descriptor by itself."""
    rows = list(dict.fromkeys(tuple(key.split("|")[:3]) for key in result["cells"]))
    lines = []
    for row in rows:
        cells = (result["cells"]["|".join((*row, test_condition))] for test_condition in CONDITIONS)
        values = (f"{c['auroc']:.3f} ({c['low']:.3f}–{c['high']:.3f})" for c in cells)
        lines.append([*row, *values])
    table = markdown_table(["split", "scale", "trained on", *(f"tested on: {condition}" for condition in CONDITIONS)], lines)
    words = "; ".join(f"{key.replace('|', ', ')}: {s['descriptor']} {s['auroc']:.2f}" for key, s in result["single"].items())
    gains = "; ".join(
        f"{key.replace('|', ', ')}: {g['gain']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})" for key, g in result["gain"].items()
    )
    return "\n\n".join(
        [
            table,
            f"What formats apart add, on the same images: {gains}.",
            single_table(result["single"]),
            f"The strongest: {words}.",
            result["reading"],
        ]
    )


def format_reading(result: dict) -> str:
    """Two sentences for the page: what the same model reaches when formats differ, and when they are matched."""
    splits = list(dict.fromkeys(key.split("|")[0] for key in result["cells"]))

    def pair_of_figures(scale: str, split: str) -> str:
        apart, matched = (result["cells"][f"{split}|{scale}|{c}|{c}"]["auroc"] for c in reversed(CONDITIONS))
        return f"{apart:.2f} against {matched:.2f} on {split}"

    pairs = "; ".join(f"at {scale} scale " + ", ".join(pair_of_figures(scale, split) for split in splits) for scale in SCALES)
    return (
        f"A model on the same fifteen numbers reaches these AUROCs where real images are JPEG and synthetic ones PNG, against "
        f"where formats are matched: {pairs}. What lies between the two is compression, not generation."
    )
