"""Calibrate the detectors of a backbone, own and released ones, on the user's images: Platt scaling, fusion, band, reference features.

Nothing is trained: the heads stay as they are. Images of a `test` split are never read; of a folder with a `val` split only that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.clip.backbone import Backbone
from detector.data.datasets import CLASS_NAMES, DataError, Example, read_datasets, select
from detector.detectors.names import PIXELS, DetectorError, DetectorName
from detector.methods.base import HeadCard, save_head
from detector.methods.registry import CAPTIONED, expected_card, home_folder, read_heads
from detector.methods.released import load_released
from detector.methods.table import Table
from detector.suite import Suite
from detector.training.features import cached, captioned, windowed, with_released
from detector.training.train import VAL_COPIES, TrainingRun, measured, reference_of
from detector.verdict.fusion import Fusion

MIN_OF_A_CLASS = 20  # images: below 9 the band has no edge at all, below 20 one image moves it much (choice)


@dataclass(frozen=True)
class Calibrated:
    """files: "verdict" and "reference" → file. fusion: what was fitted. left_out: detectors that read too few of the images."""

    files: dict[str, Path]
    fusion: Fusion
    left_out: tuple[str, ...]


def calibration_examples(data: Sequence[Path]) -> list[Example]:
    """The images of `val` where a folder has that split, else all but those of a `test` split. DataError, one sentence, where a
    class has too few of them."""
    examples = read_datasets(data)
    usable = select(examples, "val") or [example for example in examples if not example.split.startswith("test")]
    counts = [sum(example.label == label for example in usable) for label in (0, 1)]
    if min(counts) < MIN_OF_A_CLASS:
        numbers = " and ".join(f"{count} {name}" for count, name in zip(counts, CLASS_NAMES, strict=True))
        raise DataError(
            f"'{', '.join(map(str, data))}' holds {numbers} images to calibrate on, too few to know how often a label would be wrong; "
            f"use {MIN_OF_A_CLASS} or more of each class."
        )
    return usable


def calibrate(run: TrainingRun, names: Sequence[DetectorName] = ()) -> Calibrated:
    """Fit the verdict over all detectors that are at hand for `run.backbone`, or over the named ones of it, on the images of `run.data` and
    a random copy of each, and write it with the images' features. `run.copies` is not read.

    HeadError where no detector is at hand; DetectorError where a named one is not, or belongs to another backbone.
    """
    strangers = [str(name) for name in names if name.backbone not in (PIXELS, run.backbone)]
    if strangers:
        raise DetectorError(f"A verdict fuses detectors of one backbone; '{strangers[0]}' is on another one than '{run.backbone}'.")
    examples = calibration_examples(run.data)
    backbone = Backbone.load(run.backbone, run.device)
    heads, cards = read_heads(backbone)
    suite = Suite(backbone, heads, cards, released=load_released(backbone.name))
    suite = suite.led_by(names).only(names) if names else suite
    table = detector_table(suite, examples, run)
    logits = {name: detector.logits(table.evidence) for name, detector in suite.detectors.items()}
    readable = {name: values for name, values in logits.items() if reads_enough(values, table.labels)}
    fusion = Fusion.fit(readable, table.labels, VAL_COPIES + 1)
    fused = fusion.fuse({name: fusion.logits[:, i] for i, name in enumerate(fusion.methods)})
    details = {"heads": {name: suite.digests[name] for name in readable}}
    card = card_of("verdict", run, backbone, len(examples))
    metrics = measured(fused[fusion.originals], table.labels[fusion.originals])
    folder = run.out or home_folder(backbone)
    files = {name: folder / f"{name}.safetensors" for name in ("reference", "verdict")}
    save_head(files["reference"], reference_of(table.originals()).tensors(), card_of("reference", run, backbone, len(examples)))
    save_head(files["verdict"], fusion.tensors(), replace(card, details=details, metrics=metrics))
    return Calibrated(files, fusion, tuple(name for name in logits if name not in readable))


def reads_enough(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a detector has a logit for MIN_OF_A_CLASS rows of each class; logits: (N,), NaN where it has none."""
    return all(int(np.isfinite(logits[labels == label]).sum()) >= MIN_OF_A_CLASS for label in (0, 1))


def detector_table(suite: Suite, examples: list[Example], run: TrainingRun) -> Table:
    """The images and VAL_COPIES random copies of each, with all that the suite's detectors read."""
    backbone, title = suite.backbone, "calibration"
    table = cached(backbone, examples, VAL_COPIES, run.seed, run.cache, title)
    if not suite.heads.keys().isdisjoint(CAPTIONED):
        table = captioned(table, backbone, run.seed, run.cache, title)
    table = windowed(table, suite.heads.get("sdd"), run.cache, title)
    return with_released(table, backbone, suite.released.heads, run.cache, title)


def card_of(method: str, run: TrainingRun, backbone: Backbone, count: int) -> HeadCard:
    """The card of "verdict" or "reference" over `count` images."""
    return replace(
        expected_card(method, backbone),
        command=f"python -m detector calibrate --data DIR --seed {run.seed}",
        training_data=f"{run.name}: {count} images and {VAL_COPIES} random copy of each, for calibration alone",
    )
