"""Options that several commands share, and the whole numbers that they take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from detector.assets import EMBEDDED

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # what a command adds its parser to


def add_backbone(command: argparse.ArgumentParser) -> None:
    """Add --backbone and --device."""
    command.add_argument(
        "--backbone", default=EMBEDDED, metavar="NAME", help="embedded (default), an open_clip MODEL/TAG (downloaded), or a local folder"
    )
    command.add_argument("--device", metavar="D", help="cpu, cuda, … (default: a GPU where there is one)")


FOLDER = "folder with real/ and synthetic/ (or 0_real/1_fake, nature/ai), or a manifest.csv"


def add_folders(command: argparse.ArgumentParser, words: str, required: bool = True) -> None:
    """Add --data, which takes one folder or more, may be repeated, and gives a list. words: of its help."""
    command.add_argument("--data", type=Path, nargs="+", action="extend", required=required, metavar="DIR", help=words)


def add_data(command: argparse.ArgumentParser, several: bool = False, required: bool = True) -> None:
    """Add --data and --cache. several: as `add_folders`."""
    if several:
        add_folders(command, FOLDER, required)
    else:
        command.add_argument("--data", type=Path, required=required, metavar="DIR", help=FOLDER)
    command.add_argument("--cache", type=Path, default=Path("cache"), help="folder for measured features (default cache)")


def add_write(command: argparse.ArgumentParser, mark: str) -> None:
    """Add --write, a list of Markdown files with a mark of this name."""
    command.add_argument(
        "--write",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.md",
        help=f"put the tables between the marks <!-- {mark} --> and <!-- end {mark} -->; may be repeated",
    )


def add_training(command: argparse.ArgumentParser, checkpoints: str) -> None:
    """Add --checkpoints, --resume and --threads of a long training. checkpoints: the default folder."""
    command.add_argument(
        "--checkpoints",
        type=Path,
        default=Path(checkpoints),
        help=f"folder for what --resume goes on from (default {checkpoints})",
    )
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    command.add_argument("--threads", type=positive, help="processor threads")


def add_given(command: argparse.ArgumentParser) -> None:
    """Add --given, a list of (method, file)."""
    command.add_argument(
        "--given",
        type=_method_file,
        action="append",
        default=[],
        metavar="METHOD=FILE.npz",
        help="out-of-source logits of a method that takes long, written to the cache by an earlier run; may be repeated",
    )


def add_more_images(command: argparse.ArgumentParser) -> None:
    """Add --photographs, a folder, and --resyntheses, from 0 to 1."""
    command.add_argument(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="more real pictures, a subfolder for each collection: linear_probe, orthogonal and concepts learn from them, too",
    )
    command.add_argument(
        "--resyntheses",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of the training photographs, that heads also learn from as synthetic images made of them by small autoencoders (default 0)",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def _method_file(text: str) -> tuple[str, Path]:
    method, equals, path = text.partition("=")
    if not (method and equals and path):
        raise argparse.ArgumentTypeError(f"'{text}' must be METHOD=FILE.npz")
    return method, Path(path)


def positive(text: str) -> int:
    """A whole number of at least 1; ArgumentTypeError, one sentence, for anything else."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0; ArgumentTypeError, one sentence, for anything else."""
    return _whole(text, 0)


def _whole(text: str, smallest: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {smallest}")
    return value
