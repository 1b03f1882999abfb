"""`explain`: heatmaps of one image, and what they say in numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_backbone, natural
from detector.cli.output import name_absent
from detector.cli.suites import add_captioner, add_detector, load_suite


def add(commands: Commands) -> None:
    explain = commands.add_parser(
        "explain",
        help="where the evidence lies in one image: explanation.json and heatmaps",
        description="Writes explanation.json (what score writes, and each map in numbers), and for each "
        "heatmap NAME.npy (float32, the image's height × width, NaN where nothing was read, positive for "
        "synthetic) and NAME.png; sdd.npy is the default map.",
    )
    explain.add_argument("image", metavar="IMAGE", help="an image file")
    explain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    add_backbone(explain)
    add_detector(explain)
    add_captioner(explain)
    explain.add_argument("--caption", help="words for the image, as for score")
    explain.add_argument(
        "--windows",
        type=natural,
        metavar="N",
        help="read at most N windows; a larger image is reduced to fit (default 100; 0: no limit, at full resolution)",
    )
    explain.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from detector.data.images import load_photo
    from detector.progress import byte_progress, count_progress
    from interpret.attribution import explain  # this command line is the one place that draws on both layers

    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"'{arguments.out}' is a file; --out needs a folder.")
    photo = load_photo(arguments.image)
    with byte_progress("weights") as bar:
        suite = load_suite(arguments, bar)
    name_absent(suite.absent)
    analysis = replace(suite.analyze(photo, arguments.caption), file=arguments.image)
    window_limit = explain.WINDOW_LIMIT if arguments.windows is None else arguments.windows or None
    try:
        with count_progress("windows") as bar:
            explanation = explain.explain(suite, photo, window_limit=window_limit, progress=bar)
    except explain.ExplainError:
        explain.write(analysis, None, photo.pixels, arguments.out)  # the rest is worth having
        raise
    for path in explain.write(analysis, explanation, photo.pixels, arguments.out):
        print(path)
    return 0
