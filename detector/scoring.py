"""Evidence → scores: the logit of each detector, and the verdict over them. A detector is one head on the features of one backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import expit

from detector.clip.backbone import Backbone
from detector.data.images import Photo
from detector.devices import to_numpy
from detector.methods.base import Evidence, Head
from detector.methods.physical_clip.head import PhysicalClipHead
from detector.methods.published import PublishedHead
from detector.records import DetectorScore
from detector.verdict.fusion import Verdict

SMALLEST_SIDE = 64  # pixels; training images have 117 and more on the shorter side, few of their random copies less than 64
FLAT = 1e-5  # luminance variance on [0, 1]: less than one grey level of spread


class Detector(Protocol):
    """A head that knows what of the evidence it reads."""

    @property
    def bias(self) -> float:
        """The part of the logit that belongs to no contribution, in logits."""

    def logits(self, evidence: Evidence) -> np.ndarray:
        """(B,) float64 logits, higher speaks for synthetic; NaN for an image that has nothing for this head to read."""


@dataclass(frozen=True, eq=False)
class MethodDetector:
    """A head of one of this project's methods. backbone: writes and encodes texts for the heads that read some."""

    head: Head
    backbone: Backbone

    @property
    def bias(self) -> float:
        """See `Detector`."""
        return float(self.head.bias)

    def logits(self, evidence: Evidence) -> np.ndarray:
        """See `Detector`. HeadError where the evidence lacks what the head reads."""
        if isinstance(self.head, PhysicalClipHead) and evidence.alignment is not None:
            evidence = self.head.with_text(self.backbone, evidence, evidence.alignment.texts)
        return np.asarray(self.head.score(evidence).logit, np.float64)


@dataclass(frozen=True, eq=False)
class ReleasedDetector:
    """A head that others have released, on the features that its authors gave it; its logits are not calibrated here."""

    name: str
    head: PublishedHead

    @property
    def bias(self) -> float:
        """See `Detector`."""
        return float(self.head.bias)

    def logits(self, evidence: Evidence) -> np.ndarray:
        """See `Detector`. KeyError where the evidence was made without this head."""
        return to_numpy(self.head.logits(evidence.released[self.name])).astype(np.float64)


@dataclass(frozen=True)
class Scores:
    """Scores of B images by the name of the detector. logits: (B,) each, higher speaks for synthetic. biases: in logits."""

    logits: Mapping[str, np.ndarray]
    biases: Mapping[str, float]

    def of_image(self, index: int) -> dict[str, DetectorScore]:
        """The scores of one image, without the detectors that have no answer for it."""
        return {
            name: {"probability": float(expit(values[index])), "logit": float(values[index]), "bias": self.biases[name]}
            for name, values in self.logits.items()
            if np.isfinite(values[index])
        }

    def logits_of_image(self, index: int) -> dict[str, float]:
        """Name of a detector → logit of one image, NaN where it has no answer: what `Fusion.decide` takes."""
        return {name: float(values[index]) for name, values in self.logits.items()}


def score(detectors: Mapping[str, Detector], evidence: Evidence) -> Scores:
    """The logits of B images from each detector."""
    logits = {name: detector.logits(evidence) for name, detector in detectors.items()}
    return Scores(logits, {name: detector.bias for name, detector in detectors.items()})


def within_limits(verdict: Verdict, photo: Photo, luminance_variance: float) -> Verdict:
    """The verdict, or "inconclusive" with a reason for an image that has too little to judge. Both limits: choice, ours."""
    if min(photo.width, photo.height) < SMALLEST_SIDE:
        reason = f"The image is smaller than {SMALLEST_SIDE} pixels on a side; the methods have hardly seen any that small."
    elif luminance_variance < FLAT:
        reason = "The image is one flat area; there is nothing in it to judge."
    else:
        return verdict
    return replace(verdict, label="inconclusive", reason=reason)
