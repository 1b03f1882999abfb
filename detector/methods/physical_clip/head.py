"""Image, caption and descriptors written as text side by side in CLIP's space, and a small network on them (arXiv 2604.04608).

Known from the paper: descriptors are written as text, put after a caption, and image and text are aligned in CLIP's space. Its
network, loss and what is tuned are not published; the following are choices (docs/methods.md, 4). With the unit image embedding z,
the unit embedding t of the text and the core descriptors v in [0, 1]: u = [z; t; z∘t; v] → layer norm → Linear 512 → GELU →
Linear 1. By default CLIP stays as it is; `train` says what the tuned form learns besides. No label is ever part of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Backbone, Sizes
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError, Score, Shapes
from detector.methods.physical.features import NAMES
from detector.methods.physical_clip.text import normalised, written

BLOCKS = ("image", "text", "product", "values")
UNDEFINED = 0.5  # place of a descriptor that is not defined: the middle. Choice, ours; its text leaves it out


@dataclass(frozen=True)
class PhysicalClipHead:
    """K core descriptors, embeddings of width E, F = 3 E + K inputs, H hidden units.

    limits: (2, 15) training percentiles that become 0 and 1. core: (K,) places in `physical.NAMES`. image_map, text_map: (E, E),
    the identity unless tuned. norm_weight, norm_bias: (F,). hidden_weight: (H, F), hidden_bias: (H,). readout: (H,), bias: scalar.
    """

    limits: Tensor
    core: Tensor
    image_map: Tensor
    text_map: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    readout: Tensor
    bias: Tensor

    @property
    def core_names(self) -> tuple[str, ...]:
        return tuple(NAMES[j] for j in self.core.tolist())

    def with_text(self, backbone: Backbone, evidence: Evidence, captions: Sequence[str]) -> Evidence:
        """The evidence with `physical_text` as this head was trained to read it; one caption for each image, "" for none."""
        return with_text(backbone, evidence, captions, to_numpy(self.limits), self.core_names)

    def logits(self, projected: Tensor, text: Tensor, descriptors: np.ndarray) -> Tensor:
        """(B, E) not normalised, (B, E) unit rows, (B, 15) → (B,); higher speaks for synthetic."""
        image = F.normalize(F.normalize(projected, dim=1) @ self.image_map.T, dim=1)
        text = F.normalize(text @ self.text_map.T, dim=1)
        values = places(descriptors, to_numpy(self.limits), self.core_names).to(image.device)
        inputs = joint(image, text, values, BLOCKS)  # (B, F)
        inputs = F.layer_norm(inputs, inputs.shape[1:], self.norm_weight, self.norm_bias)
        return F.gelu(inputs @ self.hidden_weight.T + self.hidden_bias) @ self.readout + self.bias

    def score(self, evidence: Evidence) -> Score:
        """HeadError if the evidence holds no `physical_text`."""
        return Score(to_numpy(self.logits(evidence.clip.projected, text_of(evidence), evidence.descriptors)))

    def scaled(self, slope: float, offset: float) -> PhysicalClipHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        maps = (sizes.projected, sizes.projected)
        return {
            "limits": (2, len(NAMES)),
            "core": ("core",),
            "image_map": maps,
            "text_map": maps,
            "norm_weight": ("inputs",),
            "norm_bias": ("inputs",),
            "hidden_weight": ("hidden", "inputs"),
            "hidden_bias": ("hidden",),
            "readout": ("hidden",),
            "bias": (),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> PhysicalClipHead:
        """HeadError if the network does not read the three embeddings and the core descriptors."""
        core, width = tensors["core"], len(tensors["image_map"])
        if len(tensors["norm_weight"]) != 3 * width + len(core) or not bool(((core >= 0) & (core < len(NAMES))).all()):
            raise HeadError("The physical_clip head reads other descriptors than it names; train it again.")
        return cls(**tensors)


def text_of(evidence: Evidence) -> Tensor:
    """The evidence's `physical_text`; HeadError if it holds none."""
    if evidence.physical_text is None:
        raise HeadError("The physical_clip head reads the descriptors as text, and this evidence holds none: see `with_text`.")
    return evidence.physical_text


# --- what it reads -------------------------------------------------------------------------------------------------


def with_text(backbone: Backbone, evidence: Evidence, captions: Sequence[str], limits: np.ndarray, core: Sequence[str]) -> Evidence:
    """The evidence with `physical_text`, (B, E) unit rows: the caption and the core descriptors as text, in CLIP's space."""
    texts = written(backbone, captions, evidence.descriptors, limits, core)
    return replace(evidence, physical_text=backbone.encode_text(texts))


def places(descriptors: np.ndarray, limits: np.ndarray, core: Sequence[str]) -> Tensor:
    """(B, 15) → (B, K) places of the core descriptors between the limits, in [0, 1], in the order of `physical.NAMES`."""
    columns = [j for j, name in enumerate(NAMES) if name in core]
    values = np.nan_to_num(normalised(np.asarray(descriptors), limits)[:, columns], nan=UNDEFINED)
    return torch.as_tensor(values, dtype=torch.float32)


def joint(image: Tensor, text: Tensor, values: Tensor, blocks: Sequence[str]) -> Tensor:
    """(B, E), (B, E), (B, K) → the chosen blocks beside one another, in the order of BLOCKS."""
    parts = {"image": image, "text": text, "product": image * text, "values": values}
    return torch.cat([parts[name] for name in BLOCKS if name in blocks], dim=1)
