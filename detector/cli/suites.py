"""Which detectors a command uses: --detector, else CUESCOPE_DETECTORS, on --backbone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from detector.assets import EMBEDDED
from detector.hub.catalogue import TRAININGS

if TYPE_CHECKING:
    from detector.hub.download import Progress
    from detector.suite import Suite


def add_detector(command: argparse.ArgumentParser) -> None:
    """Add --detector."""
    command.add_argument(
        "--detector",
        action="append",
        metavar="NAME",
        help="the detector whose logit is the verdict, such as embedded/verdict or vit-l-14-336/concepts@synthclic-combined; given "
        "again: more detectors beside it (default: CUESCOPE_DETECTORS, separated by commas; names: `python -m detector heads`)",
    )


def load_suite(arguments: argparse.Namespace, progress: Progress | None = None, training: str = TRAININGS[0]) -> Suite:
    """The suite that the options name, led by the first detector named. Errors as for `Suite.load`, and DetectorError."""
    from detector.detectors.names import from_environment, parse_all
    from detector.suite import Suite

    backbone = None if arguments.backbone == EMBEDDED else arguments.backbone
    names = parse_all(arguments.detector or ([] if backbone else from_environment()))
    if not names:
        return Suite.load(arguments.backbone, arguments.device, progress, training)
    return Suite.load_detectors(names, backbone, arguments.device, progress)
