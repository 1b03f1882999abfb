"""The suites behind the page, shared by all visitors, and the one action that everything starts from."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from detector.catalogue import TRAININGS
from interpret.tabs.gpu import lend, page_device

if TYPE_CHECKING:
    from detector import Suite
    from detector.heads import Evidence
    from detector.images import Photo

EMBEDDED = "embedded"
BACKBONES = {
    EMBEDDED: "Embedded: small, ours, nothing to download",
    "ViT-L-14-336-quickgelu/openai": "CLIP ViT-L/14-336 with SynthCLIC's released heads (downloads 0.9 GB or more)",
    "ViT-L-14-quickgelu/openai": "CLIP ViT-L/14 with UniversalFakeDetect's released head (downloads 0.9 GB or more)",
}

_suites: dict[str, Suite] = {}
_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Seen:
    """One analysed image in one visitor's session. record: the JSON object; evidence: without the pixels, which stay on disk."""

    record: dict
    file: str = ""
    backbone: str = EMBEDDED
    training: str = TRAININGS[0]
    evidence: Evidence | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Shown:
    """What the panels draw from. photo: decoded again, because pixels are not kept in the session."""

    seen: Seen
    suite: Suite
    photo: Photo

    @property
    def record(self) -> dict:
        return self.seen.record


def offered() -> dict[str, str]:
    """Backbones that visitors may choose: BACKBONES and those named in `CUESCOPE_BACKBONES` (separated by commas).

    Not any name: on a public server a free choice would let a stranger fill the disk.
    """
    more = [name.strip() for name in os.environ.get("CUESCOPE_BACKBONES", "").split(",") if name.strip()]
    return BACKBONES | {name: name for name in more if name not in BACKBONES}


def get_suite(name: str = EMBEDDED, progress=None) -> Suite:
    """The suite of an offered backbone, loaded when first needed; beside the embedded one only the latest other is kept.

    Raises BackboneError, one sentence, for a name that is not offered or cannot be had.
    """
    from detector import Suite
    from detector.backbone import BackboneError

    if name not in offered():
        raise BackboneError(f"That backbone is not offered here; there are {', '.join(offered())}.")
    with _locks[name]:
        if name not in _suites:
            suite = Suite.load(name, page_device(), progress)
            lend(suite.backbone)
            for other in [n for n in _suites if n not in (EMBEDDED, name)]:
                del _suites[other]
            _suites[name] = suite
        return _suites[name]


def refresh_released(name: str) -> None:
    """Let the suite of a backbone take up released heads that have been fetched since it was loaded."""
    from detector.released import load_released

    with _locks[name]:
        if suite := _suites.get(name):
            _suites[name] = suite.with_released(load_released(name))


def showing(suite: Suite, training: str) -> Suite:
    """The suite that shows the units and concepts of the released heads trained on `training`."""
    known = training if training in TRAININGS else TRAININGS[0]
    return suite.with_released(replace(suite.released, training=known))


def suite_of(seen: Seen) -> Suite:
    """The suite that an image was analysed with."""
    return get_suite(seen.backbone).showing(seen.training)


@lru_cache(maxsize=2)
def photo_of(file: str) -> Photo:
    """The decoded image behind a file of Gradio's cache, whose folder is named after its content; the last two are kept.

    So that an image is decoded once for its analysis and its panels. Raises ImageError.
    """
    from detector.images import load_photo

    return load_photo(file)


def analyze(image: str | None, backbone: str = EMBEDDED, training: str = TRAININGS[0]) -> tuple[dict | None, Seen | None]:
    """Analyse one image file.

    Args:
        image: the image file, as it is.
        backbone: "embedded", or another of the models offered, which is downloaded first where it is not here yet.
        training: the data set of the released heads whose units and concepts are shown, on backbones that have some.

    Returns:
        The same JSON object that the command line writes; `error` holds one sentence if something is unusable.
    """
    if not image:
        return None, None
    from detector.analysis import Analysis
    from detector.backbone import BackboneError
    from detector.images import ImageError

    name = os.path.basename(image)  # the folder is the server's own business
    known = backbone if backbone in offered() else None  # what is not known is neither said again nor kept
    try:
        if training not in TRAININGS:
            raise BackboneError(f"No head was trained on data of that name; there are {', '.join(TRAININGS)}.")
        photo = photo_of(image)
        suite = get_suite(backbone).showing(training)
        evidence = suite.evidence([photo])
        analysis = suite.analyses([photo], evidence)[0]
    except (ImageError, BackboneError) as error:
        record = Analysis(name, error=str(error), backbone=known).to_dict()
        return record, Seen(record, image, known or EMBEDDED)
    record = replace(analysis, file=name).to_dict()
    return record, Seen(record, image, backbone, training, replace(evidence, pixels=()))
