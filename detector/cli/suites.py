"""Which detectors a command uses: --detectors alone, or --detector, else CUESCOPE_DETECTORS, and all others on --backbone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from detector.assets import EMBEDDED
from detector.hub.catalogue import TRAININGS

if TYPE_CHECKING:
    from detector.hub.download import Progress
    from detector.suite import Suite


def add_detectors(command: argparse.ArgumentParser) -> None:
    """Add --detector and --detectors, of which one can be given."""
    group = command.add_mutually_exclusive_group()
    add_detector(group)
    group.add_argument(
        "--detectors",
        nargs="+",
        default=[],
        metavar="NAME",
        help="these detectors alone, the first of which gives the verdict, and nothing computed that they do not read; write the option "
        "behind the images (names: `python -m detector heads`)",
    )


def add_detector(command: argparse._ActionsContainer) -> None:
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
    from detector.detectors.names import DetectorError, from_environment, parse_all
    from detector.suite import Suite

    if alone := getattr(arguments, "detectors", []):
        if arguments.backbone != EMBEDDED:
            raise DetectorError("The names after --detectors say which backbones are read; leave --backbone out.")
        return Suite.load_detectors(parse_all(alone), arguments.device, progress)
    backbone = None if arguments.backbone == EMBEDDED else arguments.backbone
    names = parse_all(arguments.detector or ([] if backbone else from_environment()))
    if not names:
        return Suite.load(arguments.backbone, arguments.device, progress, training)
    return Suite.load_led_by(names, backbone, arguments.device, progress)
