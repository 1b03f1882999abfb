"""`generator`: training of the small text-to-image generator."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_training, add_write, positive


def add(commands: Commands) -> None:
    generator = commands.add_parser("generator", help="train the small text-to-image generator of `generate` and of the examples")
    generator.add_argument("--pairs", type=Path, required=True, help="folder with train.tar and captions.csv")
    generator.add_argument("--epochs", type=positive, default=60, help="of 100 batches of 192 pictures (default 60)")
    generator.add_argument("--out", type=Path, metavar="FILE", help="the weights (default: the shipped file)")
    add_training(generator, "checkpoints/generator")
    generator.add_argument("--measure", action="store_true", help="measure the weights that are there, on the test split; train nothing")
    add_write(generator, "generator")
    generator.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from detector.clip.autoencoder import load_autoencoder
    from detector.clip.backbone import Backbone
    from detector.clip.generator.measures import generator_report, measure_generator
    from detector.clip.generator.model import WEIGHTS, load_generator
    from detector.clip.generator.sampling import Painter
    from detector.clip.generator.train import Recipe, train_generator
    from detector.markdown import require_marks, write_between_marks

    for path in arguments.write:
        require_marks(path, "generator")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    weights = arguments.out or WEIGHTS
    if not arguments.measure:
        train_generator(arguments.pairs, arguments.checkpoints, Recipe(epochs=arguments.epochs), arguments.resume, weights)
    painter = Painter(load_generator(weights), load_autoencoder(), Backbone.load())
    report = generator_report(measure_generator(painter, arguments.pairs))
    print(report)
    for path in arguments.write:
        write_between_marks(path, "generator", report)
    return 0
