"""`score` as a job: rows in a folder of parts, in this process or on Ray Data."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from detector.cli.options import positive
from detector.cli.suites import detectors_of

if TYPE_CHECKING:
    from detector.scale.job import Job


def add_options(score: argparse.ArgumentParser) -> None:
    """Add what a job needs to the parser of `score`."""
    job = score.add_argument_group(
        "jobs",
        "with --engine ray, --format parquet, --features or --resume, PATH may also be a glob, a list (.txt), a WebDataset archive (.tar), "
        "a Parquet file, hf:NAME[:SPLIT] or an fsspec URL, and --out is a folder (or URL) of part files; see docs/scale.md",
    )
    job.add_argument("--engine", choices=["local", "ray"], default="local", help="this process (default) or Ray Data, extra [scale]")
    job.add_argument("--actors", type=positive, default=1, help="processes with a model each (default 1)")
    job.add_argument("--cpus", type=float, default=1, metavar="N", help="processors of an actor (default 1)")
    job.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs of an actor; 0.5: two share one (default 0)")
    job.add_argument("--cores", type=positive, metavar="N", help="processors of the local cluster (default: all)")
    job.add_argument("--address", metavar="ADDRESS", help="join this Ray cluster instead of starting a local one")
    job.add_argument("--resume", action="store_true", help="go on with the folder --out; rows that it holds are not made again")
    job.add_argument("--features", action="store_true", help="embeddings are columns, too (parquet), for `train --features`")
    job.add_argument("--part-rows", type=positive, default=4096, metavar="N", help="rows of a part file (default 4096, or a minute)")
    job.add_argument("--image-column", default="", metavar="NAME", help="column of tables with the pictures (default: by its name)")


def is_job(arguments: argparse.Namespace) -> bool:
    """Whether the options ask for a job."""
    return arguments.engine == "ray" or arguments.format == "parquet" or arguments.resume or arguments.features


def run_job(arguments: argparse.Namespace) -> int:
    """Run the job that the options describe. 0 only when every input could be read."""
    from detector.scale.job import run

    outcome = run(job_of(arguments))
    earlier = f", {outcome.earlier} were there" if outcome.earlier else ""
    print(f"{outcome.rows} rows written to {arguments.out}{earlier}.", file=sys.stderr)
    if outcome.failed:
        print(f"{outcome.failed} of them could not be read; see their 'error'.", file=sys.stderr)
    return 1 if outcome.failed else 0


def job_of(arguments: argparse.Namespace) -> Job:
    """The `Job` of the options. ValueError, one sentence, for options that do not fit one another."""
    from detector.scale.engines import Pool
    from detector.scale.job import Job
    from detector.scale.scorer import Scoring

    if arguments.out is None:
        raise ValueError("A job writes a folder of parts; name it with --out.")
    if arguments.format == "csv":
        raise ValueError("A job writes parquet or jsonl; choose one with --format.")
    if arguments.features and arguments.format != "parquet":
        raise ValueError("Embeddings are written with --format parquet only.")
    if not (arguments.cpus >= 0 and arguments.gpus >= 0):  # NaN, too
        raise ValueError("--cpus and --gpus must be 0 or more.")
    names, backbone = detectors_of(arguments)
    scoring = Scoring(
        names,
        backbone,
        arguments.device,
        arguments.caption,
        arguments.features,
        arguments.format,
        arguments.released,
        alone=bool(arguments.detectors),
        captioner=arguments.captioner,
    )
    pool = Pool(arguments.actors, arguments.cpus, arguments.gpus, arguments.cores, arguments.address)
    return Job(
        arguments.paths,
        _url(str(arguments.out)),
        scoring,
        arguments.engine,
        pool,
        size=arguments.batch_size,
        resume=arguments.resume,
        image_column=arguments.image_column,
        part=arguments.part_rows,
    )


def _url(out: str) -> str:
    """A path as it was typed: argparse's Path makes s3:/bucket of s3://bucket."""
    scheme, colon, rest = out.partition(":/")
    return f"{scheme}://{rest.lstrip('/')}" if colon and len(scheme) > 1 and not scheme.startswith("/") and "/" not in scheme else out
