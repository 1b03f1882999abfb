"""Photos → Evidence: all that the methods read of a batch of images.

An `Extractor` gives what comes from one backbone; the numbers of the pixels belong to no backbone and are measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import user_caption
from detector.data.images import Photo
from detector.methods.base import Evidence
from detector.methods.item.alignment import Alignment, align
from detector.methods.physical import features as physical
from detector.methods.published import PublishedHead
from detector.methods.released import released_features
from detector.methods.residual import features as residual
from detector.methods.residual.window_rows import WindowRows


@dataclass(frozen=True)
class BackboneFeatures:
    """What one backbone gives of B images. clip: of the one forward of its vision tower. alignment: the images against their
    captions, None where nothing reads captions. released: name of a released head → (B, D), preprocessed as its authors did."""

    clip: ClipFeatures
    alignment: Alignment | None
    released: Mapping[str, Tensor]


EVERYTHING = frozenset({"clip", "tokens", "descriptors", "residual"})  # what is computed for an image unless its detectors are named


@dataclass(frozen=True, eq=False)
class Extractor:
    """Features of one backbone for its heads. fields: the fields of `Evidence` that are computed; "tokens": those of `clip`, too; all
    others stay empty. released: the released heads of the backbone by name; one forward more for each preprocessing that differs from
    the backbone's own."""

    backbone: Backbone
    fields: frozenset[str] = EVERYTHING
    released: Mapping[str, PublishedHead] = field(default_factory=dict)

    @property
    def captions(self) -> bool:
        """Whether a method of the backbone reads captions."""
        return "alignment" in self.fields

    def features(self, pixels: Sequence[np.ndarray], captions: Sequence[str | None] | None = None) -> BackboneFeatures:
        """Features of B images, (H, W, 3) uint8 each. captions: as for `evidence`."""
        captioned = captions is not None or self.captions
        if not captioned and "clip" not in self.fields:
            nothing = torch.empty(len(pixels), 0)
            released = released_features(dict(self.released), self.backbone, pixels)
            return BackboneFeatures(ClipFeatures(nothing, nothing, None), None, released)
        prepared = torch.stack([self.backbone.prepare(image) for image in pixels])
        clip = self.backbone.encode(prepared, tokens=captioned or "tokens" in self.fields)
        released = released_features(dict(self.released), self.backbone, pixels, clip)
        if not captioned:
            return BackboneFeatures(clip, None, released)
        words = [None if text is None else user_caption(text) for text in captions or [None] * len(pixels)]
        return BackboneFeatures(clip, align(self.backbone, pixels, prepared, clip, words), released)


def evidence(
    extractor: Extractor,
    images: Sequence[Photo | np.ndarray],
    captions: Sequence[str | None] | None = None,
    beside: Sequence[Extractor] = (),
) -> Evidence:
    """All that the methods read of B images, from one batch. The features of the pixels are measured in threads beside the backbone.

    captions: the user's words for each image, None where the backbone is to caption it. Images are compared with captions where a
    method reads them or the user gave some. beside: other backbones; what they give lies in the evidence's `beside`. What no extractor
    has among its `fields` is not computed.
    """
    fields = extractor.fields.union(*(other.fields for other in beside))
    pixels = [image.pixels if isinstance(image, Photo) else image for image in images]
    with ThreadPoolExecutor(max_workers=2) as pool:
        descriptors = pool.map(physical.measure, pixels if "descriptors" in fields else [])
        window_rows = pool.map(residual.window_features, pixels if "residual" in fields else [])
        captioned = any(other.captions for other in beside)  # then a backbone whose methods read no captions needs none
        first = extractor.features(pixels, None if captioned and not extractor.captions else captions)
        others = {other.backbone.name: other.features(pixels, captions if other.captions else None) for other in beside}
        windows = list(window_rows)
        described, pooled = _stacked(list(descriptors), len(pixels)), _stacked([residual.pool_windows(w) for w in windows], len(pixels))
    rows = WindowRows.join(windows) if windows else None

    def with_pixels(features: BackboneFeatures) -> Evidence:
        return Evidence(features.clip, described, pooled, pixels, features.alignment, released=features.released, residual_windows=rows)

    return replace(with_pixels(first), beside={name: with_pixels(features) for name, features in others.items()})


def _stacked(rows: Sequence[np.ndarray], count: int) -> np.ndarray:
    """(B, F) of B rows, or (count, 0) where nothing was measured."""
    return np.stack(rows) if rows else np.empty((count, 0))
