"""How far to trust a verdict: what was measured of the detector that leads, on pictures like the one at hand."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from detector.assets import EMBEDDED, MODELS
from detector.detectors.measured import UNSEEN, splits_named
from detector.evaluation.groups import SIZES, size_of
from detector.records import AnalysisRecord
from interpret.render.cards import both
from interpret.render.text import detector_of
from interpret.render.words import EVALUATION, PIXEL_METHODS, read_json

LEFT_OUT = MODELS / EMBEDDED / "leave_sources_out.json"
ROBUSTNESS = MODELS / EMBEDDED / "robustness.json"
FEW = 10  # images of a collection below which its figure says little (choice)
KIND_WORDS = {
    "portrait": ("a portrait", "portraits"),
    "place": ("a place", "places"),
    "thing": ("a thing", "things"),
    "art": ("art", "art"),
}
TITLE = "<h2>How far to trust it</h2>"


def trust_html(record: AnalysisRecord, kind: str = "") -> str:
    """`trust_facts` as a list under a title; "" without a verdict."""
    facts = trust_facts(record, kind)
    return f"{TITLE}<ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>" if facts else ""


def trust_facts(record: AnalysisRecord, kind: str = "") -> list[str]:
    """What was measured of the detector that leads, as lines of HTML: first on sources that were left out of training, then on generators
    that it never met, overall and on pictures of the same kind (a name in `KINDS`, "" where it is not known), of about the same size and
    format; none without a verdict."""
    if "verdict" not in record:
        return []
    detector = detector_of(record, "verdict")
    backbone, _, method = detector.rpartition("/")
    if backbone != EMBEDDED and method not in PIXEL_METHODS:
        return [f"{escape(detector)} was not measured by this project: take it as a hint."]
    splits = splits_named(read_json(EVALUATION).get("splits", {}), UNSEEN)
    measured = {folder: figures[method] for folder, figures in splits.items() if method in figures}
    facts = [
        _left_out(method),
        _overall(measured),
        _kind(measured, kind),
        _size(record, measured),
        _format(record, method),
        _worst_collection(measured),
    ]
    return [fact for fact in facts if fact]


def _left_out(method: str) -> str:
    """The figures on pictures of generators and collections that were left out of training together."""
    row = read_json(LEFT_OUT).get("corpora", {}).get("all", {}).get(method)
    return f"Pictures from elsewhere (whole sources left out): {_figures(row)}" if row else ""


def _overall(measured: Mapping[str, Any]) -> str:
    """The figures of all data folders in one line."""
    parts = [f"{f'{escape(folder)}, ' if folder else ''}{_figures(figures['overall'])}" for folder, figures in measured.items()]
    return f"Generators it never met: {' '.join(parts)}" if parts else "It was not measured."


def _of(folder: str) -> str:
    return f" ({escape(folder)})" if folder else ""


def _figures(row: Mapping[str, Any], images: int | None = None) -> str:
    """HTML: how often a detector is right, in plain words, and as AUROC with its interval. images: of the row, where it does not say."""
    low, high = row["auroc_95"]
    count = sum(row["images"]) if images is None else images
    expert = f"AUROC {row['auroc']:.2f} ({low:.2f} to {high:.2f}), {count} images"
    if "error_of_labelled" in row:
        labels = f"{100 * row['coverage']:.0f} of 100 get a label, of which {100 * row['error_of_labelled']:.0f} % are wrong."
        return both(labels, f"{expert}; labelled {row['coverage']:.0%}, of these wrong {row['error_of_labelled']:.0%}.")
    return both(f"of a synthetic and a real picture it picks out the synthetic one {100 * row['auroc']:.0f} times in 100.", f"{expert}.")


def _group(measured: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, Any]] | None:
    """Data folder and measures of the group of pictures of that name, where most of them were measured; None where none were."""
    groups = ((folder, figures.get("subgroups", {}).get(name, {})) for folder, figures in measured.items())
    known = [(folder, group) for folder, group in groups if "auroc" in group]
    return max(known, key=lambda item: sum(item[1]["images"]), default=None)


def _kind(measured: Mapping[str, Any], kind: str) -> str:
    """The figures of the pictures that CLIP takes for the same kind."""
    if kind not in KIND_WORDS:
        return ""
    (one, many), group = KIND_WORDS[kind], _group(measured, kind)
    words = f"on {many}{_of(group[0])}, {_figures(group[1])}" if group else f"too few {many} were measured."
    return f"Kind: CLIP takes it for {one}; {words}"


def _size(record: AnalysisRecord, measured: Mapping[str, Any]) -> str:
    """The figures of pictures whose long side is in the same range."""
    side = max(record["width"] or 0, record["height"] or 0)
    if group := _group(measured, size_of(side)):
        return f"Size: {size_of(side)}{_of(group[0])}, {_figures(group[1])}"
    largest = [name for _, name in SIZES if _group(measured, name)]
    return f"Size: {side} pixels; measured is only {largest[-1]}, so that less is known here." if largest else ""


def _format(record: AnalysisRecord, method: str) -> str:
    """The measure after the change of file that is nearest to this one, on the first data folder."""
    table = read_json(ROBUSTNESS)
    folder, changes = next(iter(splits_named(table.get("splits", {}), UNSEEN).items()), ("", {}))
    file_format, quality = record["file_facts"]["format"] or "This format", record["file_facts"]["jpeg_quality"]
    levels = [name for name in changes if name.split()[0].upper() == file_format.upper()]
    if not levels:
        return f"Format: {escape(file_format)} was not measured apart from others."
    wanted = quality if file_format == "JPEG" and quality else 80
    nearest = min(levels, key=lambda name: abs(int(name.split()[1]) - wanted))
    row = changes[nearest].get(method)
    images = sum(splits_named(table["images"], UNSEEN)[folder])
    return f"Format: saved again as {escape(nearest)}{_of(folder)}, {_figures(row, images)}" if row else ""


def _worst_collection(measured: Mapping[str, Any]) -> str:
    """The collection of real pictures that the detector takes for synthetic most often."""
    rows = [
        (row["false_positive_rate"], source)
        for figures in measured.values()
        for source, row in figures.get("real_sources", {}).items()
        if row["images"] >= FEW
    ]
    if not rows:
        return ""
    (least, best), (most, worst) = min(rows), max(rows)
    return (
        f"Of real pictures {100 * most:.0f} % look synthetic to it in the worst collection ({escape(worst)}), "
        f"{100 * least:.0f} % in the best ({escape(best)})."
    )
