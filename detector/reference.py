"""Reference images, as features only: what is usual, for percentiles, for naming units and for dropping directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """The validation images of a backbone's training. pooled: (N, D), projected: (N, E), labels: (N,), 0 real, 1 synthetic."""

    pooled: Tensor
    projected: Tensor
    labels: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Half precision: a percentile needs no more."""
        return {"pooled": self.pooled.half(), "projected": self.projected.half(), "labels": self.labels.to(torch.uint8)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Reference:
        return cls(tensors["pooled"].float(), tensors["projected"].float(), tensors["labels"].long())


def percentile(value: float, reference: np.ndarray) -> float:
    """Share of reference values below `value` in per cent, ties counted half: 0 (below all) to 100."""
    below, equal = (reference < value).mean(), (reference == value).mean()
    return float(100 * (below + equal / 2))
