"""Everything about one image at once: decode, one forward, every method that has a head, the verdict.

`Suite.load(name)` collects what is present for a backbone and puts the three steps together: `detector.extraction` (photos →
evidence), `detector.scoring` (evidence → scores and verdict) and `detector.assembly` (→ analyses).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from detector.analysis import Analysis
from detector.assembly import Assembly
from detector.assets import EMBEDDED
from detector.clip.backbone import Backbone
from detector.clip.captioning import captioner
from detector.data.images import ImageError, Photo, load_photo
from detector.detectors.names import FUSED, PIXELS, DetectorError, DetectorName
from detector.extraction import EVERYTHING, Extractor, evidence
from detector.hub.catalogue import TRAININGS
from detector.hub.download import Progress
from detector.methods.base import Evidence, HeadCard
from detector.methods.physical.features import luminance_variance
from detector.methods.registry import CAPTIONED, METHODS, find_heads, read_heads
from detector.methods.released import Released, load_released
from detector.parts import PartHeads
from detector.roster import Roster
from detector.scoring import Detector, MethodDetector, ReleasedDetector, Scores, score, within_limits
from detector.verdict.files import FusedVerdict, read_reference, read_verdict
from detector.verdict.fusion import Fusion
from detector.verdict.reference import Reference

BATCH_PIXELS = 60_000_000  # decoded pixels held at once while scoring files, about 180 MB

Source = str | Path | bytes | Image.Image | np.ndarray | Photo  # of one image


@dataclass(frozen=True)
class ItemReference:
    """Of validation images: captions (M, E), unit embeddings; real, synthetic: ITEM logits."""

    captions: Tensor
    real: np.ndarray
    synthetic: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Suite:
    """A backbone, the heads that fit it, the verdict over them and the released heads at hand. Safe to share between threads.

    heads, cards: by method; a method without a head has no entry. verdict: None where nothing is fused. reference: features of the
    validation images, None where there are none for this backbone. beside: suites of other backbones that speak where this one has no
    head, none of them with a `beside` of its own. leader: the detector whose logit is the verdict; None for the default. selected: of
    images nothing is computed but what the detectors read; see `only`. origins: method → who trained its head, where that was neither this
    project nor the owner of the machine.
    """

    backbone: Backbone
    heads: Mapping[str, Any]  # the class of a head follows from the method's name, see `detector.methods.registry`
    cards: Mapping[str, HeadCard]
    verdict: FusedVerdict | None = None
    released: Released = field(default_factory=lambda: Released({}))
    reference: Reference | None = None
    beside: tuple[Suite, ...] = ()
    leader: DetectorName | None = None
    selected: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str = EMBEDDED, device: str | None = None, progress: Progress | None = None, training: str = TRAININGS[0]) -> Suite:
        """Load a backbone and its heads by name, and for one from the hub the embedded suite beside it, which speaks for the methods that
        have no head on it. BackboneError or HeadError, one sentence, if that fails.

        progress: called with (bytes so far, bytes in all) while weights are downloaded. training: which of the released
        heads' training sets gives the units and concepts.
        """
        suite = cls.alone(name, device, progress, training)
        if name == EMBEDDED or Path(name).is_dir() or METHODS.keys() <= suite.heads.keys():
            return suite
        return suite.with_beside(cls.alone(EMBEDDED, device))

    @classmethod
    def alone(cls, name: str, device: str | None = None, progress: Progress | None = None, training: str = TRAININGS[0]) -> Suite:
        """Load one backbone and its heads, nothing beside it; otherwise as `load`."""
        backbone = Backbone.load(name, device, progress)
        heads, cards = read_heads(backbone)
        released, reference = load_released(name, training), read_reference(backbone)
        verdict = read_verdict(backbone, digests(cards, released))
        if reference is None and "verdict" in find_heads(backbone):
            verdict = replace(verdict, absent=(*verdict.absent, "reference"))
        if verdict.card:
            cards["verdict"] = verdict.card
        return cls(backbone, heads, cards, verdict, released, reference)

    @classmethod
    def load_detectors(cls, names: Sequence[DetectorName], device: str | None = None, progress: Progress | None = None) -> Suite:
        """The named detectors and no others, the first of which leads; of an image nothing is computed but what they read.

        Errors as for `load`, and DetectorError where a head is not here.
        """
        backbones = dict.fromkeys([name.backbone for name in names if name.backbone != PIXELS]) or {EMBEDDED: None}
        training = next((name.training for name in names if name.training), TRAININGS[0])
        first, *others = (cls.alone(backbone, device, progress, training) for backbone in backbones)
        return first.with_beside(*others).led_by(names).only(names)

    @classmethod
    def load_led_by(
        cls, names: Sequence[DetectorName], backbone: str | None = None, device: str | None = None, progress: Progress | None = None
    ) -> Suite:
        """All detectors of the named ones' backbones; the first named leads. Errors as for `load`, and DetectorError.

        backbone: the one that fills the panels where it can; None: the leader's.
        """
        named = [name.backbone for name in names if name.backbone != PIXELS]
        first, *others = dict.fromkeys([backbone or next(iter(named), EMBEDDED), *named])
        suite = cls.load(first, device, progress, next((name.training for name in names if name.training), TRAININGS[0]))
        for other in others:
            if other not in [loaded.backbone.name for loaded in suite.suites]:
                suite = suite.with_beside(cls.alone(other, device, progress))
        return suite.led_by(names)

    def with_released(self, released: Released) -> Suite:
        """The same suite with other released heads."""
        return replace(self, released=released)

    def with_training(self, training: str) -> Suite:
        """The same suite, whose units and concepts come from the released heads trained on `training`."""
        return self if training == self.released.training else self.with_released(replace(self.released, training=training))

    def with_beside(self, *others: Suite) -> Suite:
        """The same suite with more backbones beside it."""
        return replace(self, beside=(*self.beside, *others))

    def with_captioner(self, captioner: Backbone | None) -> Suite:
        """The same suite, whose captions another CoCa writes for all its backbones; None: the default one."""
        beside = tuple(suite.with_captioner(captioner) for suite in self.beside)
        return replace(self, backbone=self.backbone.with_captioner(captioner), beside=beside)

    def with_leader(self, leader: DetectorName) -> Suite:
        """The same suite, led by another detector. DetectorError, one sentence, where its head is not here."""
        if str(leader) not in self.roster.leaders:
            get = f"fetch it with `python -m detector heads --fetch {leader.head}`" if leader.origin else "train it first"
            raise DetectorError(f"The head of '{leader}' is not here; {get}, or choose another detector.")
        return self if leader == self.leader else replace(self, leader=leader, beside=tuple(replace(s, leader=leader) for s in self.beside))

    def led_by(self, names: Sequence[DetectorName]) -> Suite:
        """The same suite, led by the first of the names. DetectorError where the head of one of them is not here."""
        suite = self
        for name in reversed(names):
            suite = suite.with_leader(name)
        return suite

    def only(self, names: Sequence[DetectorName]) -> Suite:
        """The same suite with these detectors alone; of an image nothing is computed but what they read. A fusion keeps all that it fuses.

        names: of detectors that are here; those on other backbones than this suite's are passed over.
        """
        here = [name for name in names if name.backbone in (PIXELS, self.backbone.name)]
        fused = self.fusion.methods if self.fusion and any(name.method == FUSED for name in here) else ()
        heads = {*fused, *(name.head for name in here)}
        return replace(
            self,
            heads={method: head for method, head in self.heads.items() if method in heads},
            cards={method: card for method, card in self.cards.items() if method in (*heads, FUSED)},
            verdict=self.verdict.restrict(heads) if self.verdict else None,
            released=replace(self.released, heads={name: head for name, head in self.released.heads.items() if name in heads}),
            beside=tuple(suite.only(names) for suite in self.beside),
            selected=True,
        )

    # --- several backbones, one leader ---

    @property
    def suites(self) -> tuple[Suite, ...]:
        """This suite and those beside it."""
        return (self, *self.beside)

    @cached_property
    def roster(self) -> Roster:
        """The names of all detectors, who leads, and who fills which panel."""
        return Roster(self.suites, self.leader)

    @property
    def has_verdict(self) -> bool:
        """Whether the verdict was fitted on this backbone."""
        return "verdict" in self.cards and self.cards["verdict"].fingerprint == self.backbone.fingerprint

    def head_of(self, method: str) -> str | None:
        """The name of this backbone's head that fills the method's panel; None without one."""
        if method in ("orthogonal", "concepts"):
            part = self.parts.units if method == "orthogonal" else self.parts.concept_model
            return part[0] if part else None
        return method if method in self.heads else None

    def evidence_for(self, suite: Suite, evidence: Evidence) -> Evidence:
        """The part of this suite's evidence that comes from the backbone of one of `suites`."""
        return evidence.beside.get(suite.backbone.name, evidence)

    @property
    def fusion(self) -> Fusion | None:
        """The fusion of this backbone's methods' logits; None where there is no verdict."""
        return self.verdict.fusion if self.verdict else None

    @property
    def absent(self) -> tuple[str, ...]:
        """Methods that the verdict was fitted with and that have no head here; also "reference" where the reference images that
        belong to the verdict are not here."""
        return tuple(dict.fromkeys(name for suite in self.suites if suite.verdict for name in suite.verdict.absent))

    @property
    def strange_captions(self) -> tuple[str, ...]:
        """Full names of the detectors that learned from captions of another captioner than writes them now."""
        return tuple(
            str(DetectorName(suite.backbone.name, method))
            for suite in self.suites
            for method in CAPTIONED
            if method in suite.heads and suite.cards[method].details.get("captioner") != captioner(suite.backbone)
        )

    @property
    def digests(self) -> dict[str, str]:
        """Method or released head → SHA-256, by which a verdict knows the heads that it was fitted with."""
        return digests(self.cards, self.released)

    # --- the three steps ---

    @cached_property
    def extractor(self) -> Extractor:
        """Photos → features of the backbone."""
        reads = {field for method in self.heads for field in METHODS[method].evidence}
        captions = {"alignment"} & reads
        return Extractor(self.backbone, frozenset(reads) if self.selected else EVERYTHING | captions, self.released.heads)

    def reads(self, field: str) -> bool:
        """Whether a field of `Evidence` is computed of images, by this backbone or one beside it."""
        return any(field in suite.extractor.fields for suite in self.suites)

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """Name → detector: this project's methods first, then the released heads."""
        methods = {method: MethodDetector(head, self.backbone) for method, head in self.heads.items()}
        return methods | {name: ReleasedDetector(name, head) for name, head in self.released.heads.items()}

    @cached_property
    def parts(self) -> PartHeads:
        """What logits are made of, and the names of units and concepts."""
        preferred = self.leader.head if self.leader and self.leader.backbone == self.backbone.name else ""
        return PartHeads(self.backbone, self.heads, self.cards, self.released, self.reference, preferred)

    @cached_property
    def assembly(self) -> Assembly:
        """Evidence and scores → analyses."""
        return Assembly(self.parts)

    def evidence(self, images: Sequence[Photo | np.ndarray], captions: Sequence[str | None] | None = None) -> Evidence:
        """All that the methods read of B images; see `detector.extraction.evidence`."""
        if self.selected and not self.reads("alignment"):
            captions = None
        return evidence(self.extractor, images, captions, [suite.extractor for suite in self.beside])

    def score(self, evidence: Evidence) -> Scores:
        """The scores of this backbone's detectors."""
        return score(self.detectors, evidence)

    def logits(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Detector → (B,) logits: this project's methods, and the released heads whose features the evidence holds. NaN where an image
        has nothing for a method to read."""
        readable = (name for name in self.detectors if name in self.heads or name in evidence.released)
        return {name: self.detectors[name].logits(evidence) for name in readable}

    def analyses(self, photos: Sequence[Photo], evidence: Evidence) -> list[Analysis]:
        """One Analysis for each photo, in order, from the evidence of just these photos."""
        each = [suite.parts_of(photos, self.evidence_for(suite, evidence)) for suite in self.suites]
        return [self._with_verdict(self.roster.merged(analyses), photo) for photo, *analyses in zip(photos, *each, strict=True)]

    def parts_of(self, photos: Sequence[Photo], evidence: Evidence) -> list[Analysis]:
        """What this suite's own backbone says of each photo, all but the verdict."""
        return self.assembly.analyses(photos, evidence, self.score(evidence))

    def _with_verdict(self, analysis: Analysis, photo: Photo) -> Analysis:
        verdict = self.roster.verdict(analysis.detectors)
        if verdict is None:
            return replace(analysis, absent=self.absent)
        variance = analysis.physical["luminance_variance"] if analysis.physical else luminance_variance(photo.pixels)
        judged = within_limits(verdict, photo, np.inf if variance is None else variance)
        return replace(analysis, verdict=judged, leader=judged.detector, absent=self.absent)

    # --- images and files ---

    def analyze(self, source: Source, caption: str | None = None) -> Analysis:
        """Analyse one image: a path, bytes, a Pillow image, an array or a Photo. Raises ImageError if it is none.

        caption: the user's words; without them the image is captioned here, for the methods that read a caption.
        """
        photo = source if isinstance(source, Photo) else load_photo(source)
        analysis = self.analyze_photos([photo], caption)[0]
        return replace(analysis, file=str(source)) if isinstance(source, (str, Path)) else analysis

    def analyze_photos(self, photos: Sequence[Photo], caption: str | None = None) -> list[Analysis]:
        """One Analysis for each photo, in order, from one batch. caption: of all of them."""
        return self.analyses(photos, self.evidence(photos, None if caption is None else [caption] * len(photos)))

    def analyze_files(self, paths: Iterable[str | Path], batch_size: int = 16, caption: str | None = None) -> Iterator[Analysis]:
        """One Analysis for each path, in order; a file that cannot be read gives one with `error` set. caption: of all of them."""
        batch: list[tuple[str, Photo | str]] = []
        for path in paths:
            batch.append((str(path), _photo_or_sentence(path)))
            pixels = sum(item.width * item.height for _, item in batch if isinstance(item, Photo))
            if len(batch) == batch_size or pixels > BATCH_PIXELS:
                yield from self._analyze_batch(batch, caption)
                batch = []
        yield from self._analyze_batch(batch, caption)

    def _analyze_batch(self, batch: list[tuple[str, Photo | str]], caption: str | None) -> Iterator[Analysis]:
        photos = [item for _, item in batch if isinstance(item, Photo)]
        results = iter(self.analyze_photos(photos, caption) if photos else [])
        for path, item in batch:
            if isinstance(item, Photo):
                yield replace(next(results), file=path)
            else:
                yield Analysis(path, error=item, backbone=self.backbone.name)

    # --- reference ---

    @cached_property
    def item_reference(self) -> ItemReference | None:
        """What the ITEM score of an image is compared with; None where no such head was trained."""
        if "item" not in self.heads or self.reference is None or self.fusion is None or "item" not in self.fusion.methods:
            return None
        logits = self.fusion.logits[:, self.fusion.methods.index("item")]
        usable = np.isfinite(logits) & self.fusion.originals
        real, synthetic = (logits[(self.fusion.labels == label) & usable] for label in (0, 1))
        return ItemReference(self.reference.captions, real, synthetic)


def digests(cards: Mapping[str, HeadCard], released: Released) -> dict[str, str]:
    """Method or released head → SHA-256 of its tensors or of its file."""
    return {name: card.digest for name, card in cards.items()} | {name: head.source.sha256 for name, head in released.heads.items()}


def _photo_or_sentence(path: str | Path) -> Photo | str:
    """The decoded image, or the sentence that says why the file cannot be used."""
    try:
        return load_photo(path)
    except ImageError as error:
        return str(error)
