"""A small set of images → a detector and what is to be said of it, in plain numbers and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from interpret.concept_use import ConceptUse, concepts_used
from interpret.render.text import method_name

if TYPE_CHECKING:
    from detector.clip.backbone import Backbone
    from detector.data.collections import ImageFile
    from detector.evaluation.matching import Auroc
    from detector.evaluation.shortcuts import Shortcuts
    from detector.suite import Suite
    from detector.training.small_sets import SmallSet, SmallTraining
    from detector.verdict.fusion import Fusion

Files = tuple[list["ImageFile"], list["ImageFile"]]  # of real and of synthetic images
Report = Callable[[int, int], None]  # (images so far, images in all)


@dataclass(frozen=True)
class TrainingReport:
    """images: the set. training: the detector. skill: cross-validated AUROC with a 95 % interval. shortcuts: what file facts tell.
    concepts: those that the detector uses most."""

    images: SmallSet
    training: SmallTraining
    skill: Auroc
    shortcuts: Shortcuts
    concepts: list[ConceptUse]


def train_detector(files: Files, method: str, backbone: Backbone, report: Report) -> TrainingReport:
    """Train, cross-validate and audit. report: see `Report`. DataError or HeadError, one sentence."""
    from detector.evaluation.audit_facts import Facts, content_facts, pixel_facts
    from detector.evaluation.matching import Resampling, weighted_auroc
    from detector.evaluation.shortcuts import shortcuts
    from detector.training.small_sets import measure_set, train_small

    images = measure_set(files, backbone, pixel_facts, report)
    content = content_facts(images.clip.projected, backbone) if backbone.reads_text else _no_content(len(images.labels))
    facts = shortcuts(Facts(np.column_stack([images.facts, content]), images.labels, images.sources))
    training = train_small(method, images, backbone)
    skill = weighted_auroc(training.logits, images.labels, resampling=Resampling(training.folds))
    metrics = {"auroc_cross_validated": round(skill["auroc"], 4), "auroc_95": skill["auroc_95"], "auroc_file_facts": facts.skill["auroc"]}
    training = replace(training, card=replace(training.card, metrics=metrics))
    return TrainingReport(images, training, skill, facts, concepts_used(training.head, images.clip, images.labels, backbone))


def _no_content(count: int) -> np.ndarray:
    from detector.evaluation.groups import CONTENT

    return np.full((count, len(CONTENT)), np.nan)


def calibrate_verdict(files: Files, suite: Suite, report: Report) -> Fusion:
    """The verdict over all methods of the suite's own backbone, fitted on the images as they are. DataError, one sentence."""
    from detector.data.datasets import DataError
    from detector.data.images import ImageError
    from detector.steps import checkpoint
    from detector.training.small_sets import require_enough
    from detector.verdict.fusion import Fusion

    labelled = [(file, label) for label, part in enumerate(files) for file in part]
    rows: list[dict[str, float]] = []
    labels: list[int] = []
    unusable: list[str] = []
    for place, (file, label) in enumerate(labelled):
        checkpoint()
        try:
            evidence = suite.evidence([file.photo()])
        except (ImageError, DataError) as error:
            unusable.append(str(error))
            continue
        rows.append({name: float(values[0]) for name, values in suite.logits(evidence).items() if name in suite.heads})
        labels.append(label)
        report(place + 1, len(labelled))
    require_enough(labels, unusable)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    readable = {name: values for name, values in columns.items() if _reads_enough(values, np.array(labels))}
    return Fusion.fit(readable, np.array(labels))


def _reads_enough(logits: np.ndarray, labels: np.ndarray) -> bool:
    from detector.training.calibrate import reads_enough

    return reads_enough(logits, labels)


# --- words ---------------------------------------------------------------------------------------------------------


def summary(result: TrainingReport) -> str:
    """How well the detector tells the two sets apart, in two or three sentences; plain text."""
    real, synthetic = (int((result.images.labels == label).sum()) for label in (0, 1))
    low, high = result.skill["auroc_95"]
    text = (
        f"{method_name(result.training.method)} on {real} real and {synthetic} synthetic images: cross-validated AUROC "
        f"{result.skill['auroc']:.2f} ({low:.2f} to {high:.2f}, 95 % interval); 0.5 is chance, 1 perfect."
    )
    if low <= 0.5:
        text += " It does not tell your sets apart better than chance."
    if result.images.unusable:
        text += f" {len(result.images.unusable)} files were left out; the first: {result.images.unusable[0]}"
    return text


def facts_rows(result: TrainingReport) -> list[list[str]]:
    """File fact → how well it alone separates the classes."""
    return [[name, f"{value:.2f}"] for name, value in result.shortcuts.facts.items()]


def concept_rows(result: TrainingReport) -> list[list[str]]:
    """Concept, the phrase that speaks for synthetic, and how much the detector uses it."""
    return [[use.name, use.pole, f"{use.strength:.2f}"] for use in result.concepts]


def card_text(result: TrainingReport) -> str:
    """The detector's card as Markdown; its file's header says the same."""
    card = result.training.card
    low, high = result.skill["auroc_95"]
    lines = [
        f"# {method_name(card.method)}, trained on a visitor's images",
        f"- method: {card.method}, reads {card.reads}; preprocessing: {card.preprocessing}",
        f"- backbone: {card.backbone}, fingerprint {card.fingerprint}",
        f"- training data: {card.training_data}",
        f"- cross-validated AUROC {result.skill['auroc']:.3f} ({low:.3f} to {high:.3f})",
        f"- AUROC of file facts alone {result.shortcuts.skill['auroc']:.3f}. {result.shortcuts.warning or 'None tells the sets apart.'}",
        f"- concepts used most: {', '.join(use.pole for use in result.concepts) or 'not known on this backbone'}",
        f"- labels: {card.labels}; threshold {card.threshold}; licence: {card.licence}",
        f"- to use it from the command line, put the file into the folder of heads of your CUESCOPE_HOME as {card.method}.safetensors",
    ]
    return "\n".join([lines[0], "", *lines[1:], ""])
