"""`measure-maps`: how far the heatmaps can be trusted."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.cli.options import Commands, add_backbone, add_folders, add_write, natural, positive


def add(commands: Commands) -> None:
    maps = commands.add_parser(
        "measure-maps", help="how far can the heatmaps be trusted? deletion, insertion, splices beside controls, shuffled weights"
    )
    add_folders(maps, "as for train; colours and the first map come from the val splits")
    add_backbone(maps)
    maps.add_argument(
        "--split",
        action="append",
        metavar="NAME",
        help="a split, such as test_unseen or, of one folder, web/test_unseen; may be repeated (default: all that begin with test)",
    )
    maps.add_argument("--images", type=positive, default=24, help="for deletion and insertion (default 24)")
    maps.add_argument("--splices", type=positive, default=200, help="of each kind, for the maps that need no gradient (default 200)")
    maps.add_argument("--subset", type=positive, default=12, help="of those, for the maps that take seconds (default 12)")
    maps.add_argument("--seed", type=natural, default=0, help="of every draw (default 0)")
    maps.add_argument("--out", type=Path, metavar="FILE.json", help="write here (default: maps.json in CUESCOPE_HOME)")
    add_write(maps, "maps")
    maps.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from detector.data.datasets import read_datasets, with_splits
    from detector.markdown import require_marks, write_between_marks
    from detector.suite import Suite
    from interpret.attribution import explain, map_measures
    from interpret.attribution.faithfulness import MeasurePlan

    for path in arguments.write:
        require_marks(path, "maps")
    examples = with_splits(read_datasets(arguments.data), test=True)
    suite = Suite.alone(arguments.backbone, arguments.device)
    plan = MeasurePlan(arguments.seed, arguments.images, arguments.splices, arguments.subset)
    splits = arguments.split or map_measures.default_splits(examples)
    measures = map_measures.measure(explain.map_heads(suite), examples, splits, plan)
    map_measures.save(measures, arguments.out or map_measures.own_path(suite.backbone))
    print(map_measures.report(measures))
    for path in arguments.write:
        write_between_marks(path, "maps", map_measures.report(measures))
    return 0
