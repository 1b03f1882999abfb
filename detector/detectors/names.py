"""Names of detectors: `BACKBONE/METHOD`, with `@ORIGIN` for a head that others have released.

`embedded/sdd` and `vit-l-14-336/concepts` were trained by this project (or by the user), `vit-l-14-336/concepts@synthclic-combined`
and `vit-l-14/linear@univfd` by the authors of the papers. `pixels/residual` reads no backbone. `embedded/verdict` is the fusion of all
methods of a backbone. Backbones without a short name keep open_clip's: `ViT-B-32/openai/sdd`. Imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from detector.assets import EMBEDDED
from detector.hub.catalogue import SOURCES, PublishedSource

BACKBONES = {"vit-l-14-336": "ViT-L-14-336-quickgelu/openai", "vit-l-14": "ViT-L-14-quickgelu/openai"}  # short name → open_clip's
PIXELS = "pixels"  # stands for the backbone of a method that reads none
FUSED = "verdict"  # the "method" that fuses all methods of a backbone
KINDS = {"linear": "linear", "orthogonal": "orthogonal", "concept": "concepts"}  # catalogue's word → ours
VARIABLE = "CUESCOPE_DETECTORS"


class DetectorError(ValueError):
    """One sentence that says why a detector cannot be used."""


@dataclass(frozen=True)
class DetectorName:
    """backbone: as `Backbone.load` takes it, or PIXELS. method: as in the registry, or FUSED; of a released head the kind of head.
    origin: who trained a released head and on what, such as "synthclic-combined"; "" for heads trained with this project."""

    backbone: str
    method: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{short_backbone(self.backbone)}/{self.method}" + (f"@{self.origin}" if self.origin else "")

    @property
    def head(self) -> str:
        """The head's own name: a released head's in the catalogue, else the method."""
        return next((name for name, detector in RELEASED.items() if detector == self), self.method)

    @property
    def training(self) -> str | None:
        """Which of the catalogue's TRAININGS a SynthCLIC head was trained on; None for all others."""
        return self.origin.removeprefix("synthclic-") if self.origin.startswith("synthclic-") else None


def short_backbone(name: str) -> str:
    """The backbone's short name, or its own where it has none."""
    return next((short for short, long in BACKBONES.items() if long == name), name)


def _released(source: PublishedSource) -> DetectorName:
    author, _, stem = source.name.partition("/")
    origin = f"synthclic-{stem.rpartition('_')[2]}" if author == "clip-cues" else author
    return DetectorName(source.backbone, KINDS[source.method], origin)


RELEASED = {name: _released(source) for name, source in SOURCES.items()}  # a released head's name in the catalogue → detector


def parse(text: str) -> DetectorName:
    """The detector of a name. DetectorError, one sentence, for a name that is none; whether its head is here is not looked at."""
    from detector.methods.registry import METHODS, PIXEL_METHODS  # brings torch

    backbone, _, rest = text.strip().rpartition("/")
    method, _, origin = rest.partition("@")
    name = DetectorName(BACKBONES.get(backbone, backbone), method, origin)
    if not backbone or (name not in RELEASED.values() if origin else method not in {*METHODS, FUSED}):
        raise DetectorError(
            f"'{text}' is no detector: write BACKBONE/METHOD or BACKBONE/METHOD@ORIGIN, as `python -m detector heads` lists them."
        )
    if method in PIXEL_METHODS:
        return DetectorName(PIXELS, method)
    if backbone == PIXELS:
        raise DetectorError(f"The method '{method}' reads a backbone; write '{EMBEDDED}/{method}' or name another backbone.")
    return name


def parse_all(texts: Iterable[str]) -> tuple[DetectorName, ...]:
    """The detectors of several names, each once. DetectorError as for `parse`."""
    return tuple(dict.fromkeys(parse(text) for text in texts))


def from_environment(environment: Mapping[str, str] | None = None) -> list[str]:
    """The names in CUESCOPE_DETECTORS, separated by commas; the first leads. [] where it is not set."""
    value = (os.environ if environment is None else environment).get(VARIABLE, "")
    return [name.strip() for name in value.split(",") if name.strip()]
