"""Concept activations and SynthCLIC's gated concept model on the projected feature (arXiv 2602.12381).

A concept is an antonym pair; its direction is the normalised difference of the two prompts' unit embeddings. With the
unit image embedding z: activation s = T z, gate m = σ(G z + g), contribution_i = w_i s_i m_i, and the logit is the sum
of the contributions plus a bias. Gates depend on the image and are pushed towards zero in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Backbone, Sizes
from detector.clip.stored_texts import encode_fixed
from detector.clip.vocabulary import Concept, vocabulary
from detector.devices import to_numpy
from detector.methods.base import Evidence, Score, Shapes


def direction(backbone: Backbone, positive_prompts: list[str], negative_prompts: list[str]) -> Tensor:
    """(C, E) unit rows pointing from the negative to the positive pole."""
    return _differences(backbone.encode_text([*positive_prompts, *negative_prompts]))


def _differences(embedded: Tensor) -> Tensor:
    """(2C, E) embeddings, the positive poles first → (C, E) unit rows from the negative to the positive pole."""
    positive, negative = embedded.chunk(2)
    return F.normalize(positive - negative, dim=1)


def concept_directions(backbone: Backbone, concepts: tuple[Concept, ...] | None = None) -> Tensor:
    """(C, E) unit rows for the given concepts, by default the whole vocabulary, whose embeddings are kept (`encode_fixed`)."""
    words = vocabulary() if concepts is None else concepts
    positive, negative = [c.positive_prompt for c in words], [c.negative_prompt for c in words]
    if concepts is not None:
        return direction(backbone, positive, negative)
    return _differences(encode_fixed(backbone, "concepts", positive + negative))


@dataclass(frozen=True)
class ConceptHead:
    """directions: (C, E) unit rows; gate_weight: (C, E); gate_bias, weight: (C,); bias: scalar."""

    directions: Tensor
    gate_weight: Tensor
    gate_bias: Tensor
    weight: Tensor
    bias: Tensor

    def activations(self, projected: Tensor) -> Tensor:
        """(B, E) → (B, C) cosines in [−1, 1]; positive: closer to the positive pole. Normalises its input."""
        return F.normalize(projected, dim=1) @ self.directions.T

    def gates(self, projected: Tensor) -> Tensor:
        """(B, C) in (0, 1), deterministic."""
        return torch.sigmoid(F.normalize(projected, dim=1) @ self.gate_weight.T + self.gate_bias)

    def contributions(self, projected: Tensor) -> Tensor:
        """(B, C) in logits; positive speaks for synthetic; their sum plus `bias` is the logit."""
        return self.weight * self.activations(projected) * self.gates(projected)

    def logits(self, projected: Tensor) -> Tensor:
        """(B,); higher speaks for synthetic."""
        return self.contributions(projected).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.projected)))

    def scaled(self, slope: float, offset: float) -> ConceptHead:
        """The same head with logit·slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {
            "directions": ("concepts", sizes.projected),
            "gate_weight": ("concepts", sizes.projected),
            "gate_bias": ("concepts",),
            "weight": ("concepts",),
            "bias": (),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ConceptHead:
        return cls(**tensors)
