"""What several commands share: paths in; JSON, CSV and the names of absent heads out."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from detector.hub.catalogue import SOURCES
from detector.records import AnalysisRecord

if TYPE_CHECKING:
    from detector.suite import Suite


def expand(paths: Iterable[str]) -> Iterator[Path]:
    """Files as given; a folder's images in sorted order, found by their endings."""
    from detector.data.datasets import IMAGE_SUFFIXES

    for name in paths:
        if not name:
            raise ValueError("An empty path was given; name an image file or a folder.")
        path = Path(name)
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
        else:
            yield path


def csv_columns(suite: Suite) -> list[str]:
    """The names of the columns of `csv_row`, in their order."""
    from detector.methods.physical.features import NAMES

    scores = [f"{method}_{what}" for method in suite.roster.names for what in ("probability", "logit")]
    descriptors = NAMES if suite.reads("descriptors") else ()
    return ["file", "width", "height", "format", "error", "backbone", "label", "probability", *scores, *descriptors]


def csv_row(record: AnalysisRecord) -> dict:
    """A flat row: the verdict, each method's logit and probability, the fifteen descriptors."""
    row: dict[str, object] = {name: record.get(name) for name in ("file", "width", "height", "format", "error", "backbone")}
    verdict = record.get("verdict")
    row |= {"label": verdict["label"] if verdict else None, "probability": verdict["probability"] if verdict else None}
    for method, score in record.get("detectors", {}).items():
        row |= {f"{method}_probability": score["probability"], f"{method}_logit": score["logit"]}
    return row | record.get("physical", {})


def require_output(*paths: Path | None) -> None:
    """Make the folders of files that are written after long work. OSError for a file that could not be written then."""
    for path in filter(None, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))


@contextmanager
def output_file(path: Path | None) -> Iterator[TextIO]:
    """The file at `path`, its folder made where it is missing; standard output for None."""
    # file names need not be text: what cannot be written is escaped, so that one name never costs the other results
    if path is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def write_records(records: Iterable[AnalysisRecord], form: str, file: TextIO, columns: list[str]) -> int:
    """Write records as they come, `form` "csv" or "jsonl"; returns how many carry an error."""
    failed = 0
    rows = csv.DictWriter(file, columns, extrasaction="ignore") if form == "csv" else None
    if rows:
        rows.writeheader()
    for record in records:
        failed += record["error"] is not None
        if rows:
            rows.writerow(csv_row(record))
        else:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
    return failed


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write one JSON object, indented; its folder is made where it is missing."""
    with output_file(path) as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def name_absent(methods: Iterable[str]) -> None:
    """Say on stderr which methods the verdict has to do without."""
    for method in methods:
        if method == "reference":
            print(
                "The reference images are absent, so typed concepts and ITEM's score are compared with nothing; get "
                "reference.safetensors again or train the heads again.",
                file=sys.stderr,
            )
        else:
            command = f"heads --fetch {method}" if method in SOURCES else f"train {method}"
            print(
                f"The {method} head is absent, so the verdict does without it; get it again with `python -m detector {command}`.",
                file=sys.stderr,
            )
