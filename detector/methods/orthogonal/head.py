"""SynthCLIC's orthogonal linear head and the linear probe, on the pooled feature (arXiv 2602.12381).

Both are affine in the feature h, so their parts add up to the logit exactly. The orthogonal head looks at h through k
directions that are kept decorrelated over a batch: a = W h + c, logit = v·a + d, contribution of unit i = v_i a_i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from detector.clip.backbone import Sizes
from detector.devices import to_numpy
from detector.methods.base import Evidence, Score, Shapes


@dataclass(frozen=True)
class OrthogonalHead:
    """W: (k, D), c: (k,), v: (k,), d: scalar."""

    weight: Tensor
    offset: Tensor
    readout: Tensor
    bias: Tensor

    def activations(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B, k): a = W h + c. Any sign; no unit."""
        return pooled @ self.weight.T + self.offset

    def contributions(self, pooled: Tensor) -> Tensor:
        """(B, k) in logits: v_i a_i. Positive speaks for synthetic; their sum plus `bias` is the logit."""
        return self.activations(pooled) * self.readout

    def logits(self, pooled: Tensor) -> Tensor:
        """(B,); higher speaks for synthetic."""
        return self.contributions(pooled).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.pooled)))

    def scaled(self, slope: float, offset: float) -> OrthogonalHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {"weight": ("units", sizes.pooled), "offset": ("units",), "readout": ("units",), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> OrthogonalHead:
        return cls(**tensors)


@dataclass(frozen=True)
class LinearProbe:
    """logit = w·h + b on the pooled feature. weight: (D,), bias: scalar."""

    weight: Tensor
    bias: Tensor

    def contributions(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B, D) in logits: w_j h_j; their sum plus `bias` is the logit."""
        return pooled * self.weight

    def logits(self, pooled: Tensor) -> Tensor:
        """(B, D) → (B,); higher speaks for synthetic."""
        return self.contributions(pooled).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.pooled)))

    def scaled(self, slope: float, offset: float) -> LinearProbe:
        """The same head with logit·slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {"weight": (sizes.pooled,), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LinearProbe:
        return cls(**tensors)
