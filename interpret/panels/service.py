"""The suites behind the page, shared by all visitors, and the one action that everything starts from."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import gradio as gr

from detector.assets import EMBEDDED
from detector.detectors.names import FUSED, PIXELS, RELEASED, DetectorError, DetectorName, from_environment
from detector.hub.catalogue import TRAININGS
from detector.records import AnalysisRecord
from interpret.panels import session_models
from interpret.panels.gpu import lend, page_device
from interpret.panels.store import STORE, Value, new_key
from interpret.render.text import METHOD_NAMES
from interpret.render.words import PIXEL_METHODS

if TYPE_CHECKING:
    from detector import Suite
    from detector.clip.backbone import Backbone
    from detector.data.images import Photo
    from detector.methods.base import Evidence

BACKBONES = {
    EMBEDDED: "Embedded: small, ours, nothing to download",
    "ViT-L-14-336-quickgelu/openai": "CLIP ViT-L/14-336 with SynthCLIC's released heads (downloads 0.9 GB or more)",
    "ViT-L-14-quickgelu/openai": "CLIP ViT-L/14 with UniversalFakeDetect's released head (downloads 0.9 GB or more)",
}

CAPTIONERS = {
    EMBEDDED: "Each model's own writer, else the embedded one",
    "coca_ViT-B-32/laion2b_s13b_b90k": "CoCa ViT-B/32 (downloads 1 GB)",
    "coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k": "CoCa ViT-B/32, finetuned on COCO captions (downloads 1 GB)",
}

GONE = "The image is no longer on the server; choose it again."

SUITE_LIMIT = 4 * 2**30  # bytes of weights beside the embedded model (choice): two ViT-L/14 in single precision

_suites: dict[str, Suite] = {}  # by backbone, the one used last at the end
_captioners: dict[str, Backbone] = {}  # at most one, the one used last; the embedded one is not among them
_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class StoredAnalysis:
    """record: the JSON object. evidence: without the pixels; None where the image or the model cannot be used."""

    record: AnalysisRecord
    evidence: Evidence | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CurrentImage:
    """The image analysed last in one visitor's session, as little of it as a session may hold; the rest is in the store under `key`.

    key: from `new_key`, another one for each analysis. file: the upload.
    """

    key: str
    file: str
    backbone: str = EMBEDDED
    training: str = TRAININGS[0]
    captioner: str = EMBEDDED

    @property
    def record(self) -> AnalysisRecord:
        """The JSON object, from the store or computed again."""
        return stored_analysis(self).record

    @property
    def evidence(self) -> Evidence | None:
        """What the methods read, from the store or computed again."""
        return stored_analysis(self).evidence


@dataclass(frozen=True)
class PanelSource:
    """What a panel shows its values from. photo: from the store, or decoded again."""

    current: CurrentImage
    suite: Suite
    photo: Photo

    @property
    def record(self) -> AnalysisRecord:
        """The JSON object of the image."""
        return self.current.record


def backbone_choices() -> dict[str, str]:
    """Backbones that visitors may choose: BACKBONES and those named in `CUESCOPE_BACKBONES` (separated by commas).

    Not any name: on a public server a free choice would let a stranger fill the disk.
    """
    more = [name.strip() for name in os.environ.get("CUESCOPE_BACKBONES", "").split(",") if name.strip()]
    return BACKBONES | {name: name for name in more if name not in BACKBONES}


def detector_choices(backbone: str) -> list[str]:
    """Full names of the detectors that can lead when a backbone is in use, whether their heads are here or not."""
    ours = {EMBEDDED, backbone}
    names = [DetectorName(name, method) for name in ours for method in (FUSED, *METHOD_NAMES)]
    pixels = [DetectorName(PIXELS, method) for method in PIXEL_METHODS]
    released = [name for name in RELEASED.values() if name.backbone == backbone]
    return list(map(str, [*released, *names, *pixels]))


def captioner_choices() -> dict[str, str]:
    """What may write captions: CAPTIONERS and the one that `CUESCOPE_CAPTIONER` names."""
    more = os.environ.get("CUESCOPE_CAPTIONER", "").strip()
    return CAPTIONERS | ({more: more} if more and more not in CAPTIONERS else {})


def first_captioner() -> str:
    """What writes captions before a visitor chooses."""
    return os.environ.get("CUESCOPE_CAPTIONER", "").strip() or EMBEDDED


def get_captioner(name: str, progress=None) -> Backbone | None:
    """The CoCa of an offered name, loaded when first needed, one at a time; None for the default. Raises BackboneError, one sentence."""
    if name == EMBEDDED:
        return None
    from detector.clip.captioning import load_captioner

    with _locks[name]:
        if name not in _captioners:
            captioner = load_captioner(name, page_device(), progress)
            _captioners.clear()
            _captioners[name] = captioner
        return _captioners[name]


def split_choice(choice: str) -> tuple[str, str]:
    """(backbone, full name of the detector that leads or "" for the default one) of a choice: a backbone or a detector on one.
    Raises BackboneError, one sentence that does not repeat the choice, for one that is not offered."""
    backbones = backbone_choices()
    if model := session_models.MODELS.get(choice):
        return model.choice, ""
    if isinstance(choice, str) and choice in backbones:
        return choice, ""
    for backbone in backbones:
        if choice in detector_choices(backbone) and (backbone == EMBEDDED or choice not in detector_choices(EMBEDDED)):
            return backbone, choice
    from detector.clip.backbone import BackboneError

    if isinstance(choice, str) and choice.startswith(session_models.MARK):
        raise BackboneError(session_models.GONE)
    raise BackboneError(f"That is not offered here; there are {', '.join(backbones)}, and the detectors listed under Model.")


def first_choice() -> str:
    """What is in use before a visitor chooses: the first detector in CUESCOPE_DETECTORS that is offered, else the embedded model."""
    for name in from_environment():
        if any(name in detector_choices(backbone) for backbone in backbone_choices()):
            return name
    return EMBEDDED


def get_suite(choice: str = EMBEDDED, progress=None) -> Suite:
    """The suite of an offered backbone or detector, its backbone loaded when first needed.

    Beside the embedded one as many backbones stay loaded as fit SUITE_LIMIT; the one used least recently leaves first. Raises
    BackboneError or DetectorError, one sentence, for what is not offered or cannot be had.
    """
    backbone, leader = split_choice(choice)
    suite = _loaded(backbone, progress)
    if model := session_models.MODELS.get(choice):
        return model.applied(suite)
    if not leader:
        return suite
    from detector.detectors.names import parse

    return suite.with_leader(parse(leader))


def _loaded(name: str, progress=None) -> Suite:
    """The suite of a backbone, the embedded one beside it, from memory or loaded now."""
    from detector import Suite

    embedded = () if name == EMBEDDED else (_loaded(EMBEDDED),)
    with _locks[name]:
        if name not in _suites:
            suite = Suite.alone(name, page_device(), progress).with_beside(*embedded)
            lend(suite.backbone)
            _suites[name] = suite
        _suites[name] = _suites.pop(name)  # used last
        _let_go()
        return _suites[name]


def is_loaded(backbone: str) -> bool:
    """Whether a backbone's weights are in memory."""
    return backbone in _suites


def _let_go() -> None:
    """Forget the suites used least recently until the others fit SUITE_LIMIT; the embedded one and the one used last stay."""
    others = [name for name in _suites if name != EMBEDDED]
    while len(others) > 1 and sum(map(_weight_bytes, others)) > SUITE_LIMIT:
        _suites.pop(others.pop(0), None)


def _weight_bytes(name: str) -> int:
    return sum(parameter.nbytes for parameter in _suites[name].backbone.model.parameters())


def load_first() -> None:
    """Load the embedded suite and the first choice before the first visitor asks; what is wrong is said in a sentence on stderr, and
    again to them."""
    from detector.clip.backbone import BackboneError
    from detector.methods.base import HeadError

    for choice in dict.fromkeys((EMBEDDED, first_choice())):
        try:
            keep_texts(get_suite(choice))
        except (BackboneError, DetectorError, HeadError) as error:
            print(error, file=sys.stderr)


def keep_texts(suite: Suite) -> None:
    """Embed the lists of nouns and concepts for the suite's backbones in the background, so that no visitor's request does it."""
    from detector.clip.captioning import noun_embeddings
    from detector.methods.concepts.head import concept_directions

    def embed() -> None:
        for part in suite.suites:
            if part.backbone.reads_text:
                concept_directions(part.backbone)
                noun_embeddings(part.backbone)

    if any(part.backbone.name != EMBEDDED for part in suite.suites):
        threading.Thread(target=embed, daemon=True).start()


def refresh_released(name: str) -> None:
    """Let the suite of a backbone take up released heads that have been fetched since it was loaded."""
    from detector.methods.released import load_released

    with _locks[name]:
        if suite := _suites.get(name):
            _suites[name] = suite.with_released(load_released(name))


def suite_of(current: CurrentImage) -> Suite:
    """The suite that an image was analysed with."""
    suite = get_suite(current.backbone).with_training(current.training)
    return suite if current.captioner == EMBEDDED else suite.with_captioner(get_captioner(current.captioner))


def part_of(current: CurrentImage, method: str) -> tuple[Suite, Evidence | None]:
    """The suite that fills the panel of a method, and what its backbone gives of the image; None for an image that cannot be used."""
    suite, evidence = suite_of(current), current.evidence
    part = suite.roster.suite_for(method)
    return part, None if evidence is None else suite.evidence_for(part, evidence)


def from_store(current: CurrentImage, what: Hashable, make: Callable[[], Value]) -> Value:
    """A part of what is known of this image, from the store, else made now. what: which part.

    gr.Error, one sentence, where it must be made and the upload has been deleted by age.
    """

    def make_again() -> Value:
        if not os.path.isfile(current.file):
            raise gr.Error(GONE, print_exception=False)
        return make()

    return STORE.get((current.key, what), make_again)


def photo_of(current: CurrentImage) -> Photo:
    """The decoded image, so that it is decoded once for its analysis and its panels. Raises gr.Error (`GONE`)."""
    from detector.data.images import load_photo

    return from_store(current, "photo", lambda: load_photo(current.file))


def stored_analysis(current: CurrentImage) -> StoredAnalysis:
    """All numbers on an image. Raises gr.Error (`GONE`)."""
    return from_store(current, "analysis", lambda: _analyze_file(current))


def _analyze_file(current: CurrentImage) -> StoredAnalysis:
    from detector.analysis import Analysis
    from detector.clip.backbone import BackboneError
    from detector.data.images import ImageError, load_photo
    from detector.methods.base import HeadError

    name = os.path.basename(current.file)  # the folder is the server's own business
    try:
        photo, suite = STORE.get((current.key, "photo"), lambda: load_photo(current.file)), suite_of(current)
        evidence = suite.evidence([photo])
        analysis = suite.analyses([photo], evidence)[0]
    except (ImageError, BackboneError, DetectorError, HeadError) as error:
        return StoredAnalysis(Analysis(name, error=str(error), backbone=current.backbone).to_dict())
    return StoredAnalysis(replace(analysis, file=name).to_dict(), evidence.without_pixels())


def analyze(
    image: str | None, backbone: str = EMBEDDED, training: str = TRAININGS[0], captioner: str = EMBEDDED
) -> tuple[AnalysisRecord | None, CurrentImage | None]:
    """Analyse one image file.

    Args:
        image: the image file, as it is.
        backbone: "embedded", or another of the models offered, which is downloaded first where it is not here yet; or the full name of the
            detector that is to lead, such as "embedded/sdd".
        training: the data set of the released heads whose units and concepts are shown, on backbones that have some.
        captioner: "embedded", or another of the models offered that write captions, which is downloaded first where it is not here yet.

    Returns:
        The same JSON object that the command line writes; `error` holds one sentence if something is unusable.
    """
    if not image:
        return None, None
    from detector.analysis import Analysis

    if refusal := _unknown_choice(backbone) or _unknown_training(training) or _unknown_captioner(captioner):
        return Analysis(os.path.basename(image), error=refusal).to_dict(), None
    current = CurrentImage(new_key(), image, backbone, training, captioner)
    return STORE.put((current.key, "analysis"), _analyze_file(current)).record, current


def _unknown_choice(choice: str) -> str:
    from detector.clip.backbone import BackboneError

    try:
        split_choice(choice)
    except BackboneError as error:
        return str(error)
    return ""


def _unknown_training(name: str) -> str:
    return "" if name in TRAININGS else f"No head was trained on data of that name; there are {', '.join(TRAININGS)}."


def _unknown_captioner(name: str) -> str:
    known = isinstance(name, str) and name in captioner_choices()
    return "" if known else f"No writer of captions of that name is offered; there are {', '.join(captioner_choices())}."
