"""`measure-maps`: how far the heatmaps can be trusted."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_backbone, natural, positive


def add(commands: Commands) -> None:
    maps = commands.add_parser(
        "measure-maps", help="how far can the heatmaps of the sdd head be trusted? deletion, insertion, splices, shuffled weights"
    )
    maps.add_argument("--data", type=Path, required=True, metavar="DIR", help="as for train; colours are scaled on its val split")
    add_backbone(maps)
    maps.add_argument("--split", default="test", help="measure on splits whose names begin so (default test)")
    maps.add_argument("--images", type=positive, default=40, help="for deletion and insertion (default 40)")
    maps.add_argument("--splices", type=positive, default=40, help="of each kind (default 40)")
    maps.add_argument("--seed", type=natural, default=0, help="of every draw (default 0)")
    maps.add_argument("--out", type=Path, metavar="FILE.json", help="write here (default: maps.json in CUESCOPE_HOME)")
    maps.add_argument(
        "--write",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.md",
        help="put the tables between the marks <!-- maps --> and <!-- end maps -->",
    )
    maps.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.data.datasets import read_dataset, with_splits
    from detector.markdown import require_marks, write_between_marks
    from detector.suite import Suite
    from interpret.attribution import explain, map_measures
    from interpret.attribution.faithfulness import MeasurePlan

    for path in arguments.write:
        require_marks(path, "maps")
    examples = with_splits(read_dataset(arguments.data), test=True)
    suite = Suite.alone(arguments.backbone, arguments.device)
    plan = MeasurePlan(arguments.seed, arguments.images, arguments.splices)
    measures = map_measures.measure(explain.sdd_head(suite), examples, arguments.split, plan)
    map_measures.save(measures, arguments.out or map_measures.own_path(suite.backbone))
    print(map_measures.report(measures))
    for path in arguments.write:
        write_between_marks(path, "maps", map_measures.report(measures))
    return 0
