"""A head on a frozen backbone from a few hundred labelled images, cross-validated, within a minute.

The heads are those of `METHODS`; the recipes are ours, with smaller batches and larger steps than for the large sets (choice). No random
copies are made. Each image's logit in the cross-validation comes from a head that has not seen it, nor its source where both classes have
sources enough; on these logits the head is calibrated and its band is fitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.vocabulary import vocabulary
from detector.data.collections import ImageFile
from detector.data.datasets import CLASS_NAMES, DataError
from detector.data.images import ImageError, Photo
from detector.data.sources import random_folds, source_folds
from detector.logistic import fit_logistic
from detector.methods.base import Evidence, HeadCard
from detector.methods.concepts.head import concept_directions
from detector.methods.concepts.train import ConceptRecipe, fit_concepts
from detector.methods.orthogonal.naming import name_units, unnamed
from detector.methods.orthogonal.train import AffineRecipe, fit_linear_probe, fit_orthogonal
from detector.methods.registry import expected_card, require_suited
from detector.steps import checkpoint
from detector.verdict.fusion import Fusion

FEWEST = 20  # images of a class (choice): below, the band has no edge and the interval says nothing
FOLDS = 5
FLAT = 0.01  # slope of a head that is no better than chance (choice)
BATCH = 16  # images decoded at once
AFFINE = AffineRecipe(batch=32, rate=3e-3, patience=15)
CONCEPTS = ConceptRecipe(batch=32, rate=1e-2, patience=15)
HEADS = ("linear_probe", "orthogonal", "concepts")


@dataclass(frozen=True)
class SmallSet:
    """Features of N images. clip: pooled (N, D), projected (N, E). labels: (N,) 0 real, 1 synthetic. sources: (N,) folders.
    facts: (N, F) what `describe` gave. unusable: one sentence for each file that was left out."""

    clip: ClipFeatures
    labels: np.ndarray
    sources: np.ndarray
    facts: np.ndarray
    unusable: tuple[str, ...] = ()

    def features(self, method: str) -> torch.Tensor:
        """What the method reads, (N, ·)."""
        return self.clip.projected if method == "concepts" else self.clip.pooled


@dataclass(frozen=True)
class SmallTraining:
    """head: calibrated, trained on all images. logits: (N,) cross-validated and calibrated. folds: (N,). fusion: Platt scaling and band of
    the head alone. card: what its file says."""

    method: str
    head: Any
    logits: np.ndarray
    folds: np.ndarray
    fusion: Fusion
    card: HeadCard


def measure_set(
    files: tuple[list[ImageFile], list[ImageFile]],
    backbone: Backbone,
    describe: Callable[[Photo], list[float]],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> SmallSet:
    """Decode each file once: what the backbone sees, and what `describe` says. files: of the real and of the synthetic images.

    report: called with (images so far, images in all). DataError, one sentence, where a class has fewer than `FEWEST` usable images.
    """
    labelled = [(file, label) for label, part in enumerate(files) for file in part]
    rows: list[tuple[list[float], int, str]] = []
    clips: list[ClipFeatures] = []
    unusable: list[str] = []

    def measure(file: ImageFile) -> tuple[list[float], torch.Tensor] | str:
        try:
            photo = file.photo()
        except (ImageError, DataError) as error:
            return str(error)
        return describe(photo), backbone.prepare(photo)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        for start in range(0, len(labelled), BATCH):
            checkpoint()
            batch = labelled[start : start + BATCH]
            measured = list(zip(batch, threads.map(measure, [file for file, _ in batch]), strict=True))
            unusable += [result for _, result in measured if isinstance(result, str)]
            usable = [(file, label, result) for (file, label), result in measured if not isinstance(result, str)]
            rows += [(result[0], label, file.folder or CLASS_NAMES[label]) for file, label, result in usable]
            if usable:
                clips.append(backbone.encode(torch.stack([result[1] for _, _, result in usable]), tokens=False))
            report(start + len(batch), len(labelled))
    require_enough([label for _, label, _ in rows], unusable)
    pooled, projected = (torch.cat([getattr(clip, name).cpu() for clip in clips]) for name in ("pooled", "projected"))
    facts, labels, sources = zip(*rows, strict=True)
    return SmallSet(ClipFeatures(pooled, projected, None), np.array(labels), np.array(sources), np.array(facts), tuple(unusable))


def require_enough(labels: list[int], unusable: list[str]) -> None:
    """DataError, one sentence, where a class has fewer than `FEWEST` images."""
    counts = labels.count(0), labels.count(1)
    if min(counts) < FEWEST:
        why = f" {len(unusable)} more could not be read; the first: {unusable[0]}" if unusable else ""
        raise DataError(f"There are {counts[0]} real and {counts[1]} synthetic images, and {FEWEST} of each are needed; add images.{why}")


def train_small(method: str, images: SmallSet, backbone: Backbone, seed: int = 0) -> SmallTraining:
    """Cross-validate the method, then train its head on all images. method: of `HEADS`. HeadError where the backbone does not suit it."""
    require_suited(method, backbone)
    folds = _folds(images.labels, images.sources, seed)
    logits = np.empty(len(folds))
    for fold in np.unique(folds):
        checkpoint()
        logits[folds == fold] = _logits(_fit(method, images, folds != fold, backbone, seed), images, folds == fold)
    head = _fit(method, images, np.full(len(folds), True), backbone, seed)
    slope, offset = platt_scaling(logits, images.labels)
    logits = logits * slope + offset
    card = _card(method, head, images, backbone, seed)
    return SmallTraining(method, head.scaled(slope, offset), logits, folds, fusion_of(method, logits, images.labels), card)


def platt_scaling(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope, above 0, and offset that make (N,) logits log-odds. Logits that go against the labels, as those of a head no better
    than chance may, get `FLAT` and 0: such a head is not turned around, it says next to nothing."""
    slope, offset = fit_logistic(logits[:, None], labels, 1e-3)
    return (float(slope), float(offset)) if slope > FLAT else (FLAT, 0.0)


def fusion_of(method: str, logits: np.ndarray, labels: np.ndarray) -> Fusion:
    """The verdict of the head alone; one without a label for any image where its logits go against the labels."""
    fusion = Fusion.fit({method: logits}, labels)
    if fusion.platt[0, 0] > 0 and fusion.weights[0] > 0:
        return fusion
    return replace(fusion, platt=np.array([[1.0, 0.0]]), weights=np.array([1.0, 0.0]), band=(-np.inf, np.inf))


def _folds(labels: np.ndarray, sources: np.ndarray, seed: int) -> np.ndarray:
    """(N,) folds of whole sources where each class has `FOLDS` of them, else random ones with their share of both classes."""
    if min(len(np.unique(sources[labels == label])) for label in (0, 1)) >= FOLDS:
        return source_folds(labels, sources, FOLDS, seed)
    return random_folds(labels, seed, FOLDS)


def _fit(method: str, images: SmallSet, mask: np.ndarray, backbone: Backbone, seed: int) -> Any:
    """A head on the images of the mask, a fifth of which only says when to stop."""
    features = images.features(method)[mask].to(backbone.device)
    labels = torch.as_tensor(images.labels[mask], dtype=torch.float32, device=backbone.device)
    val = torch.from_numpy(random_folds(images.labels[mask], seed + 1, FOLDS) == 0).to(backbone.device)
    train, held_out = (features[~val], labels[~val]), (features[val], labels[val])
    if method == "concepts":
        directions = concept_directions(backbone).to(backbone.device)
        return fit_concepts(train, held_out, directions, seed=seed, recipe=CONCEPTS)
    fit = fit_orthogonal if method == "orthogonal" else fit_linear_probe
    return fit(train, held_out, seed=seed, recipe=AFFINE)


def _logits(head: Any, images: SmallSet, mask: np.ndarray) -> np.ndarray:
    clip = ClipFeatures(images.clip.pooled[mask], images.clip.projected[mask], None)
    return head.score(Evidence.of_clip(clip)).logit


def _card(method: str, head: Any, images: SmallSet, backbone: Backbone, seed: int) -> HeadCard:
    recipe = CONCEPTS if method == "concepts" else AFFINE
    details: Mapping[str, Any] = {"recipe": vars(recipe)}
    if method == "concepts":
        details = {"concepts": [concept.name for concept in vocabulary()], **details}
    if method == "orthogonal":
        details = {**_unit_names(head, images, backbone), **details}
    counts = [int((images.labels == label).sum()) for label in (0, 1)]
    return replace(
        expected_card(method, backbone),
        command=f"the page's Train tab, seed {seed}",
        training_data=f"a visitor's {counts[0]} real and {counts[1]} synthetic images, without random copies",
        details=dict(details),
        licence="the visitor's own; the images' licences hold",
    )


def _unit_names(head: Any, images: SmallSet, backbone: Backbone) -> dict[str, Any]:
    if not backbone.reads_text:
        return unnamed(len(head.weight))
    clip, directions = images.clip, concept_directions(backbone).cpu()
    return name_units(head.weight, directions, backbone.projection.cpu(), vocabulary(), clip.pooled, clip.projected)
