"""`evaluate`: measures of every method and of the verdict."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.cli.options import Commands, add_backbone, add_data, positive
from detector.cli.output import write_json


def add(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure every method and the verdict on a labelled folder")
    add_data(evaluate)
    add_backbone(evaluate)
    evaluate.add_argument("--out", type=Path, help="write all measures here as JSON")
    evaluate.add_argument("--split", action="append", help="a split to measure (default: those that begin with test)")
    evaluate.add_argument(
        "--robustness",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE.json",
        help="measure also under JPEG, WebP, resizing and blur; curves go to FILE.json, else into --out as 'robustness'",
    )
    evaluate.add_argument(
        "--robustness-images",
        type=positive,
        default=100,
        metavar="N",
        help="images of each class and split for that, drawn at random with a fixed seed (default 100)",
    )
    evaluate.add_argument(
        "--sources",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.md",
        help="write the tables by source here, between <!-- sources METHOD … --> marks; may be repeated",
    )
    evaluate.add_argument(
        "--write",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.md",
        help="put the tables between the marks <!-- evaluation -->, <!-- evaluation summary --> or <!-- evaluation METHOD --> and "
        "their ends; with --robustness also between <!-- robustness … --> and its end",
    )
    evaluate.add_argument(
        "--protocol",
        metavar="NAME",
        help="a paper's table instead, from its data set after prepare: univfd, genimage, synris or synthclic; of the other options only "
        "--split and --out count",
    )
    evaluate.set_defaults(run=run)


def run_protocol(arguments: argparse.Namespace) -> int:
    """`evaluate --protocol NAME`."""
    from detector.evaluation.evaluate import measured_on
    from detector.evaluation.protocols import protocol_of
    from detector.suite import Suite

    protocol = protocol_of(arguments.protocol)
    suite = Suite.load(arguments.backbone, arguments.device)
    result = protocol.run(suite, arguments.data, arguments.cache, arguments.split)
    print(f"{protocol.summary}\n\n{protocol.report(result)}")
    if arguments.out:
        write_json(arguments.out, {"protocol": arguments.protocol, "measured_on": measured_on(suite)} | result)
    return 0


def run(arguments: argparse.Namespace) -> int:
    if arguments.protocol:
        return run_protocol(arguments)
    from detector.evaluation.evaluate import evaluate, measured_on
    from detector.evaluation.robustness import robustness
    from detector.evaluation.tables import REPORTS, marks_of, report, robustness_report, write_figures, write_sources
    from detector.suite import Suite

    for path in arguments.write:
        marks_of(path, *REPORTS)
    for path in arguments.sources:
        marks_of(path, "sources")
    suite = Suite.alone(arguments.backbone, arguments.device)
    results = evaluate(suite, arguments.data, arguments.cache, arguments.split)
    if "all" in results:
        print("No split is named: all images were measured, also those that `train` on this folder learns from.", file=sys.stderr)
    curves, stored = None, {"measured_on": measured_on(suite), "splits": results}
    print(report(results))
    if arguments.robustness is not None:
        curves = robustness(suite, arguments.data, arguments.split, arguments.robustness_images)
        print(f"\n{robustness_report(curves)}")
        if arguments.robustness.name:
            write_json(arguments.robustness, {"measured_on": measured_on(suite)} | curves)
        else:
            stored["robustness"] = curves
    if arguments.out:
        write_json(arguments.out, stored)
    for path in arguments.write:
        write_figures(path, results, curves)
    for path in arguments.sources:
        write_sources(path, results)
    return 0
