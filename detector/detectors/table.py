"""Every detector known here in one table: the command line prints it, the page lists it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detector.assets import EMBEDDED, MODELS
from detector.detectors.measured import in_words
from detector.detectors.names import FUSED, PIXELS, RELEASED, DetectorName
from detector.hub.backbones import find_weights
from detector.hub.catalogue import SOURCES
from detector.hub.download import PublishedError
from detector.methods.base import load_head
from detector.methods.published import present
from detector.methods.registry import METHODS, PIXEL_METHODS, find_heads

PAPERS = {
    "physical": "arXiv 2604.04608",
    "physical_clip": "arXiv 2604.04608",
    "linear_probe": "arXiv 2602.12381",
    "orthogonal": "arXiv 2602.12381",
    "concepts": "arXiv 2602.12381",
    "item": "arXiv 2511.00427",
    "sdd": "arXiv 2508.12341",
}
EVALUATION = MODELS / EMBEDDED / "evaluation.json"
AUTHORS = "as its authors state, not measured here"


class DetectorRow(NamedTuple):
    """One detector in words. size: of the head's file, in kB. state: whether head and backbone are here, or what is to be done."""

    detector: str
    paper: str
    backbone: str
    trained_on: str
    measured: str
    size: str
    state: str


HEADERS = ("detector", "paper", "backbone", "trained on", "measured", "size", "state")


def detector_table(*backbones: str) -> list[DetectorRow]:
    """Every detector known here: those of the backbones given and of the embedded one, then all that others have released.

    HeadError where a head's file is damaged. Uses no network.
    """
    rows = [row for backbone in dict.fromkeys((EMBEDDED, *backbones)) for row in _trained_here(backbone)]
    return [*dict.fromkeys(rows), *_released_rows()]


def _trained_here(backbone: str) -> Iterator[DetectorRow]:
    """Rows of this project's methods and of their fusion on a backbone; on another than the embedded one only of heads that are there."""
    files = find_heads(backbone)
    for method in (*METHODS, FUSED):
        name = DetectorName(PIXELS if method in PIXEL_METHODS else backbone, method)
        if method in files:
            card = load_head(files[method])[1]
            measured = _measured(method) if backbone == EMBEDDED or method in PIXEL_METHODS else ""
            measured = measured or ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in card.metrics.items())
            reads = "none" if name.backbone == PIXELS else backbone
            paper = PAPERS.get(method, "this project")
            yield DetectorRow(str(name), paper, reads, card.training_data, measured, _kilobytes(files[method].stat().st_size), "present")
        elif backbone == EMBEDDED:
            advice = f"to be trained: python -m detector train {method} --data DIR --backbone {backbone}"
            yield DetectorRow(str(name), PAPERS.get(method, "this project"), backbone, "", "", "", advice)


def _measured(method: str, evaluation: Path = EVALUATION) -> str:
    """AUROC on this project's test images, from the file that `evaluate` writes; "" where the method is not in it."""
    results = json.loads(evaluation.read_text(encoding="utf-8"))["splits"] if evaluation.is_file() else {}
    figures = in_words(results, method, "{auroc:.2f}")
    return f"here, AUROC {figures}" if figures else ""


def _released_rows() -> Iterator[DetectorRow]:
    """Rows of the heads that others have released; a row is "present" only when its backbone is, too."""
    heads = {head for backbone in {source.backbone for source in SOURCES.values()} for head in present(backbone)}
    for head, source in SOURCES.items():
        missing = [] if head in heads else [f"the head, {_kilobytes(source.size)}"]
        missing += [] if _has_weights(source.backbone) else ["the backbone, about 0.9 GB"]
        state = f"to be fetched: {' and '.join(missing)}" if missing else "present"
        yield DetectorRow(str(RELEASED[head]), source.paper, source.backbone, source.training_data, AUTHORS, _kilobytes(source.size), state)


def _has_weights(backbone: str) -> bool:
    try:
        return find_weights(*backbone.split("/")) is not None
    except PublishedError:
        return False


def _kilobytes(size: int) -> str:
    return f"{max(1, round(size / 1000)):,} kB"
