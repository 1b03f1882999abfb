"""`heads`: what heads there are, and the download of released ones."""

from __future__ import annotations

import argparse

from detector.cli.options import Commands, add_backbone


def add(commands: Commands) -> None:
    heads = commands.add_parser(
        "heads", help="list every detector known here: paper, backbone, training data, measures, size, whether it is here"
    )
    add_backbone(heads)
    heads.add_argument("--fetch", metavar="HEAD", help="download a released head, or all of those for --backbone, first")
    heads.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.clip.backbone import require_known
    from detector.detectors.table import HEADERS, detector_table

    require_known(arguments.backbone)
    if arguments.fetch:
        _fetch(arguments.fetch, arguments.backbone)
    print("\t".join(HEADERS))
    for row in detector_table(arguments.backbone):
        print("\t".join(row))
    return 0


def _fetch(head: str, backbone: str) -> None:
    """Download one released head, by its own name or its detector's, or with "all" those of the backbone."""
    from detector.detectors.names import RELEASED
    from detector.methods.published import fetch
    from detector.methods.released import fetch_released
    from detector.progress import byte_progress

    heads = {str(detector): name for name, detector in RELEASED.items()}
    with byte_progress("heads") as bar:
        if head == "all":
            fetch_released(backbone, bar)
        else:
            fetch(heads.get(head, head), progress=bar)
