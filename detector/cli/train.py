"""`train`: heads on labelled folders, then the verdict over them."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_backbone, add_data, add_given, add_more_images, natural, positive


def add(commands: Commands) -> None:
    train = commands.add_parser("train", help="train heads on labelled folders, then the verdict over them")
    train.add_argument("method", metavar="METHOD", help="a method's name, or all")
    add_data(train, several=True, required=False)
    train.add_argument(
        "--features",
        type=Path,
        metavar="FILE.parquet",
        help="in place of --data: embeddings stored by `score --features`, for linear_probe, orthogonal, concepts, item or all four",
    )
    add_backbone(train)
    train.add_argument("--out", type=Path, help="folder for the head files (default: in CUESCOPE_HOME)")
    train.add_argument("--copies", type=natural, default=4, help="random copies of each training image (default 4)")
    train.add_argument("--seed", type=natural, default=0, help="of the random copies and of training (default 0)")
    train.add_argument(
        "--recipe",
        choices=["ours", "paper"],
        default="ours",
        help="how it is trained; paper: linear_probe, orthogonal, concepts, item, sdd",
    )
    train.add_argument(
        "--maps",
        choices=["frozen", "tuned"],
        default="frozen",
        help="of physical_clip: both embeddings as they are, or through trained maps",
    )
    train.add_argument(
        "--core",
        choices=["paper", "selected"],
        default="paper",
        help="of physical_clip: the paper's descriptors, or those that the data choose",
    )
    train.add_argument("--epochs", type=positive, help="most epochs of sdd; the other methods stop by themselves")
    train.add_argument(
        "--checkpoints",
        type=Path,
        default=Path("checkpoints/sdd"),
        metavar="DIR",
        help="folder for what --resume goes on from, sdd only (default checkpoints/sdd)",
    )
    train.add_argument("--resume", action="store_true", help="go on from sdd's last checkpoint")
    add_given(train)
    add_more_images(train)
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace
    from typing import cast

    if (arguments.data is None) == (arguments.features is None):
        raise ValueError("Name the images with --data, or stored embeddings with --features.")
    if arguments.features is not None:
        if arguments.photographs or arguments.resyntheses:
            raise ValueError("Stored embeddings are learned from as they are; leave out --photographs and --resyntheses.")
        return run_stored(arguments)
    from detector.methods.physical_clip.train import PhysicalClipOptions
    from detector.methods.registry import METHODS
    from detector.methods.sdd.train import SddOptions
    from detector.training.recipes import recipe_options
    from detector.training.train import TrainingRun, train_heads

    if arguments.method != "all" and arguments.method not in METHODS:
        raise ValueError(f"There is no method '{arguments.method}'; there are {', '.join(METHODS)} and all.")
    methods = list(METHODS) if arguments.method == "all" else [arguments.method]
    options = recipe_options(arguments.recipe, arguments.method) | {"physical_clip": PhysicalClipOptions(arguments.maps, arguments.core)}
    start = cast(SddOptions, options.get("sdd", SddOptions()))
    sdd = replace(start, checkpoints=arguments.checkpoints, resume=arguments.resume)
    sdd = replace(sdd, recipe=replace(sdd.recipe, epochs=arguments.epochs)) if arguments.epochs else sdd
    names = ("data", "backbone", "out", "copies", "seed", "cache", "device", "resyntheses", "photographs")
    run = TrainingRun(**{name: getattr(arguments, name) for name in names}, given=dict(arguments.given))
    files = train_heads(methods, run, options | {"sdd": sdd})
    for method, path in files.items():
        print(f"{method}\t{path}")
    return 0


def run_stored(arguments: argparse.Namespace) -> int:
    """Train on stored embeddings."""
    import tempfile

    from detector.training.recipes import recipe_options
    from detector.training.stored import TRAINABLE, train_stored
    from detector.training.train import TrainingRun

    methods = list(TRAINABLE) if arguments.method == "all" else [arguments.method]
    run = TrainingRun([arguments.features], arguments.backbone, arguments.out, 0, arguments.seed, None, arguments.device)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="features-", dir=arguments.cache) as folder:  # on the user's disk, where there is room
        files = train_stored(methods, run, Path(folder), recipe_options(arguments.recipe, arguments.method))
    for method, path in files.items():
        print(f"{method}\t{path}")
    return 0
