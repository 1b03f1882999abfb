"""`audit`: how well facts of the files alone tell the classes of a data folder apart."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_backbone, add_folders, add_write
from detector.cli.output import output_file, require_output, write_json


def add(commands: Commands) -> None:
    audit = commands.add_parser(
        "audit", help="how well do file facts alone (size, quality, colours, content) tell a folder's classes apart?"
    )
    add_folders(audit, "folders as for train; they count as one data set")
    audit.add_argument("--split", default="train", metavar="NAME", help="images of this split, and those of no split (default train)")
    audit.add_argument("--out", type=_report_file, metavar="FILE", help="write all measures to FILE.json, or the tables to FILE.md")
    add_write(audit, "audit")
    add_backbone(audit)
    audit.set_defaults(run=run)


def _report_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".json", ".md"):
        raise argparse.ArgumentTypeError(f"'{text}' must end in .json (all measures) or .md (the tables)")
    return path


def run(arguments: argparse.Namespace) -> int:
    from detector.clip.backbone import Backbone
    from detector.evaluation.audit import audit_folders
    from detector.evaluation.audit_tables import audit_report
    from detector.evaluation.tables import marks_of, write_figures

    for path in arguments.write:
        marks_of(path, "audit")
    require_output(arguments.out)
    result = audit_folders(arguments.data, Backbone.load(arguments.backbone, arguments.device), arguments.split)
    report = audit_report(result)
    print(report)
    if arguments.out and arguments.out.suffix.lower() == ".json":
        write_json(arguments.out, result)
    elif arguments.out:
        with output_file(arguments.out) as file:
            file.write(report + "\n")
    for path in arguments.write:
        write_figures(path, {"audit": result})
    return 0
