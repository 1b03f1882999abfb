"""Tables by source for the model cards, written between marks so that no figure is copied by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from detector.evaluation.evaluate import write_between_marks

_MARK = re.compile(r"<!-- (sources(?: [a-z_]+)+) -->")


def sources_table(results: dict, methods: Sequence[str]) -> str:
    """Markdown from `evaluate`'s results: a row for each synthetic source with every method's AUROC, then one for each real
    source with the share that is called synthetic at logit 0 (lower is better); "–" where a method was not measured."""
    rule = "|---|---|---|" + "---|" * len(methods)
    synthetic = _rows(results, methods, "sources", lambda m: m["images"][1], lambda m: f"{m['auroc']:.3f}")
    real = _rows(results, methods, "real_sources", lambda m: m["images"], lambda m: f"{m['false_positive_rate']:.0%}")
    names = " | ".join(methods)
    return "\n".join([
        "AUROC of each generator against the real images of its split (0.5 is chance; few images say little):", "",
        f"| split | synthetic source | images | {names} |", rule, *synthetic, "",
        "Real images called synthetic at logit 0, by collection:", "",
        f"| split | real source | images | {names} |", rule, *real])


def _rows(results: dict, methods: Sequence[str], kind: str, count, text) -> list[str]:
    rows = []
    for split, found in results.items():
        measured = {method: found.get(method, {}).get(kind, {}) for method in methods}
        for source in dict.fromkeys(source for sources in measured.values() for source in sources):
            of = [sources.get(source) for sources in measured.values()]
            images = next(count(m) for m in of if m)
            rows.append(f"| {split} | {source} | {images} | " + " | ".join(text(m) if m else "–" for m in of) + " |")
    return rows


def source_marks(path: Path) -> list[str]:
    """The marks `<!-- sources METHOD … -->` of a card, without their brackets. ValueError, one sentence, if it has none."""
    marks = _MARK.findall(path.read_text(encoding="utf-8"))
    if not marks:
        raise ValueError(f"{path.name} has no marks '<!-- sources METHOD … -->' … '<!-- end sources METHOD … -->'.")
    return marks


def write_sources(path: Path, results: dict) -> None:
    """Fill every mark `<!-- sources METHOD … -->` of a card."""
    for mark in source_marks(path):
        write_between_marks(path, mark, sources_table(results, mark.split()[1:]))
