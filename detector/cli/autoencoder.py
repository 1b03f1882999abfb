"""`autoencoder`: the small generator behind the synthetic examples."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, positive


def add(commands: Commands) -> None:
    autoencoder = commands.add_parser("autoencoder", help="train the small generator behind the synthetic examples")
    autoencoder.add_argument("--pairs", type=Path, required=True, help="folder with train.tar and captions.csv")
    autoencoder.add_argument("--steps", type=positive, default=1000, help="batches of 24 crops (default 1000)")
    autoencoder.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.clip.autoencoder import Crops, train_autoencoder

    print(f"mean loss of the last steps: {train_autoencoder(arguments.pairs, Crops(arguments.steps)):.4f}")
    return 0
