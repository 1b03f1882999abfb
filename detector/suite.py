"""Everything about one image at once: decode, one forward, every method that has a head, the verdict.

`Suite.load(name)` collects what is present for a backbone; methods without a head are absent, not null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from detector import physical, residual
from detector.backbone import EMBEDDED, MODELS, Backbone
from detector.concepts import ConceptHead
from detector.heads import Evidence, HeadCard, HeadError, check_backbone, load_head
from detector.images import FileFacts, ImageError, Photo, load_photo
from detector.orthogonal import LinearProbe, OrthogonalHead
from detector.physical_head import PhysicalHead, percentiles
from detector.residual import ResidualHead
from detector.verdict import Fusion, Verdict
from detector.vocabulary import vocabulary

METHODS = {
    "physical": PhysicalHead,
    "residual": ResidualHead,
    "linear_probe": LinearProbe,
    "orthogonal": OrthogonalHead,
    "concepts": ConceptHead,
}
BATCH_PIXELS = 60_000_000  # decoded pixels held at once while scoring files, about 180 MB
SMALLEST_SIDE = 64  # pixels; training images have 227 to 256 on the shorter side, their smallest random copies about 96
FLAT = 1e-5  # luminance variance on [0, 1]: less than one grey level of spread
PIXEL_METHODS = ("physical", "residual")  # their heads serve every backbone


@dataclass(frozen=True)
class Analysis:
    """All numbers for one image. `error` is one sentence and everything else empty where the image could not be read.

    detectors: method → logit (higher speaks for synthetic), probability σ(logit) and bias: what the method's parts lack to
    the logit. physical, percentiles: descriptor →
    value at the fixed scale, and its percentile among real and among synthetic reference images (None: not defined).
    orthogonal: activations, contributions (with `bias` they sum to the logit) and names of the units.
    """

    file: str | None
    error: str | None = None
    facts: FileFacts | None = None
    width: int | None = None
    height: int | None = None
    backbone: str | None = None
    verdict: Verdict | None = None
    detectors: dict[str, dict[str, float]] = field(default_factory=dict)
    physical: dict[str, float | None] = field(default_factory=dict)
    physical_contributions: dict[str, float] = field(default_factory=dict)
    percentiles: dict[str, dict[str, float | None]] = field(default_factory=dict)
    orthogonal: dict = field(default_factory=dict)
    concepts: list[dict] = field(default_factory=list)
    residual: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """The JSON object of the command line; methods without a head are absent."""
        start = {"file": self.file, "width": self.width, "height": self.height,
                 "format": self.facts.format if self.facts else None, "error": self.error, "backbone": self.backbone}
        if self.error:
            return start
        verdict = {name: value for name, value in vars(self.verdict).items() if value != ""} if self.verdict else None
        rest = {"verdict": verdict, "detectors": self.detectors, "physical": self.physical,
                "physical_contributions": self.physical_contributions, "physical_percentiles": self.percentiles,
                "orthogonal": self.orthogonal, "concepts": self.concepts, "residual": self.residual,
                "file_facts": vars(self.facts)}
        return start | {name: value for name, value in rest.items() if value not in (None, {}, [])}


def _number(value: float) -> float | None:
    """A plain float; None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def heads_folders(backbone: str) -> list[Path]:
    """Where a backbone's heads lie: its own folder, then the pixel methods' one."""
    own = Path(backbone) if backbone != EMBEDDED and Path(backbone).is_dir() else MODELS / backbone.replace("/", "--")
    return [own / "heads", MODELS / "pixels"]


def find_heads(backbone: str) -> dict[str, Path]:
    """Method → head file, for the methods known here that are present; the backbone's own folder wins."""
    found = {}
    for folder in heads_folders(backbone):
        for method in (*METHODS, "verdict"):
            if (folder / f"{method}.safetensors").is_file():
                found.setdefault(method, folder / f"{method}.safetensors")
    return found


def within_limits(verdict: Verdict, photo: Photo, luminance_variance: float) -> Verdict:
    """The verdict, or "inconclusive" with a reason for an image that has too little to judge. Both limits: choice, ours."""
    if min(photo.width, photo.height) < SMALLEST_SIDE:
        reason = f"The image is smaller than {SMALLEST_SIDE} pixels on a side; the methods have never seen one that small."
    elif luminance_variance < FLAT:
        reason = "The image is one flat area; there is nothing in it to judge."
    else:
        return verdict
    return replace(verdict, label="inconclusive", reason=reason)


def check_vocabulary(card: HeadCard | None) -> None:
    """Raise HeadError if the concept head was trained on another vocabulary: its numbers would get wrong names."""
    if card and card.details.get("concepts") != [concept.name for concept in vocabulary()]:
        raise HeadError("The concepts head was trained on another vocabulary; train it again with `python -m detector train`.")


class Suite:
    """A backbone, the heads that fit it, and the verdict over them. Safe to share between threads."""

    def __init__(self, backbone: Backbone, heads: dict, cards: dict[str, HeadCard], fusion: Fusion | None):
        self.backbone, self.heads, self.cards, self.fusion = backbone, heads, cards, fusion

    @classmethod
    def load(cls, name: str = EMBEDDED, device: str | None = None) -> Suite:
        """Load a backbone and its heads by name. BackboneError or HeadError, one sentence, if that fails."""
        backbone = Backbone.load(name, device)
        heads, cards, fusion = {}, {}, None
        for method, path in find_heads(name).items():
            tensors, card = load_head(path)
            check_backbone(card, name, backbone.fingerprint)
            cards[method] = card
            if method == "verdict":
                fusion = Fusion.from_tensors(card.details["methods"], tensors)
            else:
                heads[method] = METHODS[method].from_tensors(tensors)
        check_vocabulary(cards.get("concepts"))
        return cls(backbone, heads, cards, cls.fit_fusion(fusion, heads))

    @staticmethod
    def fit_fusion(fusion: Fusion | None, heads: dict) -> Fusion | None:
        """The fusion for just the methods that have a head; None where there is none."""
        if fusion is None:
            return None
        present = tuple(method for method in fusion.methods if method in heads)
        return fusion.restrict(present) if present else None

    # --- evidence ---

    def evidence(self, images: Sequence[Photo | np.ndarray]) -> Evidence:
        """All that the methods read, from one forward for the whole batch. Pixel features run in threads beside it."""
        pixels = [image.pixels if isinstance(image, Photo) else image for image in images]
        with ThreadPoolExecutor(max_workers=2) as pool:
            descriptors = pool.map(physical.measure, pixels)
            residuals = pool.map(residual.features, pixels)
            clip = self.backbone.encode(torch.stack([self.backbone.prepare(p) for p in pixels]))
            return Evidence(clip, np.stack(list(descriptors)), np.stack(list(residuals)))

    def logits(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Method → (B,) logits, for the methods that have a head."""
        return {method: np.asarray(head.score(evidence).logit, np.float64) for method, head in self.heads.items()}

    # --- analysis ---

    def analyze(self, source, caption: str | None = None) -> Analysis:
        """Analyse one image: a path, bytes, a Pillow image, an array or a Photo. Raises ImageError if it is none.

        `caption` is for the methods that read one; none of those here does yet.
        """
        photo = source if isinstance(source, Photo) else load_photo(source)
        analysis = self.analyze_photos([photo])[0]
        return replace(analysis, file=str(source)) if isinstance(source, (str, Path)) else analysis

    def analyze_photos(self, photos: Sequence[Photo]) -> list[Analysis]:
        """One Analysis for each photo, in order, from one batch."""
        evidence = self.evidence(photos)
        logits = self.logits(evidence)
        parts = self._parts(evidence)
        return [self._analysis(index, photo, evidence, logits, parts) for index, photo in enumerate(photos)]

    def analyze_files(self, paths: Iterable[str | Path], batch_size: int = 16,
                      caption: str | None = None) -> Iterator[Analysis]:
        """One Analysis for each path, in order; a file that cannot be read gives one with `error` set."""
        batch: list[tuple[str, Photo | str]] = []
        for path in paths:
            batch.append((str(path), self._read(path)))
            pixels = sum(item.width * item.height for _, item in batch if isinstance(item, Photo))
            if len(batch) == batch_size or pixels > BATCH_PIXELS:
                yield from self._flush(batch)
                batch = []
        yield from self._flush(batch)

    @staticmethod
    def _read(path: str | Path) -> Photo | str:
        try:
            return load_photo(path)
        except ImageError as error:
            return str(error)

    def _flush(self, batch: list[tuple[str, Photo | str]]) -> Iterator[Analysis]:
        photos = [item for _, item in batch if isinstance(item, Photo)]
        results = iter(self.analyze_photos(photos) if photos else [])
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
        if head := self.heads.get("orthogonal"):
            parts["activations"] = head.activations(clip.pooled).numpy()
            parts["orthogonal"] = head.contributions(clip.pooled).numpy()
        if head := self.heads.get("concepts"):
            parts["concept_activations"] = head.activations(clip.projected).numpy()
            parts["concepts"] = head.contributions(clip.projected).numpy()
        return parts

    def _analysis(self, index: int, photo: Photo, evidence: Evidence, logits: dict, parts: dict) -> Analysis:
        own = {method: float(values[index]) for method, values in logits.items()}
        scores = {m: {"probability": float(expit(v)), "logit": v, "bias": float(self.heads[m].bias)}
                  for m, v in own.items()}
        values = evidence.descriptors[index]
        variance = values[physical.NAMES.index("luminance_variance")]
        return Analysis(
            file=photo.name, facts=photo.facts, width=photo.width, height=photo.height, backbone=self.backbone.name,
            verdict=within_limits(self.fusion.decide(own), photo, variance) if self.fusion else None, detectors=scores,
            physical=dict(zip(physical.NAMES, map(_number, values), strict=True)),
            physical_contributions=self._named(physical.NAMES, parts.get("physical"), index),
            percentiles=self._percentiles(values), orthogonal=self._units(index, parts),
            concepts=self._concepts(index, parts),
            residual={name: float(part[index]) for name, part in parts.get("residual", {}).items()},
        )

    @staticmethod
    def _named(names: Sequence[str], values: np.ndarray | None, index: int) -> dict[str, float]:
        return {} if values is None else dict(zip(names, values[index].tolist(), strict=True))

    def _percentiles(self, values: np.ndarray) -> dict[str, dict[str, float | None]]:
        if "physical" not in self.heads:
            return {}
        head = self.heads["physical"]
        real, synthetic = percentiles(values, head.real), percentiles(values, head.synthetic)
        return {name: {"real": _number(r), "synthetic": _number(s)}
                for name, r, s in zip(physical.NAMES, real, synthetic, strict=True)}

    def _units(self, index: int, parts: dict) -> dict:
        if "orthogonal" not in parts:
            return {}
        return {"activations": parts["activations"][index].tolist(),
                "contributions": parts["orthogonal"][index].tolist(), "bias": float(self.heads["orthogonal"].bias),
                "names": self.cards["orthogonal"].details.get("names", [])}

    def _concepts(self, index: int, parts: dict) -> list[dict]:
        """All concepts, the largest contribution first."""
        if "concepts" not in parts:
            return []
        activations, contributions = parts["concept_activations"][index], parts["concepts"][index]
        order = np.argsort(-np.abs(contributions), kind="stable")
        words = vocabulary()
        return [{"name": words[i].name, "positive": words[i].positive, "negative": words[i].negative,
                 "activation": float(activations[i]), "contribution": float(contributions[i])} for i in order]
