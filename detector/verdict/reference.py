"""Reference images, as features only: what is usual, for percentiles, for naming units and for dropping directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Sizes
from detector.methods.base import Shapes


@dataclass(frozen=True)
class Reference:
    """The validation images of a backbone's training. pooled: (N, D), projected: (N, E), labels: (N,), 0 real, 1 synthetic.

    captions: (M, E) unit embeddings of captions of M of them, (0, E) where no method of the backbone reads captions.
    """

    pooled: Tensor
    projected: Tensor
    labels: Tensor
    captions: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Half precision: a percentile needs no more."""
        halved = {name: getattr(self, name).half() for name in ("pooled", "projected", "captions")}
        return halved | {"labels": self.labels.to(torch.uint8)}

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {
            "pooled": ("images", sizes.pooled),
            "projected": ("images", sizes.projected),
            "labels": ("images",),
            "captions": ("captions", sizes.projected),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Reference:
        features = {name: tensors[name].float() for name in ("pooled", "projected", "captions")}
        return cls(labels=tensors["labels"].long(), **features)


def percentile(value: float, reference: np.ndarray) -> float:
    """Share of reference values below `value` in per cent, ties counted half: 0 (below all) to 100."""
    below, equal = (reference < value).mean(), (reference == value).mean()
    return float(100 * (below + equal / 2))
