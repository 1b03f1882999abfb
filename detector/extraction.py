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


@dataclass(frozen=True, eq=False)
class Extractor:
    """Features of one backbone for all its heads. captions: whether a method of the backbone reads captions. released: the
    released heads of the backbone by name; one forward more for each preprocessing that differs from the backbone's own."""

    backbone: Backbone
    captions: bool = False
    released: Mapping[str, PublishedHead] = field(default_factory=dict)

    def features(self, pixels: Sequence[np.ndarray], captions: Sequence[str | None] | None = None) -> BackboneFeatures:
        """Features of B images, (H, W, 3) uint8 each. captions: as for `evidence`."""
        prepared = torch.stack([self.backbone.prepare(image) for image in pixels])
        clip = self.backbone.encode(prepared)
        released = released_features(dict(self.released), self.backbone, pixels, clip)
        if captions is None and not self.captions:
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
    method reads them or the user gave some. beside: other backbones; what they give lies in the evidence's `beside`.
    """
    pixels = [image.pixels if isinstance(image, Photo) else image for image in images]
    with ThreadPoolExecutor(max_workers=2) as pool:
        descriptors = pool.map(physical.measure, pixels)
        window_rows = pool.map(residual.window_features, pixels)
        captioned = any(other.captions for other in beside)  # then a backbone whose methods read no captions needs none
        first = extractor.features(pixels, None if captioned and not extractor.captions else captions)
        others = {other.backbone.name: other.features(pixels, captions if other.captions else None) for other in beside}
        windows = list(window_rows)
        numbers = np.stack(list(descriptors)), np.stack([residual.pool_windows(rows) for rows in windows])

    def with_pixels(features: BackboneFeatures) -> Evidence:
        rows = WindowRows.join(windows)
        return Evidence(features.clip, *numbers, pixels, features.alignment, released=features.released, residual_windows=rows)

    return replace(with_pixels(first), beside={name: with_pixels(features) for name, features in others.items()})
