"""`report`: one page about a table of scores, or about a folder of pictures, which is scored first."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from detector.cli.options import Commands, add_backbone, positive
from detector.cli.output import output_file, require_output
from detector.cli.suites import add_detector


def add(commands: Commands) -> None:
    report = commands.add_parser("report", help="one HTML page about a data set: its scores, sources, mistakes, drift, duplicates")
    report.add_argument(
        "place", metavar="SCORES", help="a table of scores (Parquet file, folder, glob), or a folder of pictures, which is scored first"
    )
    report.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the page; it needs nothing else")
    add_backbone(report)
    add_detector(report)
    report.add_argument("--batch-size", type=positive, default=16, help="images in one forward (default 16), for a folder of pictures")
    report.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.report.page import page
    from detector.report.table import ScoreTable

    place = Path(arguments.place)
    require_output(arguments.out)
    with tempfile.TemporaryDirectory(prefix="cuescope-report-") as folder:
        scores: Path | str = arguments.place
        if place.is_dir() and next(place.rglob("*.parquet"), None) is None:
            _score(arguments, folder)
            scores = folder
        text = page(ScoreTable(scores), place.name or arguments.place)
    with output_file(arguments.out) as file:
        file.write(text)
    return 0


def _score(arguments: argparse.Namespace, out: str) -> None:
    from detector.cli.suites import detectors_of
    from detector.scale.job import Job, run
    from detector.scale.scorer import Scoring

    names, backbone = detectors_of(arguments)
    scoring = Scoring(names, backbone, arguments.device, features=True)
    run(Job([arguments.place], f"{out}/scores", scoring, size=arguments.batch_size))
