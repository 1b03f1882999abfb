"""The detectors of one or several backbones together: their names, which of them can lead, and which fills which panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from detector.analysis import Analysis
from detector.detectors.names import FUSED, PIXELS, RELEASED, DetectorName
from detector.methods.registry import METHODS, PIXEL_METHODS
from detector.records import DetectorScore
from detector.verdict.fusion import Verdict
from detector.verdict.leader import Leader

if TYPE_CHECKING:
    from detector.suite import Suite

LEADING_KINDS = ("cm_antonyms", "clip_orthogonal", "linear_probe")  # released heads that lead by default, the most explicable first


def name_of(suite: Suite, head: str) -> DetectorName:
    """The full name of one of the heads of a suite's own backbone."""
    return RELEASED.get(head) or DetectorName(PIXELS if head in PIXEL_METHODS else suite.backbone.name, head, suite.origins.get(head, ""))


@dataclass(frozen=True, eq=False)
class Roster:
    """suites: of one backbone each, the first is the one that the user chose. choice: the detector that is to lead; None: the default."""

    suites: tuple[Suite, ...]
    choice: DetectorName | None = None

    @cached_property
    def names(self) -> dict[str, DetectorName]:
        """Name of a score in an analysis' "detectors" → the detector. Heads of the first backbone go by their own name, those of the
        others by the full one."""
        first, *others = self.suites
        own = {head: name_of(first, head) for head in (*first.heads, *first.released.heads)}
        more = [name_of(suite, head) for suite in others for head in (*suite.heads, *suite.released.heads)]
        return own | {str(name): name for name in more if name not in own.values()}

    @cached_property
    def keys(self) -> dict[DetectorName, str]:
        """The inverse of `names`."""
        return {name: key for key, name in self.names.items()}

    # --- who leads ---

    @cached_property
    def leaders(self) -> tuple[str, ...]:
        """Full names of all detectors that can lead: the default one, then the fusions, then the others."""
        fused = [str(DetectorName(suite.backbone.name, FUSED)) for suite in self.suites if self._can_fuse(suite)]
        return tuple(dict.fromkeys([*self._defaults(), *fused, *map(str, self.names.values())]))

    @cached_property
    def leading(self) -> Leader | None:
        """The detector whose logit is the verdict; None where there is no fusion and nobody chose another detector."""
        if self.choice is None:
            default = self._defaults()
            return self._leader(default[0]) if default else None
        return self._leader(str(self.choice)) if str(self.choice) in self.leaders else None

    def _can_fuse(self, suite: Suite) -> bool:
        """Whether the suite's fusion is offered: one that was fitted for another backbone only where there is no better one beside it."""
        return suite.fusion is not None and (len(self.suites) == 1 or suite.has_verdict)

    def _defaults(self) -> list[str]:
        """Full names of who leads unless told otherwise, the best first: the first backbone's own fusion; beside another backbone a
        released head, the one whose parts are presented; the fusion of another backbone."""
        first, *others = self.suites
        own, *fused = [str(DetectorName(s.backbone.name, FUSED)) if self._can_fuse(s) else "" for s in self.suites]
        heads = [first.released.shown(kind) for kind in LEADING_KINDS] + [*first.released.heads] if others else []
        released = [str(RELEASED[head]) for head in heads if head in RELEASED]
        return [name for name in (own, *released, *fused) if name][:1]

    def _leader(self, name: str) -> Leader:
        """A fusion, or one head: through the Platt scaling and the band of its validation logits where there are any."""
        for suite in self.suites:
            if name == str(DetectorName(suite.backbone.name, FUSED)) and suite.fusion is not None:
                return Leader(name, {method: self.keys[name_of(suite, method)] for method in suite.fusion.methods}, suite.fusion)
        detector = next(detector for detector in self.keys if str(detector) == name)
        suites = [s for s in self.suites if detector.backbone in (PIXELS, s.backbone.name) and detector not in RELEASED.values()]
        fusions = [s.fusion for s in suites if s.fusion is not None and detector.method in s.fusion.methods]
        fitted = fusions[-1].restrict((detector.method,)) if fusions else None
        return Leader(name, {detector.method: self.keys[detector]}, fitted)

    # --- who fills which panel ---

    def suite_for(self, method: str) -> Suite:
        """The suite whose head of the method fills its panel: the leader's where it leads with that method, else the first that has one;
        the first of all where none has."""
        leads = self.choice.backbone if self.choice and self.choice.method == method else ""
        ordered = sorted(self.suites, key=lambda suite: suite.backbone.name != leads)
        return next((suite for suite in ordered if suite.head_of(method)), self.suites[0])

    def panel_keys(self) -> dict[str, str]:
        """Method → name in "detectors" of the detector that fills its panel, where it is not the method's own; for units and concepts
        always."""
        heads = {method: (suite := self.suite_for(method), suite.head_of(method)) for method in METHODS}
        keys = {method: self.keys.get(name_of(suite, head), head) for method, (suite, head) in heads.items() if head}
        return {method: key for method, key in keys.items() if key != method or method in ("orthogonal", "concepts")}

    # --- one analysis ---

    def merged(self, analyses: Sequence[Analysis]) -> Analysis:
        """One analysis of what each suite says of an image, with every panel from the suite that fills it. No verdict yet."""
        by_backbone = {suite.backbone.name: analysis for suite, analysis in zip(self.suites, analyses, strict=True)}
        units, concepts, item, text = (
            by_backbone[self.suite_for(method).backbone.name] for method in ("orthogonal", "concepts", "item", "physical_clip")
        )
        return replace(
            analyses[0],
            detectors=self._scores(analyses),
            orthogonal=units.orthogonal,
            concepts=concepts.concepts,
            head=self.panel_keys(),
            item=item.item,
            physical_text=text.physical_text,
        )

    def _scores(self, analyses: Sequence[Analysis]) -> dict[str, DetectorScore]:
        scores: dict[DetectorName, DetectorScore] = {}
        for suite, analysis in reversed(list(zip(self.suites, analyses, strict=True))):  # the first suite's pixel methods count
            scores |= {name_of(suite, head): score for head, score in analysis.detectors.items()}
        return {
            key: {**scores[name], "detector": str(name), "backbone": name.backbone, "origin": name.origin}
            for key, name in self.names.items()
            if name in scores
        }

    def verdict(self, scores: Mapping[str, DetectorScore]) -> Verdict | None:
        """The verdict of the detector that leads, from an analysis' "detectors"; None where none leads."""
        return self.leading.decide({name: score["logit"] for name, score in scores.items()}) if self.leading else None
