"""ITEM: a small network on how far an image lies from its caption (arXiv 2511.00427).

Known from the paper: fakes match their captions less than photographs do; a network is trained on that mismatch. Sum of the mismatch
and network are not published; the following are choices (docs/methods.md, 3). With the δ and s of `alignment`:
u = [δ_g; mean δ_k; s_g, mean s_k, min s_k, K/5] → layer norm → Linear 512 → GELU → Linear 1.

δ holds the image embedding itself, so that a network could do without the words: the study `item` measures what they add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Sizes
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError, Score, Shapes
from detector.methods.item.alignment import Alignment


@dataclass(frozen=True)
class ItemHead:
    """F = 2 E + 4 inputs, H hidden units. norm_weight, norm_bias: (F,). hidden_weight: (H, F), hidden_bias: (H,).
    readout: (H,), bias: scalar."""

    norm_weight: Tensor
    norm_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    readout: Tensor
    bias: Tensor

    def logits(self, alignment: Alignment) -> Tensor:
        """(B,); higher speaks for synthetic. NaN for an image without a usable caption."""
        inputs = alignment.inputs  # (B, F)
        inputs = F.layer_norm(inputs, inputs.shape[1:], self.norm_weight, self.norm_bias)
        return F.gelu(inputs @ self.hidden_weight.T + self.hidden_bias) @ self.readout + self.bias

    def score(self, evidence: Evidence) -> Score:
        """HeadError if the evidence holds no `alignment`. NaN for an image without a usable caption."""
        if evidence.alignment is None:
            raise HeadError("The item head reads image against caption, and this evidence holds no alignment: see `item.align`.")
        return Score(to_numpy(self.logits(evidence.alignment)))

    def scaled(self, slope: float, offset: float) -> ItemHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        inputs = 2 * sizes.projected + 4
        return {
            "norm_weight": (inputs,),
            "norm_bias": (inputs,),
            "hidden_weight": ("hidden", inputs),
            "hidden_bias": ("hidden",),
            "readout": ("hidden",),
            "bias": (),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ItemHead:
        return cls(**tensors)


def null_scores(alignment: Alignment, head: ItemHead, other_captions: Tensor, index: int = 0) -> np.ndarray:
    """(M,) logits of image `index` with each of M captions of other images, (M, E) unit rows, in place of its own.

    Its objects stay, since other ones would each need a crop encoded. Where the image's own logit lies among these says whether
    the words matter to the score or the picture alone makes it.
    """
    one = alignment.rows([index] * len(other_captions))
    return to_numpy(head.logits(replace(one, caption=other_captions)))
