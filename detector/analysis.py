"""All that is known about one image, as plain numbers: the JSON object of the command line and of the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from detector.data.images import FileFacts
from detector.records import AnalysisRecord, ConceptRecord, DetectorScore, ItemRecord, OrthogonalRecord, Percentiles
from detector.verdict.fusion import Verdict


@dataclass(frozen=True)
class Analysis:
    """All numbers for one image. For an image that cannot be read `error` is one sentence and everything else is empty.

    width, height: in pixels. leader: name of the detector whose verdict it is. absent: methods that the verdict was fitted with and that
    have no head here. detectors: name of a method or released head → its score. physical: descriptor → value at the fixed scale;
    physical_contributions: → logits; percentiles: → place among the reference images (None: not defined). orthogonal: the units of the
    orthogonal head, None without one. concepts: all concepts, the largest contribution first. head: method → name in `detectors` of the
    detector that its panel comes from; "orthogonal" and "concepts" always, others where it is not the method's own name. residual: group
    of features → logits. item: the caption and its objects. physical_text: the text that CLIP's text tower read of the descriptors.
    """

    file: str | None
    error: str | None = None
    facts: FileFacts | None = None
    width: int | None = None
    height: int | None = None
    backbone: str | None = None
    verdict: Verdict | None = None
    leader: str = ""
    absent: tuple[str, ...] = ()
    detectors: dict[str, DetectorScore] = field(default_factory=dict)
    physical: dict[str, float | None] = field(default_factory=dict)
    physical_contributions: dict[str, float] = field(default_factory=dict)
    percentiles: dict[str, Percentiles] = field(default_factory=dict)
    orthogonal: OrthogonalRecord | None = None
    concepts: list[ConceptRecord] = field(default_factory=list)
    head: dict[str, str] = field(default_factory=dict)
    residual: dict[str, float] = field(default_factory=dict)
    item: ItemRecord | None = None
    physical_text: str = ""

    def to_dict(self) -> AnalysisRecord:
        """The JSON object; a key beyond the first six is absent where it has no value."""
        start: AnalysisRecord = {
            "file": self.file,
            "width": self.width,
            "height": self.height,
            "format": self.facts.format if self.facts else None,
            "error": self.error,
            "backbone": self.backbone,
        }
        if self.error:
            return start
        verdict = {name: value for name, value in vars(self.verdict).items() if value != ""} if self.verdict else None
        rest: dict[str, Any] = {
            "leader": self.leader,
            "verdict": verdict,
            "absent": list(self.absent),
            "detectors": self.detectors,
            "physical": self.physical,
            "physical_contributions": self.physical_contributions,
            "physical_percentiles": self.percentiles,
            "orthogonal": self.orthogonal,
            "concepts": self.concepts,
            "heads": self.head,
            "residual": self.residual,
            "item": self.item,
            "physical_text": self.physical_text,
            "file_facts": vars(self.facts) if self.facts else None,
        }
        return cast(AnalysisRecord, start | {name: value for name, value in rest.items() if value not in (None, {}, [], "")})
