"""Many images through all methods, a few at a time: what is remembered of each, tables, files to take away, and measures.

A batch is advanced in slices (`advance`), so that others get their turn on a shared server in between, and so that it goes on where it was
when the browser comes back.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from detector.analysis import Analysis
    from detector.clip.backbone import ClipFeatures
    from detector.data.collections import ImageFile
    from detector.data.images import Photo
    from detector.suite import Suite

AT_ONCE = 4  # images in one forward; a stop takes effect between forwards
THUMBNAIL = 56  # pixels, the longer side
TOP_CONCEPTS = 5
SORTS = {
    "number": "in their order",
    "file": "by name",
    "synthetic": "most synthetic first",
    "real": "most real first",
    "unsure": "least certain first",
    "concept": "by the chosen concept",
    "mistakes": "worst mistakes first",
}


@dataclass(frozen=True)
class BatchRow:
    """What is remembered of one image. number: from 1. label: 0 real, 1 synthetic, by its folder; None where that does not say. error: one
    sentence, else "". verdict, probability, logit: of the detector that leads. detectors: name → logit. concepts: (C,) contributions.
    pooled: (D,) float16. thumbnail: JPEG."""

    number: int
    file: str
    folder: str
    label: int | None
    error: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    verdict: str = ""
    probability: float = float("nan")
    logit: float = float("nan")
    detectors: dict[str, float] = field(default_factory=dict)
    physical: dict[str, float | None] = field(default_factory=dict)
    concepts: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    pooled: np.ndarray = field(default_factory=lambda: np.empty(0, np.float16), repr=False)
    thumbnail: bytes = field(default=b"", repr=False)


@dataclass
class Batch:
    """files: all of them. choice: of the backbone or detector. rows: those that are done, in order. concepts: names of the entries of
    `BatchRow.concepts`. seconds: spent so far. stopped: whether the visitor ended it."""

    files: Sequence[ImageFile]
    choice: str
    rows: list[BatchRow] = field(default_factory=list)
    concepts: tuple[str, ...] = ()
    seconds: float = 0.0
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def running(self) -> bool:
        """Whether images are still to come."""
        return not self.stopped and len(self.rows) < len(self.files)

    @property
    def usable(self) -> list[BatchRow]:
        """The rows without an error."""
        return [row for row in self.rows if not row.error]

    @property
    def labelled(self) -> bool:
        """Whether there are usable images of both classes, by the names of their folders."""
        return {0, 1} <= {row.label for row in self.usable}


def advance(batch: Batch, suite: Suite, seconds: float) -> None:
    """Analyse the next images, at least one forward of them, until `seconds` are over. One caller at a time; a second one waits."""
    from detector.steps import checkpoint

    with batch.lock:
        start = time.monotonic()
        while batch.running:
            checkpoint()
            begin = time.monotonic()
            first = len(batch.rows)
            rows = _analyse(batch, suite, range(first, min(first + AT_ONCE, len(batch.files))))
            batch.rows += rows
            batch.seconds += time.monotonic() - begin
            if time.monotonic() - start > seconds:
                return


def _analyse(batch: Batch, suite: Suite, places: range) -> list[BatchRow]:
    from detector.data.datasets import DataError
    from detector.data.images import ImageError

    photos: dict[int, Photo] = {}
    errors: dict[int, str] = {}
    for place in places:
        try:
            photos[place] = batch.files[place].photo()
        except (ImageError, DataError) as error:
            errors[place] = str(error)
    results: dict[int, BatchRow] = {}
    if photos:
        evidence = suite.evidence(list(photos.values()))
        analyses = suite.analyses(list(photos.values()), evidence)
        if not batch.concepts and analyses[0].concepts:
            batch.concepts = tuple(sorted(concept["name"] for concept in analyses[0].concepts))
        for index, (place, analysis) in enumerate(zip(photos, analyses, strict=True)):
            results[place] = _row(batch, place, photos[place], analysis, evidence.clip, index)
    failed = {place: BatchRow(**_origin(batch.files[place], place), error=sentence) for place, sentence in errors.items()}
    return [(results | failed)[place] for place in places]


def _origin(file: ImageFile, place: int) -> dict[str, Any]:
    return {"number": place + 1, "file": file.name.rpartition("/")[2], "folder": file.folder, "label": file.label}


def _row(batch: Batch, place: int, photo: Photo, analysis: Analysis, clip: ClipFeatures, index: int) -> BatchRow:
    verdict = analysis.verdict
    contributions = {concept["name"]: concept["contribution"] for concept in analysis.concepts}
    return BatchRow(
        **_origin(batch.files[place], place),
        width=photo.width,
        height=photo.height,
        format=photo.facts.format or "",
        verdict=verdict.label if verdict else "",
        probability=verdict.probability if verdict else float("nan"),
        logit=verdict.logit if verdict else float("nan"),
        detectors={name: score["logit"] for name, score in analysis.detectors.items()},
        physical=dict(analysis.physical),
        concepts=np.array([contributions.get(name, 0.0) for name in batch.concepts], np.float32),
        pooled=clip.pooled[index].cpu().numpy().astype(np.float16),
        thumbnail=_thumbnail(photo.pixels),
    )


def _thumbnail(pixels: np.ndarray) -> bytes:
    from PIL import Image

    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=80)
    return data.getvalue()


# --- progress ------------------------------------------------------------------------------------------------------


def progress_line(batch: Batch) -> str:
    """How far a batch is, in one sentence, with the time left."""
    done, total, failed = len(batch.rows), len(batch.files), len(batch.rows) - len(batch.usable)
    unread = f" {failed} could not be read." if failed else ""
    if done == total:
        return f"All {total:,} images are done.{unread}"
    if batch.stopped:
        return f"Stopped: {done:,} of {total:,} images are done.{unread}"
    left = f", about {_duration(batch.seconds / done * (total - done))} of work left" if done else ""
    return f"{done:,} of {total:,} images{left}.{unread}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


# --- table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Which rows, in which order. verdict, folder, concept: "" for all; of a concept the rows in which it is among the `TOP_CONCEPTS` that
    contribute most. sort: of `SORTS`."""

    sort: str = "number"
    verdict: str = ""
    folder: str = ""
    concept: str = ""


def select_rows(batch: Batch, view: View) -> list[BatchRow]:
    """The rows of a view in its order; rows with an error stand last."""
    place = batch.concepts.index(view.concept) if view.concept in batch.concepts else None
    rows = [
        row
        for row in batch.rows
        if (not view.verdict or row.verdict == view.verdict)
        and (not view.folder or row.folder == view.folder)
        and (place is None or _is_strong(row, place))
    ]
    keys: dict[str, Callable[[BatchRow], Any]] = {
        "file": lambda row: row.file,
        "synthetic": lambda row: -row.logit,
        "real": lambda row: row.logit,
        "unsure": lambda row: abs(row.logit),
        "concept": lambda row: -abs(float(row.concepts[place])) if place is not None else row.number,
        "mistakes": lambda row: (1 - 2 * row.label) * -row.logit if row.label is not None else np.inf,
    }
    usable = sorted((row for row in rows if not row.error), key=keys.get(view.sort, lambda row: row.number))
    return usable + [row for row in rows if row.error]


def _is_strong(row: BatchRow, place: int) -> bool:
    return bool(len(row.concepts)) and place in np.argsort(-np.abs(row.concepts))[:TOP_CONCEPTS]


def table_row(batch: Batch, row: BatchRow) -> list[Any]:
    """Number, thumbnail as HTML, file, folder, verdict, probability in percent, logit, the strongest concept or the error."""
    picture = f'<img src="data:image/jpeg;base64,{base64.b64encode(row.thumbnail).decode()}" alt="">' if row.thumbnail else ""
    if row.error:
        return [row.number, picture, row.file, row.folder, "unusable", None, None, row.error]
    strongest = batch.concepts[int(np.abs(row.concepts).argmax())] if len(row.concepts) else ""
    return [row.number, picture, row.file, row.folder, row.verdict, round(100 * row.probability, 1), round(row.logit, 2), strongest]


# --- files to take away --------------------------------------------------------------------------------------------


def records(batch: Batch) -> list[dict[str, Any]]:
    """One flat record for each image that is done; None stands for what an image has no value of."""
    return [_record(batch, row) for row in batch.rows]


def _record(batch: Batch, row: BatchRow) -> dict[str, Any]:
    names = ("number", "file", "folder", "label", "error", "width", "height", "format", "verdict", "probability", "logit")
    plain = {name: getattr(row, name) for name in names}
    if row.error:
        plain |= dict.fromkeys(("width", "height", "format", "verdict", "probability", "logit"))
    detectors = {f"logit: {name}": value for name, value in row.detectors.items()}
    concepts = {f"concept: {name}": round(float(value), 5) for name, value in zip(batch.concepts, row.concepts, strict=False)}
    return plain | detectors | row.physical | concepts


def to_jsonl(batch: Batch) -> bytes:
    """One JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records(batch)).encode()


def to_csv(batch: Batch) -> bytes:
    """One row for each image; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    rows = records(batch)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows([{name: _harmless(value) for name, value in row.items()} for row in rows])
    return text.getvalue().encode()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def to_parquet(batch: Batch) -> bytes:
    """The same table as Parquet. ImportError without pyarrow."""
    import pandas

    data = io.BytesIO()
    pandas.DataFrame(records(batch)).to_parquet(data)
    return data.getvalue()


# --- map and measures ----------------------------------------------------------------------------------------------


def embedding(pooled: np.ndarray, method: str) -> np.ndarray:
    """(N, D) features → (N, 2) places. method: "PCA", "t-SNE", or "UMAP" where umap-learn is installed. At least 5 images."""
    from sklearn.decomposition import PCA

    features = pooled.astype(np.float32)
    features = features - features.mean(0)
    short = PCA(min(30, *features.shape), random_state=0).fit_transform(features)
    if method == "UMAP":
        from umap import UMAP

        return np.asarray(UMAP(random_state=0, n_neighbors=min(15, len(short) - 1)).fit_transform(short))
    if method == "t-SNE":
        from sklearn.manifold import TSNE

        return TSNE(perplexity=min(30, (len(short) - 1) / 3), init="pca", random_state=0).fit_transform(short)
    return short[:, :2]


def colours(batch: Batch, by: str) -> list[Any]:
    """For each usable row what colours its dot. by: "folder", "verdict", "concept: NAME" or "descriptor: NAME"."""
    kind, _, name = by.partition(": ")
    if kind == "concept" and name in batch.concepts:
        place = batch.concepts.index(name)
        return [float(row.concepts[place]) for row in batch.usable]
    if kind == "descriptor":
        return [row.physical.get(name) for row in batch.usable]
    return [row.folder or "no folder" if by == "folder" else row.verdict or "none" for row in batch.usable]


def colour_choices(batch: Batch) -> list[str]:
    """All that `colours` takes."""
    descriptors = list(batch.usable[0].physical) if batch.usable else []
    return ["folder", "verdict", *(f"descriptor: {name}" for name in descriptors), *(f"concept: {name}" for name in batch.concepts)]


def labels_and_logits(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """(N,) labels and (N,) logits of the rows whose folder says what they are."""
    rows = [row for row in batch.usable if row.label is not None and np.isfinite(row.logit)]
    return np.array([row.label for row in rows]), np.array([row.logit for row in rows])


def measures_sentence(batch: Batch) -> str:
    """AUROC with interval, accuracy and calibration over the labelled rows; "" without labels of both classes."""
    if not batch.labelled:
        return ""
    from detector.evaluation.metrics import measures

    labels, logits = labels_and_logits(batch)
    result: Any = measures(labels, logits)
    (real, synthetic), (low, high) = result["images"], result["auroc_95"]
    return (
        f"By the names of the folders {real} images are real and {synthetic} synthetic: AUROC {result['auroc']:.2f} ({low:.2f} to "
        f"{high:.2f}, 95 % interval), balanced accuracy {100 * result['balanced_accuracy']:.0f} %, calibration error {result['ece']:.2f}."
    )
