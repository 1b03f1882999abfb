"""`heads`: what heads there are, and the download of released ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from detector.cli.options import Commands, add_backbone
from detector.hub.catalogue import SOURCES


def add(commands: Commands) -> None:
    heads = commands.add_parser("heads", help="list every head known here: method, backbone, origin, measures, presence")
    add_backbone(heads)
    heads.add_argument("--fetch", metavar="HEAD", help="download a released head, or all of those for --backbone, first")
    heads.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.progress import byte_progress

    if arguments.fetch:
        from detector.methods.published import fetch
        from detector.methods.released import fetch_released

        with byte_progress("heads") as bar:
            if arguments.fetch == "all":
                fetch_released(arguments.backbone, bar)
            else:
                fetch(arguments.fetch, progress=bar)
    print("method\tbackbone\torigin\ttraining data\tmeasures\tstate")
    for row in (*own_heads(arguments.backbone), *published_heads()):
        print("\t".join(row))
    return 0


def own_heads(backbone: str) -> Iterator[list[str]]:
    """Rows for the methods trained by this project: method, backbone, origin, training data, measures, state."""
    from detector.clip.backbone import require_known
    from detector.methods.base import load_head
    from detector.methods.registry import METHODS, find_heads

    require_known(backbone)
    files = find_heads(backbone)
    for method in (*METHODS, "verdict"):
        if method in files:
            card = load_head(files[method])[1]
            measures = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
            yield [method, card.backbone, "trained here", card.training_data, measures, "present"]
        else:
            yield [method, backbone, "trained here", "", "", f"absent: python -m detector train {method}"]


def published_heads() -> Iterator[list[str]]:
    """Rows for the heads that others have released; they are fetched by `detector.methods.published.load(name)`, never by themselves."""
    from detector.methods.published import cache_path

    for name, source in SOURCES.items():
        state = "present" if cache_path(name).is_file() else "not downloaded"
        yield [name, source.backbone, f"{source.paper}, {source.licence}", source.training_data, "", state]
