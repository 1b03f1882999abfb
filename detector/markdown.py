"""Markdown: tables, and files that a command writes its figures into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with one cell of each row below each header."""
    lines = (f"| {' | '.join(cells)} |" for cells in (headers, *rows))
    return "\n".join([next(lines), "|" + "---|" * len(headers), *lines])


def require_marks(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the marks `<!-- name -->` and `<!-- end name -->`; ValueError if there are none."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path.name} has no marks '{start}' … '{end}'.")
    return before, after


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` in a Markdown file."""
    before, after = require_marks(path, name)
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
