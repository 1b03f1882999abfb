"""`evaluate`: measures of every method and of the verdict."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from detector.cli.options import Commands, add_backbone, add_data, add_given, add_more_images, natural, positive
from detector.cli.output import require_output, write_json

LEAVE_SOURCES_OUT = "leave-sources-out"


def add(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure every method and the verdict on a labelled folder")
    add_data(evaluate, several=True)
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
        help="put the tables between the marks <!-- evaluation -->, <!-- evaluation summary -->, <!-- evaluation METHOD -->, "
        "<!-- weights --> and their ends; with --robustness also <!-- robustness … -->; with --protocol leave-sources-out only "
        "<!-- leave_sources_out -->",
    )
    evaluate.add_argument(
        "--protocol",
        metavar="NAME",
        help="leave-sources-out: train heads on the images of train and val without whole sources, and measure them on those; univfd, "
        "genimage, synris or synthclic: a paper's table, from its data set after prepare, with --split and --out alone",
    )
    evaluate.add_argument("--copies", type=natural, default=4, help="random copies of each training image, for --protocol (default 4)")
    evaluate.add_argument(
        "--method", action="append", metavar="METHOD", help="for --protocol; may be repeated (default: all that have a head)"
    )
    evaluate.add_argument("--fold-seed", type=natural, default=0, help="of the folds and of training, for --protocol (default 0)")
    add_given(evaluate)
    add_more_images(evaluate)
    evaluate.set_defaults(run=run)


def run_protocol(arguments: argparse.Namespace) -> int:
    """`evaluate --protocol NAME`."""
    from detector.evaluation.tables import marks_of, write_figures

    for path in arguments.write:
        if arguments.protocol != LEAVE_SOURCES_OUT:
            raise ValueError(f"--write takes no tables of {arguments.protocol}; use --out.")
        marks_of(path, "leave_sources_out")
    result = run_leave_sources_out(arguments) if arguments.protocol == LEAVE_SOURCES_OUT else run_paper_table(arguments)
    if arguments.out:
        write_json(arguments.out, {"protocol": arguments.protocol} | result)
    for path in arguments.write:
        write_figures(path, {"leave_sources_out": result["corpora"]})
    return 0


def run_paper_table(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print a paper's table; what was measured."""
    from detector.evaluation.evaluate import measured_on
    from detector.evaluation.protocols import protocol_of
    from detector.suite import Suite

    protocol = protocol_of(arguments.protocol)
    if len(arguments.data) > 1:
        raise ValueError(f"The protocol {arguments.protocol} reads one data folder; name one.")
    suite = Suite.load(arguments.backbone, arguments.device)
    result = protocol.run(suite, arguments.data[0], arguments.cache, arguments.split)
    print(f"{protocol.summary}\n\n{protocol.report(result)}")
    return {"measured_on": measured_on(suite)} | result


def run_leave_sources_out(arguments: argparse.Namespace) -> dict[str, Any]:
    """Leave sources out, and print the AUROC of each method and corpus."""
    from detector.clip.backbone import Backbone
    from detector.evaluation.leave_sources_out import leave_sources_out
    from detector.evaluation.tables import leave_sources_out_report
    from detector.methods.registry import METHODS, find_heads
    from detector.methods.table import Training
    from detector.training.train import TrainingRun, fold_options, split_tables, stack_of

    methods = arguments.method or [method for method in METHODS if method in find_heads(arguments.backbone)]
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"There is no method '{min(unknown)}'; there are {', '.join(METHODS)}.")
    names = ("data", "backbone", "copies", "cache", "device", "resyntheses", "photographs")
    training_run = TrainingRun(**{name: getattr(arguments, name) for name in names}, given=dict(arguments.given))
    backbone = Backbone.load(arguments.backbone, arguments.device)
    splits = split_tables(training_run, backbone, set(methods), set(methods))
    results = leave_sources_out(stack_of(methods, training_run, Training(backbone, arguments.fold_seed), splits, fold_options({})))
    print(leave_sources_out_report(results))
    return {"corpora": results}


def run(arguments: argparse.Namespace) -> int:
    require_output(arguments.out)
    if arguments.protocol:
        return run_protocol(arguments)
    from detector.evaluation.evaluate import evaluate, measured_on
    from detector.evaluation.robustness import robustness
    from detector.evaluation.tables import REPORTS, marks_of, report, robustness_report, weights_report, write_figures, write_sources
    from detector.evaluation.weights import fusion_weights
    from detector.suite import Suite

    for path in arguments.write:
        marks_of(path, *REPORTS, "weights")
    for path in arguments.sources:
        marks_of(path, "sources")
    suite = Suite.alone(arguments.backbone, arguments.device)
    results = evaluate(suite, arguments.data, arguments.cache, arguments.split)
    if "all" in results:
        print("No split is named: all images were measured, also those that `train` on this folder learns from.", file=sys.stderr)
    stored, figures = {"measured_on": measured_on(suite), "splits": results}, {"evaluation": results}
    print(report(results))
    if suite.fusion:
        stored["weights"] = figures["weights"] = fusion_weights(suite.fusion)
        print(f"\n{weights_report(figures['weights'])}")
    if arguments.robustness is not None:
        curves = figures["robustness"] = robustness(suite, arguments.data, arguments.split, arguments.robustness_images)
        print(f"\n{robustness_report(curves)}")
        if arguments.robustness.name:
            write_json(arguments.robustness, {"measured_on": measured_on(suite)} | curves)
        else:
            stored["robustness"] = curves
    if arguments.out:
        write_json(arguments.out, stored)
    for path in arguments.write:
        write_figures(path, figures)
    for path in arguments.sources:
        write_sources(path, results)
    return 0
