"""All that is known about one image, as plain numbers: the JSON object of the command line and of the page."""

from __future__ import annotations

from dataclasses import dataclass, field

from detector.data.images import FileFacts
from detector.verdict.fusion import Verdict


@dataclass(frozen=True)
class Analysis:
    """All numbers for one image. `error` is one sentence and everything else empty where the image could not be read.

    detectors: method → logit (higher speaks for synthetic), probability σ(logit) and bias: what the method's parts lack to
    the logit. physical, percentiles: descriptor →
    value at the fixed scale, and its percentile among real and among synthetic reference images (None: not defined).
    orthogonal: activations, contributions (with `bias` they sum to the logit) and names of the units. concepts: all, the
    largest contribution first. `head` names the released head that these two come from where the backbone has no own one.
    item: the caption and its objects, see `item.record`. physical_text: what CLIP read of the descriptors.
    """

    file: str | None
    error: str | None = None
    facts: FileFacts | None = None
    width: int | None = None
    height: int | None = None
    backbone: str | None = None
    verdict: Verdict | None = None
    absent: tuple[str, ...] = ()
    detectors: dict[str, dict[str, float]] = field(default_factory=dict)
    physical: dict[str, float | None] = field(default_factory=dict)
    physical_contributions: dict[str, float] = field(default_factory=dict)
    percentiles: dict[str, dict[str, float | None]] = field(default_factory=dict)
    orthogonal: dict = field(default_factory=dict)
    concepts: list[dict] = field(default_factory=list)
    head: dict[str, str] = field(default_factory=dict)
    residual: dict[str, float] = field(default_factory=dict)
    item: dict = field(default_factory=dict)
    physical_text: str = ""

    def to_dict(self) -> dict:
        """The JSON object of the command line; methods without a head are absent."""
        start = {
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
        rest = {
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
            "file_facts": vars(self.facts),
        }
        return start | {name: value for name, value in rest.items() if value not in (None, {}, [], "")}
