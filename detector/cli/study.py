"""`study`: one question of a card, with several seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from detector.cli.options import Commands, add_backbone, add_folders, add_write, positive
from detector.cli.output import require_output, write_json


def add(commands: Commands) -> None:
    study = commands.add_parser("study", help="measure one question that a card should answer, with several seeds")
    study.add_argument(
        "name",
        metavar="NAME",
        help="units, concepts, item, physical_clip, sdd, seeds, cross or format; alignment, with the pairs folder as --data",
    )
    add_folders(study, "as for train; several for seeds, cross")
    study.add_argument("--cache", type=Path, default=Path("cache"), help="folder for measured features (default cache)")
    add_backbone(study)
    study.add_argument("--seeds", type=positive, default=3, help="trainings of each head (default 3)")
    study.add_argument("--out", type=Path, help="JSON file that gets the result beside those of other studies")
    study.add_argument("--photographs", type=Path, metavar="DIR", help="of seeds alone: as for train")
    add_write(study, "study NAME")
    study.set_defaults(run=run)


def _stored(path: Path | None) -> dict[str, Any]:
    """The studies that a file holds, read before the work. ValueError if it holds something else; OSError if it cannot be written."""
    require_output(path)
    if path is None or not path.is_file():
        return {}
    try:
        studies = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        studies = None
    if not isinstance(studies, dict):
        raise ValueError(f"'{path}' holds no figures of studies; name another file with --out.")
    return studies


def run(arguments: argparse.Namespace) -> int:
    from detector.clip.backbone import Backbone
    from detector.evaluation.studies import STUDIES
    from detector.evaluation.studies.seeds import with_photographs
    from detector.markdown import require_marks, write_between_marks
    from detector.methods.registry import METHODS, require_suited

    if arguments.name not in STUDIES:
        raise ValueError(f"There is no study '{arguments.name}'; there are {', '.join(STUDIES)}.")
    mark, others = f"study {arguments.name}", _stored(arguments.out)
    for path in arguments.write:
        require_marks(path, mark)
    study, backbone = STUDIES[arguments.name], Backbone.load(arguments.backbone, arguments.device)
    method = {"units": "orthogonal"}.get(arguments.name, arguments.name)
    if method in METHODS:
        require_suited(method, backbone)
    corpora: list[Any] = [study.load(backbone, data, arguments.cache) for data in arguments.data]
    if arguments.photographs:
        corpora = [with_photographs(corpus, arguments.photographs) for corpus in corpora]
    result = {"measured_on": study.measured_on(backbone)} | study.run(corpora, backbone, arguments.seeds)
    print(study.report(result))
    if arguments.out:
        write_json(arguments.out, others | {arguments.name: result})
    for path in arguments.write:
        write_between_marks(path, mark, study.report(result))
    return 0
