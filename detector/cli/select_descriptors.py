"""`select-descriptors`: which descriptors tell real from synthetic on every source."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_folders, add_write, natural
from detector.cli.output import require_output, write_json


def add(commands: Commands) -> None:
    select = commands.add_parser("select-descriptors", help="which descriptors tell real from synthetic on every source, one way?")
    add_folders(select, "as for train; several are compared")
    select.add_argument("--seed", type=natural, default=0, help="of the bootstrap (default 0)")
    select.add_argument("--out", type=Path, help="write everything found here as JSON")
    select.add_argument("--plot", type=Path, metavar="FILE.html", help="write the heatmap of descriptor × source here")
    add_write(select, "selection")
    select.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.markdown import require_marks, write_between_marks
    from detector.methods.physical.selection import read_groups, select, selection_report

    for path in arguments.write:
        require_marks(path, "selection")
    require_output(arguments.out, arguments.plot)
    groups, left_out = read_groups(arguments.data)
    result = select(groups, left_out, seed=arguments.seed).to_dict()
    print(selection_report(result))
    if arguments.out:
        write_json(arguments.out, result)
    if arguments.plot:
        from interpret.render.figures import selection_chart

        selection_chart(result).write_html(arguments.plot, include_plotlyjs=True)
    for path in arguments.write:
        write_between_marks(path, "selection", selection_report(result))
    return 0
