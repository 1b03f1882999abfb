"""Evidence, scores and parts of a batch → one Analysis for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.analysis import Analysis
from detector.data.images import Photo
from detector.methods.base import Evidence
from detector.methods.item.alignment import record
from detector.methods.physical import features as physical
from detector.methods.physical.head import PhysicalHead, percentiles
from detector.parts import PartHeads, Parts
from detector.records import ConceptRecord, OrthogonalRecord, Percentiles
from detector.scoring import Scores


@dataclass(frozen=True, eq=False)
class Assembly:
    """Builds analyses, all but the verdict. heads: what units and concepts come from."""

    heads: PartHeads

    def analyses(self, photos: Sequence[Photo], evidence: Evidence, scores: Scores) -> list[Analysis]:
        """One Analysis for each photo, in order. evidence and scores: of just these photos."""
        parts = self.heads.parts(evidence)
        return [self._analysis(index, photo, evidence, scores, parts) for index, photo in enumerate(photos)]

    def _analysis(self, index: int, photo: Photo, evidence: Evidence, scores: Scores, parts: Parts) -> Analysis:
        values = evidence.descriptors[index]
        sources = {"orthogonal": self.heads.units, "concepts": self.heads.concept_model}
        return Analysis(
            file=photo.name,
            facts=photo.facts,
            width=photo.width,
            height=photo.height,
            backbone=self.heads.backbone.name,
            detectors=scores.of_image(index),
            physical=dict(zip(physical.NAMES, map(_number, values), strict=True)) if len(values) else {},
            physical_contributions=_by_descriptor(parts.physical, index),
            percentiles=_percentiles(values, self.heads.heads.get("physical")),
            orthogonal=self._orthogonal(index, parts),
            concepts=self._concepts(index, parts),
            head={part: source[0] for part, source in sources.items() if source},
            residual={name: float(contribution[index]) for name, contribution in parts.residual.items()},
            item=record(evidence.alignment, index) if evidence.alignment else None,
            physical_text=parts.texts[index] if parts.texts else "",
        )

    def _orthogonal(self, index: int, parts: Parts) -> OrthogonalRecord | None:
        if parts.units is None or self.heads.units is None or self.heads.unit_names is None:
            return None
        return {
            "activations": parts.units.activations[index].tolist(),
            "contributions": parts.units.contributions[index].tolist(),
            "bias": float(self.heads.units[1].bias),
            **self.heads.unit_names,
        }

    def _concepts(self, index: int, parts: Parts) -> list[ConceptRecord]:
        """All concepts, the largest contribution first."""
        if parts.concepts is None:
            return []
        activations, contributions = parts.concepts.activations[index], parts.concepts.contributions[index]
        words, order = self.heads.concept_words, np.argsort(-np.abs(contributions), kind="stable")
        return [
            {
                "name": words[i].name,
                "positive": words[i].positive,
                "negative": words[i].negative,
                "activation": float(activations[i]),
                "contribution": float(contributions[i]),
            }
            for i in order
        ]


def _number(value: float) -> float | None:
    """A plain float; None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def _by_descriptor(values: np.ndarray | None, index: int) -> dict[str, float]:
    return {} if values is None else dict(zip(physical.NAMES, values[index].tolist(), strict=True))


def _percentiles(values: np.ndarray, head: PhysicalHead | None) -> dict[str, Percentiles]:
    """Descriptor → its percentiles among the reference images that the physical head knows; {} without the head."""
    if head is None:
        return {}
    real, synthetic = percentiles(values, head.real), percentiles(values, head.synthetic)
    return {name: {"real": _number(r), "synthetic": _number(s)} for name, r, s in zip(physical.NAMES, real, synthetic, strict=True)}
