"""Facts of an image file that say nothing of how the image was made, but may differ between the classes of a data folder.

Size, compression, colour, tone, and what the picture shows. EXIF and C2PA are left out: no detector here reads them, and pixels do not
show them. The choice of the facts is ours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from detector.clip.backbone import Backbone
from detector.data.datasets import Example, photo_of
from detector.data.images import Photo
from detector.evaluation.groups import CONTENT, KINDS
from detector.progress import progress

GROUPS: dict[str, tuple[str, ...]] = {  # in the order of the columns of `Facts.values`
    "size": ("width", "height", "long side", "aspect", "elongation"),
    "compression": ("bytes per pixel", "JPEG quality", "chroma samples", "is JPEG", "is PNG", "is WebP"),
    "colour": ("mean red", "mean green", "mean blue", "saturation"),
    "tone": ("brightness", "contrast", "sharpness"),
    "content": tuple(f"content: {word}" for word in CONTENT),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)
LOGARITHMIC = {
    "width",
    "height",
    "long side",
    "aspect",
    "elongation",
    "bytes per pixel",
    "sharpness",
}  # positive, over several orders of magnitude
_CHROMA_SAMPLES = {"4:4:4": 1.0, "4:2:2": 0.5, "4:2:0": 0.25}
_BATCH = 32  # images in memory at a time


@dataclass(frozen=True)
class Facts:
    """Facts of N images. values: (N, len(NAMES)) in natural units, NaN where an image lacks a fact; labels: (N,), 1 synthetic;
    sources: (N,) names."""

    values: np.ndarray
    labels: np.ndarray
    sources: np.ndarray

    def rows(self, mask: np.ndarray) -> Facts:
        """The images of a mask."""
        return Facts(self.values[mask], self.labels[mask], self.sources[mask])

    def numbers(self, names: Sequence[str] = NAMES) -> np.ndarray:
        """(N, len(names)) what a classifier reads: logarithms of `LOGARITHMIC` facts, the others as they are."""
        columns = {name: self.values[:, NAMES.index(name)] for name in names}
        return np.column_stack([np.log(np.maximum(column, 1e-6)) if name in LOGARITHMIC else column for name, column in columns.items()])


def measure_facts(examples: Sequence[Example], backbone: Backbone) -> Facts:
    """The facts of all examples; every file is decoded once. DataError, one sentence, for a file that cannot be used."""

    def measure(example: Example) -> tuple[list[float], torch.Tensor]:
        photo = photo_of(example)
        return pixel_facts(photo), backbone.prepare(photo)

    rows: list[list[float]] = []
    projected: list[torch.Tensor] = []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        for start in progress(range(0, len(examples), _BATCH), title="facts"):
            facts, prepared = zip(*threads.map(measure, examples[start : start + _BATCH]), strict=True)
            rows += facts
            projected.append(backbone.encode(torch.stack(prepared), tokens=False).projected)
    values = np.column_stack([np.array(rows), content_facts(torch.cat(projected), backbone)])
    return Facts(values, np.array([e.label for e in examples]), np.array([e.source for e in examples]))


def pixel_facts(photo: Photo) -> list[float]:
    """All facts but the content, in the order of `NAMES`, of the upright picture at its own size.

    Sides in pixels, aspect: width over height, elongation: long over short side. Bytes per pixel of the file; JPEG quality: the estimate
    of `FileFacts`, 1 to 100; chroma samples for each luminance sample. Colours, brightness (mean luma), contrast (standard deviation of
    luma) and saturation (mean of HSV's S) from 0 to 1; sharpness: the variance of luma's Laplacian, luma from 0 to 1.
    """
    luma = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    colour = photo.pixels.reshape(-1, 3).mean(axis=0) / 255
    saturation = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255
    short, long = sorted((photo.width, photo.height))
    size = [photo.width, photo.height, long, photo.width / photo.height, long / short]
    tone = [luma.mean(), luma.std(), cv2.Laplacian(luma, cv2.CV_32F).var()]
    return [float(value) for value in (*size, *_compression(photo), *colour, saturation, *tone)]


def _compression(photo: Photo) -> list[float]:
    facts = photo.facts
    lacking = float("nan")
    size = lacking if facts.size_bytes is None else facts.size_bytes / (photo.width * photo.height)
    quality = lacking if facts.jpeg_quality is None else facts.jpeg_quality
    formats = [facts.format in names for names in (("JPEG", "MPO"), ("PNG",), ("WEBP",))]
    return [size, quality, _CHROMA_SAMPLES.get(facts.chroma_subsampling or "", lacking), *formats]


def content_facts(projected: torch.Tensor, backbone: Backbone) -> np.ndarray:
    """(N, E) projected features → (N, len(CONTENT)): cosine with each prompt less the mean over the prompts, higher is more alike.

    CLIP may see traces of a generator as well as what the picture shows, so that this group tells the most that content can explain.
    """
    cosines = F.normalize(projected, dim=-1) @ backbone.encode_text(list(CONTENT.values())).T
    return (cosines - cosines.mean(dim=1, keepdim=True)).numpy()


def kinds_of(content: np.ndarray) -> np.ndarray:
    """(N, len(CONTENT)) from `content_facts` → (N,) names of `KINDS`: the kind of the prompt that CLIP finds most alike."""
    kind_of_word = {word: kind for kind, words in KINDS.items() for word in words}
    return np.array([kind_of_word[list(CONTENT)[place]] for place in content.argmax(1)])
