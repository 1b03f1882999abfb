"""A job: every input of some places scored once, and written to a folder of parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detector.progress import progress
from detector.scale.engines import Pool, cluster, score_here, score_on_ray
from detector.scale.parts import ROWS, Parts
from detector.scale.places import shards
from detector.scale.scorer import Scorer, Scoring

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BATCHES = 4  # batches of files in a shard: what one task reads and decodes


@dataclass(frozen=True)
class Job:
    """places: see `detector.scale.places.shards`. out: path or URL of the folder for the rows. engine: "local" or "ray". size: pictures in
    a batch at most. resume: go on with the folder. image_column: of tables. part: rows of a
    part file, at least."""

    places: Sequence[str]
    out: str
    scoring: Scoring = Scoring()
    engine: str = "local"
    pool: Pool = field(default_factory=Pool)
    size: int = 16
    resume: bool = False
    image_column: str = ""
    part: int = ROWS


@dataclass(frozen=True)
class Outcome:
    """rows: written by this run. failed: those of them whose picture could not be read. earlier: rows that were there before."""

    rows: int
    failed: int
    earlier: int


def run(job: Job) -> Outcome:
    """Score what has no row yet. ValueError or RuntimeError, one sentence, where the job cannot start."""
    parts_of_input = shards(job.places, job.size * SHARD_BATCHES, job.image_column)
    scorer = Scorer(job.scoring)
    parts = Parts(job.out, job.scoring.form, scorer.fingerprint, job.part)
    rows = parts.start(job.resume)
    if job.engine == "ray":
        with cluster(job.pool):
            write(score_on_ray(parts_of_input, job.scoring, job.size, rows, job.pool), parts)
    else:
        write(score_here(parts_of_input, scorer, job.size, rows), parts)
    if job.resume:
        parts.settle()
    return Outcome(parts.rows, parts.failed, len(rows.pairs))


def write(tables: Iterable[pa.Table], parts: Parts) -> None:
    """Write the tables as they come; what has come is written, too, when the job is stopped."""
    try:
        for table in progress(tables, title="batches"):
            parts.add(table)
    finally:
        parts.flush()
