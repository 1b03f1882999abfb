"""`generate`: pictures from words, by the project's own small generator."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, positive
from detector.cli.output import require_output


def add(commands: Commands) -> None:
    generate = commands.add_parser(
        "generate", help="draw a picture of a few words with the project's own small generator (128 × 128 pixels)"
    )
    generate.add_argument("text", help='what it shows, as in "a dog on grass"')
    generate.add_argument("--out", type=Path, required=True, metavar="FILE", help="the picture; PNG keeps every pixel")
    generate.add_argument("--steps", type=positive, default=40, help="of the flow, at most 200 (default 40)")
    generate.add_argument("--guidance", type=float, default=4.0, help="how closely it follows the words; 1: not beyond them (default 4)")
    generate.add_argument("--seed", type=int, default=0, help="of the noise it starts from: another seed, another picture (default 0)")
    generate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from PIL import Image

    from detector.clip.backbone import Backbone
    from detector.clip.generator.sampling import Sampling, shipped_painter

    if arguments.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"'{arguments.out.name}' does not end as a picture does; name it as in drawing.png.")
    require_output(arguments.out)
    sampling = Sampling(arguments.steps, arguments.guidance, arguments.seed)
    picture = shipped_painter(Backbone.load()).paint([arguments.text], sampling)[0]
    Image.fromarray(picture).save(arguments.out)
    print(arguments.out)
    return 0
