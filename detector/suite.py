"""Everything about one image at once: decode, one forward, every method that has a head, the verdict.

`Suite.load(name)` collects what is present for a backbone; methods without a head are absent, not null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from detector.analysis import Analysis
from detector.assets import EMBEDDED
from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import user_caption
from detector.clip.vocabulary import Concept, vocabulary
from detector.data.images import ImageError, Photo, load_photo
from detector.devices import to_numpy
from detector.hub.catalogue import TRAININGS
from detector.hub.download import Progress
from detector.methods.base import Evidence, HeadCard
from detector.methods.concepts.head import ConceptHead, concept_directions
from detector.methods.item.alignment import align, record
from detector.methods.orthogonal.head import OrthogonalHead
from detector.methods.orthogonal.naming import name_units
from detector.methods.physical import features as physical
from detector.methods.physical.head import percentiles
from detector.methods.physical_clip.text import written
from detector.methods.registry import CAPTIONED, find_heads, read_heads
from detector.methods.released import Released, load_released, released_features
from detector.methods.residual import features as residual
from detector.verdict.files import read_reference, read_verdict
from detector.verdict.fusion import Fusion, Verdict
from detector.verdict.reference import Reference

BATCH_PIXELS = 60_000_000  # decoded pixels held at once while scoring files, about 180 MB
SMALLEST_SIDE = 64  # pixels; training images have 227 to 256 on the shorter side, their smallest random copies about 96
FLAT = 1e-5  # luminance variance on [0, 1]: less than one grey level of spread


def _number(value: float) -> float | None:
    """A plain float; None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def within_limits(verdict: Verdict, photo: Photo, luminance_variance: float) -> Verdict:
    """The verdict, or "inconclusive" with a reason for an image that has too little to judge. Both limits: choice, ours."""
    if min(photo.width, photo.height) < SMALLEST_SIDE:
        reason = f"The image is smaller than {SMALLEST_SIDE} pixels on a side; the methods have never seen one that small."
    elif luminance_variance < FLAT:
        reason = "The image is one flat area; there is nothing in it to judge."
    else:
        return verdict
    return replace(verdict, label="inconclusive", reason=reason)


@dataclass(frozen=True)
class ItemReference:
    """Of validation images: captions (M, E), unit embeddings; real, synthetic: ITEM logits."""

    captions: Tensor
    real: np.ndarray
    synthetic: np.ndarray


class Suite:
    """A backbone, the heads that fit it, the released heads at hand, and the verdict. Safe to share between threads.

    absent: methods that the verdict was fitted with and that have no head here, so that it does without them, and "reference" where
    the reference images that belong to them are not here.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: dict,
        cards: dict[str, HeadCard],
        fusion: Fusion | None,
        released: Released = Released({}),
        reference: Reference | None = None,
        absent: tuple[str, ...] = (),
    ):
        self.backbone, self.heads, self.cards, self.fusion = backbone, heads, cards, fusion
        self.released, self.reference, self.absent = released, reference, absent

    @classmethod
    def load(cls, name: str = EMBEDDED, device: str | None = None, progress: Progress | None = None, training: str = TRAININGS[0]) -> Suite:
        """Load a backbone and its heads by name. BackboneError or HeadError, one sentence, if that fails.

        progress: called with (bytes so far, bytes in all) while weights are downloaded. training: which of the released
        heads' training sets gives the units and concepts, for a backbone without heads of its own.
        """
        backbone = Backbone.load(name, device, progress)
        heads, cards = read_heads(backbone)
        verdict, reference = read_verdict(backbone, cards), read_reference(backbone)
        missing = ("reference",) if reference is None and "verdict" in find_heads(name) else ()
        cards["verdict"] = verdict.card
        return cls(backbone, heads, cards, verdict.fusion, load_released(name, training), reference, verdict.absent + missing)

    def with_released(self, released: Released) -> Suite:
        """The same suite with other released heads."""
        return Suite(self.backbone, self.heads, self.cards, self.fusion, released, self.reference, self.absent)

    def showing(self, training: str) -> Suite:
        """The same suite that shows the units and concepts of the released heads trained on `training`."""
        return self if training == self.released.training else self.with_released(replace(self.released, training=training))

    # --- evidence ---

    def evidence(self, images: Sequence[Photo | np.ndarray], captions: Sequence[str | None] | None = None) -> Evidence:
        """All that the methods read, from one forward for the whole batch. Pixel features run in threads beside it.

        captions: the user's words for each image, None where the image is to be captioned here. Images are compared with
        captions where a method reads them or the user gave some.
        """
        pixels = [image.pixels if isinstance(image, Photo) else image for image in images]
        with ThreadPoolExecutor(max_workers=2) as pool:
            descriptors = pool.map(physical.measure, pixels)
            residuals = pool.map(residual.features, pixels)
            prepared = torch.stack([self.backbone.prepare(p) for p in pixels])
            clip = self.backbone.encode(prepared)
            released = released_features(self.released.heads, self.backbone, pixels, clip)
            told = captions is not None or not self.heads.keys().isdisjoint(CAPTIONED)
            alignment = self._aligned(pixels, prepared, clip, captions) if told else None
            return Evidence(clip, np.stack(list(descriptors)), np.stack(list(residuals)), pixels, alignment, released=released)

    def _aligned(self, pixels: Sequence[np.ndarray], prepared: Tensor, clip: ClipFeatures, captions: Sequence[str | None] | None):
        given = captions or [None] * len(pixels)
        return align(self.backbone, pixels, prepared, clip, [None if words is None else user_caption(words) for words in given])

    def physical_texts(self, evidence: Evidence) -> list[str]:
        """What CLIP's text tower reads of each image: caption and core descriptors; [] where no method reads them so."""
        head = self.heads.get("physical_clip")
        if head is None or evidence.alignment is None:
            return []
        return written(self.backbone, evidence.alignment.texts, evidence.descriptors, to_numpy(head.limits), head.core_names)

    @cached_property
    def item_reference(self) -> ItemReference | None:
        """What the ITEM score of an image is compared with; None where no such head was trained."""
        if "item" not in self.heads or self.reference is None or self.fusion is None or "item" not in self.fusion.methods:
            return None
        logits = self.fusion.logits[:, self.fusion.methods.index("item")]
        usable = np.isfinite(logits) & self.fusion.originals
        real, synthetic = (logits[(self.fusion.labels == label) & usable] for label in (0, 1))
        return ItemReference(self.reference.captions, real, synthetic)

    def logits(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Method → (B,) logits, for the methods that have a head. NaN where an image has nothing for a method to read."""
        if head := self.heads.get("physical_clip"):
            evidence = head.with_text(self.backbone, evidence, evidence.alignment.texts)
        return {method: np.asarray(head.score(evidence).logit, np.float64) for method, head in self.heads.items()}

    def released_logits(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Name of a released head → (B,) logits, as its authors' code gives them: not calibrated here."""
        return {name: to_numpy(head.logits(evidence.released[name])).astype(np.float64) for name, head in self.released.heads.items()}

    def units(self) -> tuple[str, OrthogonalHead] | None:
        """(name, head) of the orthogonal head that is shown: the backbone's own, else a released one."""
        if head := self.heads.get("orthogonal"):
            return "orthogonal", head
        name = self.released.shown("clip_orthogonal")
        return (name, self.released.heads[name].head) if name else None

    def concept_model(self) -> tuple[str, ConceptHead] | None:
        """(name, head) of the concept model that is shown: the backbone's own, else a released one."""
        if head := self.heads.get("concepts"):
            return "concepts", head
        name = self.released.shown("cm_antonyms")
        return (name, self.released.heads[name].head) if name else None

    @cached_property
    def _released_names(self) -> dict:
        """Names of a released head's units, by plain geometry: there are no reference images for its backbone."""
        words, directions = self.concept_space()
        return name_units(self.units()[1].weight, directions, self.backbone.projection, words)

    def concept_space(self) -> tuple[tuple[Concept, ...], Tensor]:
        """The antonym pairs and their unit directions (C, E): the shown concept model's, else our vocabulary's, encoded now."""
        if shown := self.concept_model():
            return self.concept_words(), shown[1].directions
        return vocabulary(), concept_directions(self.backbone)

    def unit_names(self) -> dict:
        """ "names", "text_span", "chance" and "named" of the units shown: see `naming.name_units`."""
        name, _ = self.units()
        details = self.cards[name].details if name in self.cards else self._released_names
        return {key: details[key] for key in ("names", "text_span", "chance", "named")}

    def concept_words(self) -> tuple[Concept, ...]:
        """The antonym pair behind each row of the concept model that is shown."""
        if "concepts" in self.heads:
            return vocabulary()
        shown = self.concept_model()
        return tuple(map(self.released.concept, range(len(shown[1].weight)))) if shown else ()

    # --- analysis ---

    def analyze(self, source, caption: str | None = None) -> Analysis:
        """Analyse one image: a path, bytes, a Pillow image, an array or a Photo. Raises ImageError if it is none.

        caption: the user's words; without them the image is captioned here, for the methods that read a caption.
        """
        photo = source if isinstance(source, Photo) else load_photo(source)
        analysis = self.analyze_photos([photo], caption)[0]
        return replace(analysis, file=str(source)) if isinstance(source, (str, Path)) else analysis

    def analyze_photos(self, photos: Sequence[Photo], caption: str | None = None) -> list[Analysis]:
        """One Analysis for each photo, in order, from one batch. caption: of all of them."""
        return self.analyses(photos, self.evidence(photos, None if caption is None else [caption] * len(photos)))

    def analyses(self, photos: Sequence[Photo], evidence: Evidence) -> list[Analysis]:
        """One Analysis for each photo, in order, from the evidence of just these photos."""
        logits, released = self.logits(evidence), self.released_logits(evidence)
        parts = self._parts(evidence)
        return [self._analysis(index, photo, evidence, logits, released, parts) for index, photo in enumerate(photos)]

    def analyze_files(self, paths: Iterable[str | Path], batch_size: int = 16, caption: str | None = None) -> Iterator[Analysis]:
        """One Analysis for each path, in order; a file that cannot be read gives one with `error` set. caption: of all of them."""
        batch: list[tuple[str, Photo | str]] = []
        for path in paths:
            batch.append((str(path), self._read(path)))
            pixels = sum(item.width * item.height for _, item in batch if isinstance(item, Photo))
            if len(batch) == batch_size or pixels > BATCH_PIXELS:
                yield from self._flush(batch, caption)
                batch = []
        yield from self._flush(batch, caption)

    @staticmethod
    def _read(path: str | Path) -> Photo | str:
        try:
            return load_photo(path)
        except ImageError as error:
            return str(error)

    def _flush(self, batch: list[tuple[str, Photo | str]], caption: str | None) -> Iterator[Analysis]:
        photos = [item for _, item in batch if isinstance(item, Photo)]
        results = iter(self.analyze_photos(photos, caption) if photos else [])
        for path, item in batch:
            if isinstance(item, Photo):
                yield replace(next(results), file=path)
            else:
                yield Analysis(path, error=item, backbone=self.backbone.name)

    def _parts(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Method → what its logit is made of, for the whole batch."""
        parts, clip = {}, evidence.clip
        if head := self.heads.get("physical"):
            parts["physical"] = head.contributions(evidence.descriptors)
        if head := self.heads.get("residual"):
            parts["residual"] = head.contributions(evidence.residual)
        parts["texts"] = dict(enumerate(self.physical_texts(evidence)))
        for kind, shown, own in (("units", self.units(), clip.pooled), ("concepts", self.concept_model(), clip.projected)):
            if shown:
                features = evidence.released.get(shown[0], own)
                parts[f"{kind}_activations"] = to_numpy(shown[1].activations(features))
                parts[kind] = to_numpy(shown[1].contributions(features))
        return parts

    def _analysis(self, index: int, photo: Photo, evidence: Evidence, logits: dict, released: dict, parts: dict) -> Analysis:
        own = {method: float(values[index]) for method, values in logits.items()}
        heads = self.heads | self.released.heads
        scores = {
            name: {"probability": float(expit(values[index])), "logit": float(values[index]), "bias": float(heads[name].bias)}
            for name, values in (logits | released).items()
            if np.isfinite(values[index])
        }
        values = evidence.descriptors[index]
        variance = values[physical.NAMES.index("luminance_variance")]
        shown = {"orthogonal": self.units(), "concepts": self.concept_model()}
        return Analysis(
            file=photo.name,
            facts=photo.facts,
            width=photo.width,
            height=photo.height,
            backbone=self.backbone.name,
            absent=self.absent,
            verdict=within_limits(self.fusion.decide(own), photo, variance) if self.fusion else None,
            detectors=scores,
            physical=dict(zip(physical.NAMES, map(_number, values), strict=True)),
            physical_contributions=self._named(physical.NAMES, parts.get("physical"), index),
            percentiles=self._percentiles(values),
            orthogonal=self._units(index, parts),
            concepts=self._concepts(index, parts),
            head={what: found[0] for what, found in shown.items() if found},
            residual={name: float(part[index]) for name, part in parts.get("residual", {}).items()},
            item=record(evidence.alignment, index) if evidence.alignment else {},
            physical_text=parts.get("texts", {}).get(index, ""),
        )

    @staticmethod
    def _named(names: Sequence[str], values: np.ndarray | None, index: int) -> dict[str, float]:
        return {} if values is None else dict(zip(names, values[index].tolist(), strict=True))

    def _percentiles(self, values: np.ndarray) -> dict[str, dict[str, float | None]]:
        if "physical" not in self.heads:
            return {}
        head = self.heads["physical"]
        real, synthetic = percentiles(values, head.real), percentiles(values, head.synthetic)
        return {name: {"real": _number(r), "synthetic": _number(s)} for name, r, s in zip(physical.NAMES, real, synthetic, strict=True)}

    def _units(self, index: int, parts: dict) -> dict:
        if "units" not in parts:
            return {}
        _, head = self.units()
        return {
            "activations": parts["units_activations"][index].tolist(),
            "contributions": parts["units"][index].tolist(),
            "bias": float(head.bias),
        } | self.unit_names()

    def _concepts(self, index: int, parts: dict) -> list[dict]:
        """All concepts, the largest contribution first."""
        if "concepts" not in parts:
            return []
        activations, contributions, words = parts["concepts_activations"][index], parts["concepts"][index], self.concept_words()
        order = np.argsort(-np.abs(contributions), kind="stable")
        return [
            {
                "name": words[i].name,
                "positive": words[i].positive,
                "negative": words[i].negative,
                "activation": float(activations[i]),
                "contribution": float(contributions[i]),
            }
            for i in order
        ]
