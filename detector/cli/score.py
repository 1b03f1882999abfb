"""`score`: one JSON object or CSV row for each image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.cli import scale
from detector.cli.options import Commands, add_backbone, positive
from detector.cli.output import csv_columns, expand, name_absent, output_file, require_output, write_records
from detector.cli.suites import add_captioner, add_detectors, load_suite
from detector.hub.catalogue import TRAININGS


def add(commands: Commands) -> None:
    score = commands.add_parser("score", help="score images: one JSON object or CSV row each, in the order given")
    score.add_argument("paths", nargs="+", metavar="PATH", help="image files or folders (searched through, sorted)")
    add_backbone(score)
    add_detectors(score)
    add_captioner(score)
    score.add_argument("--caption", help="words for the image, instead of a caption made from its pixels; for all images given")
    score.add_argument(
        "--released",
        choices=TRAININGS,
        default=TRAININGS[0],
        help="training set of the released heads whose units and concepts are written, for a backbone that has "
        "no heads of its own (default combined)",
    )
    score.add_argument("--out", type=Path, help="write here instead of standard output")
    score.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
    score.add_argument("--batch-size", type=positive, default=16, help="images in one forward (default 16)")
    scale.add_options(score)
    score.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.progress import byte_progress, progress

    if scale.is_job(arguments):
        return scale.run_job(arguments)
    paths = list(expand(arguments.paths))
    if not paths:
        raise ValueError("There is no image in the folder(s) given.")
    if arguments.out and arguments.out.resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"'{arguments.out}' is one of the images; write the scores to another file.")
    require_output(arguments.out)
    with byte_progress("weights") as bar:
        suite = load_suite(arguments, bar, arguments.released)
    name_absent(suite.absent)
    analyses = suite.analyze_files(paths, arguments.batch_size, caption=arguments.caption)
    records = (analysis.to_dict() for analysis in progress(analyses, len(paths), "score"))
    with output_file(arguments.out) as file:
        failed = write_records(records, arguments.format, file, csv_columns(suite))
    if failed:
        print(f"{failed} of {len(paths)} files could not be read; see their 'error'.", file=sys.stderr)
    return 1 if failed else 0
