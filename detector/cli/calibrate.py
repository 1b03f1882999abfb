"""`calibrate`: the verdict of a backbone's heads on the user's own images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.cli.options import Commands, add_backbone, add_data, natural


def add(commands: Commands) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="fit the verdict of a backbone's heads, own and released ones, on your own images",
        description="Fits Platt scaling, the fusion and the band of the verdict on labelled images, and keeps their features for "
        "percentiles, drop curves and the names of units. No head is changed. Reads the val split where there is one, never a test split. "
        "`score` and the page use the result from then on; `train` and the next `calibrate` replace it.",
    )
    add_data(calibrate, several=True)
    add_backbone(calibrate)
    calibrate.add_argument(
        "--detectors",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fuse these alone, all of one backbone, which they name (names: `python -m detector heads`; default: all at hand)",
    )
    calibrate.add_argument("--out", type=Path, help="folder for verdict and reference (default: in CUESCOPE_HOME)")
    calibrate.add_argument("--seed", type=natural, default=0, help="of the random copy of each image (default 0)")
    calibrate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.detectors.names import PIXELS, parse_all
    from detector.training.calibrate import calibrate
    from detector.training.train import TrainingRun

    options = {name: getattr(arguments, name) for name in ("data", "backbone", "out", "seed", "cache", "device")}
    names = parse_all(arguments.detectors)
    options["backbone"] = next((name.backbone for name in names if name.backbone != PIXELS), options["backbone"])
    result = calibrate(TrainingRun(**options), names)
    print("detector\tslope\toffset\tweight")
    fusion = result.fusion
    for name, (slope, offset), weight in zip(fusion.methods, fusion.platt, fusion.weights[:-1], strict=True):
        print(f"{name}\t{slope:.3f}\t{offset:+.3f}\t{weight:.3f}")
    low, high = fusion.band
    print(f"no label between the logits {low:.2f} and {high:.2f}")
    for name in result.left_out:
        print(f"{name} could read too few of these images and has no part in the verdict.", file=sys.stderr)
    for name, path in result.files.items():
        print(f"{name}\t{path}")
    return 0
