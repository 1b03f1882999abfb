"""`prepare`: a public data set as a data folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, positive


def add(commands: Commands) -> None:
    prepare = commands.add_parser("prepare", help="write a public data set as a data folder with a manifest.csv")
    prepare.add_argument(
        "name", metavar="NAME", help="synthclic, synthbuster-plus, cnnspot (these also from the hub), univfd, genimage, folder or table"
    )
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    prepare.add_argument(
        "--from",
        type=Path,
        dest="source",
        metavar="PATH",
        help="local folder, or CSV file for table (default: streamed from the hub with the datasets library)",
    )
    prepare.add_argument("--limit", type=positive, help="stop after so many images of each class and split")
    prepare.add_argument(
        "--columns",
        type=columns,
        default={},
        metavar="NAME=COLUMN,…",
        help="what a table or a hub's set calls path (or image), label, source and split, such as label=target,path=file",
    )
    prepare.set_defaults(run=run)


def columns(text: str) -> dict[str, str]:
    """Our name → the column's, from `label=target,path=file`. ArgumentTypeError, one sentence, for anything else."""
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    if not all(name.strip() and column.strip() for name, column in pairs.items()):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form label=COLUMN,path=COLUMN")
    return {"image" if name.strip() == "path" else name.strip(): column.strip() for name, column in pairs.items()}


def run(arguments: argparse.Namespace) -> int:
    from detector.data.prepare import prepare

    counts = prepare(arguments.name, arguments.out, arguments.source, arguments.limit, arguments.columns)
    print(f"{counts['images']} images in {arguments.out}; {counts['skipped']} unreadable and {counts['repeated']} repeated left out")
    return 0
