"""The detector that leads: the one whose logit is the verdict. The fusion of all methods is one such detector among others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import expit

from detector.verdict.fusion import Fusion, Verdict

AS_PUBLISHED = "as published, not calibrated here"
CALIBRATED = "calibrated"


@dataclass(frozen=True, eq=False)
class Leader:
    """name: of the detector. keys: method of the fusion → name of its score in an analysis' "detectors"; for a head without a fusion
    its one score under its own name. fusion: None for a head that was never calibrated here, which speaks at its own threshold, 0."""

    name: str
    keys: Mapping[str, str]
    fusion: Fusion | None = None

    @property
    def band(self) -> tuple[float, float] | None:
        """The two logits between which no label is given; None where every image gets one."""
        return self.fusion.band if self.fusion else None

    def decide(self, logits: Mapping[str, float]) -> Verdict:
        """The verdict for one image. logits: by name in "detectors", higher speaks for synthetic; what is missing is no answer.

        A single detector without an answer gives no label.
        """
        values = {method: float(logits.get(key, math.nan)) for method, key in self.keys.items()}
        verdict = self._fused(values) if self.fusion else self._as_published(next(iter(values.values())))
        if len(values) == 1 and math.isnan(next(iter(values.values()))):
            return replace(verdict, label="inconclusive", reason="The detector that leads has no answer for this image; choose another.")
        return verdict

    def _fused(self, values: Mapping[str, float]) -> Verdict:
        assert self.fusion is not None
        verdict = self.fusion.decide(values)
        shares = {self.keys[method]: share for method, share in verdict.contributions.items()}
        return replace(verdict, contributions=shares, detector=self.name, calibration=CALIBRATED)

    def _as_published(self, value: float) -> Verdict:
        logit = 0.0 if math.isnan(value) else value
        label = "synthetic" if logit > 0 else "real"
        (key,) = self.keys.values()
        return Verdict(label, float(expit(logit)), logit, {key: logit}, 0.0, detector=self.name, calibration=AS_PUBLISHED)
