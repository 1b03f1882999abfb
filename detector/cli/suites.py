"""Which detectors a command uses: --detectors alone, or --detector, else CUESCOPE_DETECTORS, and all others on --backbone."""

from __future__ import annotations

import argparse
import os
import sys
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
        action="extend",
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


def add_captioner(command: argparse.ArgumentParser) -> None:
    """Add --captioner."""
    command.add_argument(
        "--captioner",
        metavar="NAME",
        default=os.environ.get("CUESCOPE_CAPTIONER") or None,
        help="what writes captions: embedded, or a CoCa of open_clip as MODEL/TAG (downloaded), such as coca_ViT-B-32/laion2b_s13b_b90k "
        "(default: CUESCOPE_CAPTIONER, else the backbone's own decoder, else embedded)",
    )


def load_suite(arguments: argparse.Namespace, progress: Progress | None = None, training: str = TRAININGS[0]) -> Suite:
    """The suite that the options name, led by the first detector named, with the captioner that they name where captions are read; who
    learned from other captions is named on stderr. Errors as for `Suite.load`, and DetectorError."""
    from detector.clip.captioning import load_captioner

    suite = _suite_of(arguments, progress, training)
    if arguments.captioner and suite.reads("alignment"):
        suite = suite.with_captioner(load_captioner(arguments.captioner, arguments.device, progress))
        for name in suite.strange_captions:
            print(f"{name} learned from captions that another model wrote; its logits hold less for those of this one.", file=sys.stderr)
    return suite


def detectors_of(arguments: argparse.Namespace) -> tuple[tuple[str, ...], str | None]:
    """The names of --detectors or --detector, else of CUESCOPE_DETECTORS, and --backbone where it is not the default. DetectorError where
    --detectors meets a backbone."""
    from detector.detectors.names import DetectorError, from_environment

    backbone = None if arguments.backbone == EMBEDDED else arguments.backbone
    if alone := getattr(arguments, "detectors", []):
        if backbone:
            raise DetectorError("The names after --detectors say which backbones are read; leave --backbone out.")
        return tuple(alone), None
    return tuple(arguments.detector or ([] if backbone else from_environment())), backbone


def _suite_of(arguments: argparse.Namespace, progress: Progress | None, training: str) -> Suite:
    from detector.detectors.names import parse_all
    from detector.suite import Suite

    named, backbone = detectors_of(arguments)
    names = parse_all(named)
    if getattr(arguments, "detectors", []):
        return Suite.load_detectors(names, arguments.device, progress)
    if not names:
        return Suite.load(arguments.backbone, arguments.device, progress, training)
    return Suite.load_led_by(names, backbone, arguments.device, progress)
