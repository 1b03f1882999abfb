"""How far an image lies from its caption, as a whole and thing by thing: what ITEM measures (arXiv 2511.00427).

Known from the paper: the mismatch is measured in the space of a frozen CLIP on two levels, the whole image and each object that the
caption names. Captioner, finding and placing of objects and the form of the mismatch are not published; the following are choices
(docs/methods.md, 3). With unit embeddings: global δ_g = image − caption, s_g their cosine; for each of K ≤ 5 objects
δ_k = crop − "a photo of a {object}", s_k their cosine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import Caption, caption
from detector.devices import to_numpy
from detector.methods.item.localise import GENERIC, Box, box_of, crop, heatmap, patch_embeddings
from detector.methods.item.objects import MOST, find_objects
from detector.records import ItemRecord

VERSION = "alignment-1"  # of captions, objects, boxes and what is measured of them; part of the key under which features are kept
AT_ONCE = 64  # images, or crops, in a batch of the vision tower


@dataclass(frozen=True)
class ObjectRegion:
    """An object of a caption. score: cosine of its crop and "a photo of a {phrase}", higher: they match better. box: x0, y0, x1, y1
    in pixels of the image. heat: (g, g) over the centre square that CLIP sees, see `heatmap`; None for towers without patches."""

    phrase: str
    score: float
    box: Box
    heat: np.ndarray | None = None


@dataclass(frozen=True)
class Reading:
    """The caption of one image and its objects in order."""

    caption: Caption
    objects: tuple[ObjectRegion, ...]


@dataclass(frozen=True)
class Alignment:
    """Images against their captions, B images. All embeddings are unit rows of width E; on the CPU, but for training (`to`).

    image: (B, E). caption: (B, E), NaN rows where there is no usable caption. crops, phrases: (B, 5, E) of each object's crop and
    text, zero beyond count: (B,) objects. texts: the captions, "" for none. readings: one an image, () for cached features.
    patches: (B, N, E), for `realign`.
    """

    image: Tensor
    caption: Tensor
    crops: Tensor
    phrases: Tensor
    count: Tensor
    texts: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    patches: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Alignment:
        """The same on another device, to train on; without readings and patches."""
        image, caption, crops, phrases, count = (part.to(device) for part in self._tensors())
        return Alignment(image, caption, crops, phrases, count, self.texts)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.image, self.caption, self.crops, self.phrases, self.count

    @property
    def usable(self) -> Tensor:
        """(B,) whether the image has a caption; without one there is no ITEM score."""
        return ~self.caption.isnan().any(1)

    @property
    def cosine(self) -> Tensor:
        """(B,) s_g in [−1, 1]; higher: image and caption match better. NaN without a caption."""
        return (self.image * self.caption).sum(1)

    @property
    def object_cosines(self) -> Tensor:
        """(B, 5) s_k in [−1, 1], NaN beyond the image's own objects."""
        beyond = places_of(self) >= self.count[:, None]
        return (self.crops * self.phrases).sum(2).masked_fill(beyond, torch.nan)

    @property
    def local(self) -> Tensor:
        """(B, E) mean δ_k; zero without objects."""
        return (self.crops - self.phrases).sum(1) / self.count.clamp(min=1)[:, None]

    @property
    def summary(self) -> Tensor:
        """(B, 4): s_g, mean s_k, min s_k, K/5. Without objects s_g stands in for s_k."""
        cosines = torch.where(self.count[:, None] > 0, self.object_cosines, self.cosine[:, None])
        least = cosines.nan_to_num(nan=torch.inf).amin(1)
        least = torch.where(self.usable, least, torch.nan)
        return torch.stack([self.cosine, cosines.nanmean(1), least, self.count / MOST], dim=1)

    @property
    def inputs(self) -> Tensor:
        """(B, 2 E + 4) what the network reads: δ_g, mean δ_k, summary."""
        return torch.cat([self.image - self.caption, self.local, self.summary], dim=1)

    def rows(self, index: Tensor | np.ndarray | list[int]) -> Alignment:
        """The images of a mask or of places, without readings and patches."""
        places = np.arange(len(self))[to_numpy(torch.as_tensor(index))].tolist()
        image, caption, crops, phrases, count = (part[index] for part in self._tensors())
        return Alignment(image, caption, crops, phrases, count, tuple(self.texts[i] for i in places) if self.texts else ())


def places_of(alignment: Alignment) -> Tensor:
    """(5,) numbers of the places for objects, on the alignment's device."""
    return torch.arange(alignment.crops.shape[1], device=alignment.count.device)


# --- measuring -----------------------------------------------------------------------------------------------------


def align(
    backbone: Backbone,
    pixels: Sequence[np.ndarray],
    images: Tensor,
    features: ClipFeatures,
    captions: Sequence[Caption | None] | None = None,
) -> Alignment:
    """Caption B images and measure how far they lie from it. Nothing but pixels and the user's captions goes in.

    pixels: (H, W, 3) uint8 each, for the crops. images: (B, 3, S, S) prepared; features: their one forward. captions: the
    user's, None where the image is to be captioned here.
    """
    given = list(captions) if captions is not None else [None] * len(pixels)
    missing = [i for i, text in enumerate(given) if text is None]
    written = iter(caption(backbone, [pixels[i] for i in missing], images[missing], _rows_of(features, missing)) if missing else ())
    complete = [next(written) if text is None else text for text in given]
    objects = [find_objects(c.text) for c in complete]
    return _measured(backbone, pixels, F.normalize(features.projected, dim=1), patch_embeddings(backbone, features), complete, objects)


def realign(
    backbone: Backbone, pixels: np.ndarray, before: Alignment, written: Caption | None = None, objects: Sequence[str] | None = None
) -> Alignment:
    """One image against an edited caption, an edited list of objects, or both; the image itself is not encoded again.

    Without `written` the caption stays; without `objects` they are found in the caption. Needs an alignment made by `align`.
    """
    written = written or before.readings[0].caption
    objects = find_objects(written.text) if objects is None else list(objects)[:MOST]
    return _measured(backbone, [pixels], before.image[:1], before.patches, [written], [objects])


def _measured(
    backbone: Backbone,
    pixels: Sequence[np.ndarray],
    image: Tensor,
    patches: Tensor | None,
    captions: Sequence[Caption],
    objects: Sequence[Sequence[str]],
) -> Alignment:
    """Embeddings of captions, of the objects' texts and of their crops, all in batches."""
    owners = [row for row, names in enumerate(objects) for _ in names]
    places = [place for names in objects for place in range(len(names))]
    names = [name for row in objects for name in row]
    texts = _encoded(backbone, [f"a photo of a {name}" for name in names], image.shape[1])
    boxes, heats = _places(backbone, pixels, patches, owners, texts)
    cut = _crops(backbone, [crop(pixels[row], box) for row, box in zip(owners, boxes, strict=True)], image.shape[1])
    crops, phrases = (torch.zeros(len(pixels), MOST, image.shape[1]) for _ in range(2))
    crops[owners, places], phrases[owners, places] = cut, texts
    scores = (cut * texts).sum(1).tolist()
    regions = [ObjectRegion(*parts) for parts in zip(names, scores, boxes, heats, strict=True)]
    readings = tuple(
        Reading(c, tuple(f for f, owner in zip(regions, owners, strict=True) if owner == row)) for row, c in enumerate(captions)
    )
    return Alignment(
        image,
        _caption_embeddings(backbone, captions, image.shape[1]),
        crops,
        phrases,
        torch.tensor([len(row) for row in objects]),
        tuple(c.text for c in captions),
        readings,
        patches,
    )


def _rows_of(features: ClipFeatures, rows: list[int]) -> ClipFeatures:
    patches, previous = (None if part is None else part[rows] for part in (features.patches, features.previous))
    return ClipFeatures(features.pooled[rows], features.projected[rows], patches, previous)


def _encoded(backbone: Backbone, texts: list[str], width: int) -> Tensor:
    """(len(texts), E); nothing for no texts."""
    return backbone.encode_text(texts) if texts else torch.zeros(0, width)


def _caption_embeddings(backbone: Backbone, captions: Sequence[Caption], width: int) -> Tensor:
    embedded = torch.full((len(captions), width), torch.nan)
    usable = [row for row, c in enumerate(captions) if c.text]
    embedded[usable] = _encoded(backbone, [captions[row].text for row in usable], width)
    return embedded


def _places(
    backbone: Backbone, pixels: Sequence[np.ndarray], patches: Tensor | None, owners: list[int], texts: Tensor
) -> tuple[list[Box], list[np.ndarray | None]]:
    """Box and heat of each text in its image; the whole image and None for towers without patches."""
    sizes = [(pixels[row].shape[1], pixels[row].shape[0]) for row in owners]
    if patches is None:
        return [(0, 0, width, height) for width, height in sizes], [None] * len(owners)
    generic = backbone.encode_text(list(GENERIC)).mean(0)
    heats = [heatmap(patches[row], text[None], generic)[0] for row, text in zip(owners, texts, strict=True)]
    return [box_of(heat, *size) for heat, size in zip(heats, sizes, strict=True)], heats


def _crops(backbone: Backbone, cut: list[np.ndarray], width: int) -> Tensor:
    """(crops, E) unit rows."""
    parts = [torch.zeros(0, width)]
    for start in range(0, len(cut), AT_ONCE):
        prepared = torch.stack([backbone.prepare(part) for part in cut[start : start + AT_ONCE]])
        parts.append(F.normalize(backbone.encode(prepared, tokens=False).projected, dim=1))
    return torch.cat(parts)


def record(alignment: Alignment, row: int = 0) -> ItemRecord:
    """One image's caption and objects as plain numbers, for the JSON object: "global" is s_g, None without a caption."""
    reading, cosine = alignment.readings[row], float(alignment.cosine[row])
    return {
        "caption": reading.caption.text,
        "caption_source": reading.caption.source,
        "global": cosine if cosine == cosine else None,
        "objects": [{"phrase": o.phrase, "score": o.score, "box": list(o.box)} for o in reading.objects],
    }


def caption_rank(alignment: Alignment, other_captions: Tensor, row: int = 0) -> float | None:
    """Share of M captions of other images, (M, E) unit rows, that match the image less than its own does: 0.5 is chance, 1 the best.
    None without a caption."""
    cosine = alignment.cosine[row]
    return None if cosine.isnan() else float((other_captions @ alignment.image[row] < cosine).float().mean())


# --- features for training -----------------------------------------------------------------------------------------


def extract_alignment(backbone: Backbone, groups: Iterable[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all images of all groups, in order: what `from_arrays` reads. A group is the views of one example, (H, W, 3) uint8.

    Embeddings of crops and of objects' texts in float16.
    """
    parts: list[dict[str, np.ndarray]] = []
    waiting: list[np.ndarray] = []
    for group in groups:
        waiting += group
        if len(waiting) >= AT_ONCE:
            parts, waiting = [*parts, _arrays(backbone, waiting)], []
    parts += [_arrays(backbone, waiting)] if waiting else []
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _arrays(backbone: Backbone, pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    images = torch.stack([backbone.prepare(one) for one in pixels])
    alignment = align(backbone, pixels, images, backbone.encode(images))
    return {
        "image": alignment.image.numpy(),
        "caption": alignment.caption.numpy(),
        "crops": alignment.crops.half().numpy(),
        "phrases": alignment.phrases.half().numpy(),
        "count": alignment.count.numpy(),
        "texts": np.array(alignment.texts),
    }


def from_arrays(arrays: dict[str, np.ndarray]) -> Alignment:
    """What `extract_alignment` gave, without readings and patches."""
    image, caption_, crops, phrases = (torch.from_numpy(arrays[name]).float() for name in ("image", "caption", "crops", "phrases"))
    return Alignment(image, caption_, crops, phrases, torch.from_numpy(arrays["count"]), tuple(arrays["texts"].tolist()))
