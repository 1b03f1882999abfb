"""The command line: `python -m detector COMMAND --help` explains each command."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from detector.assets import EMBEDDED, MODELS
from detector.hub.catalogue import SOURCES, TRAININGS


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog="python -m detector", description="Why does a CLIP-based detector call an image "
                                  "AI-generated? Scores, trains and measures; needs no network with the embedded model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_score, _add_explain, _add_train, _add_evaluate, _add_study, _add_measure_maps, _add_select, _add_prepare,
                _add_pretrain, _add_autoencoder, _add_heads):
        add(commands)
    return top


def _add_score(commands) -> None:
    score = commands.add_parser("score", help="score images: one JSON object or CSV row each, in the order given")
    score.add_argument("paths", nargs="+", metavar="PATH", help="image files or folders (searched through, sorted)")
    _backbone(score)
    score.add_argument("--caption", help="words for the image, instead of a caption made from its pixels; for all images given")
    score.add_argument("--released", choices=TRAININGS, default=TRAININGS[0],
                       help="training set of the released heads whose units and concepts are written, for a backbone that has "
                       "no heads of its own (default combined)")
    score.add_argument("--out", type=Path, help="write here instead of standard output")
    score.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
    score.add_argument("--batch-size", type=_positive, default=16, help="images in one forward (default 16)")
    score.set_defaults(run=run_score)


def _add_explain(commands) -> None:
    explain = commands.add_parser("explain", help="where the evidence lies in one image: explanation.json and heatmaps",
                                  description="Writes explanation.json (what score writes, and each map in numbers), and for each "
                                  "heatmap NAME.npy (float32, the image's height × width, NaN where nothing was seen, positive for "
                                  "synthetic) and NAME.png; sdd.npy is the default map.")
    explain.add_argument("image", metavar="IMAGE", help="an image file")
    explain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    _backbone(explain)
    explain.add_argument("--caption", help="words for the image, as for score")
    explain.add_argument("--windows", type=_natural, metavar="N",
                         help="read at most N windows; a larger image is reduced to fit (default 100; 0: no limit, at full resolution)")
    explain.set_defaults(run=run_explain)


def _add_measure_maps(commands) -> None:
    maps = commands.add_parser("measure-maps", help="how far can the heatmaps of the sdd head be trusted? deletion, insertion, splices, "
                               "shuffled weights")
    maps.add_argument("--data", type=Path, required=True, metavar="DIR", help="as for train; colours are scaled on its val split")
    _backbone(maps)
    maps.add_argument("--split", default="test", help="measure on splits whose names begin so (default test)")
    maps.add_argument("--images", type=_positive, default=40, help="for deletion and insertion (default 40)")
    maps.add_argument("--splices", type=_positive, default=40, help="of each kind (default 40)")
    maps.add_argument("--seed", type=_natural, default=0, help="of every draw (default 0)")
    maps.add_argument("--out", type=Path, metavar="FILE.json", help="write here (default: maps.json beside the backbone's heads)")
    maps.add_argument("--write", type=Path, action="append", default=[], metavar="FILE.md",
                      help="put the tables between the marks <!-- maps --> and <!-- end maps -->")
    maps.set_defaults(run=run_measure_maps)


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train heads on a labelled folder, then the verdict over them")
    train.add_argument("method", metavar="METHOD", help="a method's name, or all")
    _data(train)
    _backbone(train)
    train.add_argument("--out", type=Path, help="folder for the head files (default: the backbone's own)")
    train.add_argument("--copies", type=_natural, default=4, help="random copies of each training image (default 4)")
    train.add_argument("--seed", type=_natural, default=0, help="of the random copies and of training (default 0)")
    train.add_argument("--epochs", type=_positive, help="most epochs of sdd; the other methods stop by themselves")
    train.add_argument("--checkpoints", type=Path, default=Path("checkpoints/sdd"), metavar="DIR",
                       help="folder for what --resume goes on from, sdd only (default checkpoints/sdd)")
    train.add_argument("--resume", action="store_true", help="go on from sdd's last checkpoint")
    train.set_defaults(run=run_train)


def _add_evaluate(commands) -> None:
    evaluate = commands.add_parser("evaluate", help="measure every method and the verdict on a labelled folder")
    _data(evaluate)
    _backbone(evaluate)
    evaluate.add_argument("--out", type=Path, help="write all measures here as JSON")
    evaluate.add_argument("--split", action="append", help="a split to measure (default: those that begin with test)")
    evaluate.add_argument("--robustness", type=Path, nargs="?", const=Path(), metavar="FILE.json",
                          help="measure also under JPEG, WebP, resizing and blur; curves go to FILE.json, else into --out as 'robustness'")
    evaluate.add_argument("--robustness-images", type=_positive, default=100, metavar="N",
                          help="images of each class and split for that, drawn at random with a fixed seed (default 100)")
    evaluate.add_argument("--sources", type=Path, action="append", default=[], metavar="FILE.md",
                          help="write the tables by source here, between <!-- sources METHOD … --> marks; may be repeated")
    evaluate.add_argument("--write", type=Path, action="append", default=[], metavar="FILE.md",
                          help="put the tables between the marks <!-- evaluation --> and <!-- end evaluation -->; with --robustness "
                          "also between <!-- robustness --> or <!-- robustness summary --> and their ends")
    evaluate.set_defaults(run=run_evaluate)


def _add_study(commands) -> None:
    study = commands.add_parser("study", help="measure one question that a card should answer, with several seeds")
    study.add_argument("name", metavar="NAME", help="units, concepts, item, physical_clip, sdd, cross or "
                       "format; alignment, with the pairs folder as --data")
    study.add_argument("--data", type=Path, required=True, metavar="DIR", action="append",
                       help="as for train; cross takes several")
    study.add_argument("--cache", type=Path, default=Path("cache"), help="folder for measured features (default cache)")
    _backbone(study)
    study.add_argument("--seeds", type=_positive, default=3, help="trainings of each head (default 3)")
    study.add_argument("--out", type=Path, help="JSON file that gets the result beside those of other studies")
    study.add_argument("--write", type=Path, action="append", default=[], metavar="FILE.md",
                       help="put the table between the marks <!-- study NAME --> and <!-- end study NAME -->")
    study.set_defaults(run=run_study)


def _add_select(commands) -> None:
    select = commands.add_parser("select-descriptors", help="which descriptors tell real from synthetic on every source, one way?")
    select.add_argument("--data", type=Path, required=True, metavar="DIR", action="append", help="as for train; several are compared")
    select.add_argument("--seed", type=_natural, default=0, help="of the bootstrap (default 0)")
    select.add_argument("--out", type=Path, help="write everything found here as JSON")
    select.add_argument("--plot", type=Path, metavar="FILE.html", help="write the heatmap of descriptor × source here")
    select.add_argument("--write", type=Path, action="append", default=[], metavar="FILE.md",
                        help="put the tables between the marks <!-- selection --> and <!-- end selection -->")
    select.set_defaults(run=run_select)


def _add_prepare(commands) -> None:
    prepare = commands.add_parser("prepare", help="write a public data set as a data folder with a manifest.csv")
    prepare.add_argument("name", metavar="NAME", help="synthclic, synthbuster-plus, cnnspot (these also from the hub), univfd, "
                         "genimage, folder or table")
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    prepare.add_argument("--from", type=Path, dest="source", metavar="PATH",
                         help="local folder, or CSV file for table (default: streamed from the hub with the datasets library)")
    prepare.add_argument("--limit", type=_positive, help="stop after so many images of each class and split")
    prepare.set_defaults(run=run_prepare)


def _add_pretrain(commands) -> None:
    pretrain = commands.add_parser("pretrain", help="train the embedded model from scratch on image-caption pairs")
    pretrain.add_argument("--pairs", type=Path, required=True, help="folder with train/val/test.tar and captions.csv")
    pretrain.add_argument("--out", type=Path, help="folder for the weights (default: the embedded model's own)")
    pretrain.add_argument("--checkpoints", type=Path, default=Path("checkpoints/pretrain"),
                          help="folder for what --resume goes on from (default checkpoints/pretrain)")
    pretrain.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    pretrain.add_argument("--epochs", type=_positive, help="passes over the images for the towers")
    pretrain.add_argument("--caption-epochs", type=_positive, help="passes for the caption decoder")
    pretrain.add_argument("--decoder-only", action="store_true",
                          help="train only the caption decoder, on from the weights in --weights; the towers stay as they are")
    pretrain.add_argument("--weights", type=Path, metavar="DIR",
                          help="folder whose decoder --decoder-only trains (default: the embedded model's own)")
    pretrain.add_argument("--threads", type=_positive, help="processor threads")
    pretrain.add_argument("--device", metavar="D", help="cpu, cuda, … (default: a GPU where there is one)")
    pretrain.add_argument("--write", type=Path, action="append", default=[], metavar="FILE.md",
                          help="put the measures between the marks <!-- embedded --> and <!-- end embedded -->")
    pretrain.set_defaults(run=run_pretrain)


def _add_autoencoder(commands) -> None:
    autoencoder = commands.add_parser("autoencoder", help="train the small generator behind the synthetic examples")
    autoencoder.add_argument("--pairs", type=Path, required=True, help="folder with train.tar and captions.csv")
    autoencoder.add_argument("--steps", type=_positive, default=1000, help="batches of 24 crops (default 1000)")
    autoencoder.set_defaults(run=run_autoencoder)


def _add_heads(commands) -> None:
    heads = commands.add_parser("heads", help="list every head known here: method, backbone, origin, measures, presence")
    _backbone(heads)
    heads.add_argument("--fetch", metavar="HEAD", help="download a released head, or all of those for --backbone, first")
    heads.set_defaults(run=run_heads)


def _backbone(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backbone", default=EMBEDDED, metavar="NAME",
                         help="embedded (default), an open_clip MODEL/TAG (downloaded), or a local folder")
    command.add_argument("--device", metavar="D", help="cpu, cuda, … (default: a GPU where there is one)")


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, metavar="DIR",
                         help="folder with real/ and synthetic/ (or 0_real/1_fake, nature/ai), or a manifest.csv")
    command.add_argument("--cache", type=Path, default=Path("cache"), help="folder for measured features (default cache)")


def _positive(text: str) -> int:
    return _whole(text, 1)


def _natural(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, smallest: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {smallest}")
    return value


# --- score ---------------------------------------------------------------------------------------------------------


def expand(paths: Iterable[str]) -> Iterator[Path]:
    """Files as given; a folder's images in sorted order, found by their endings."""
    from detector.data.datasets import IMAGE_SUFFIXES

    for given in paths:
        if not given:
            raise ValueError("An empty path was given; name an image file or a folder.")
        path = Path(given)
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
        else:
            yield path


def csv_row(record: dict) -> dict:
    """A flat row: the verdict, each method's logit and probability, the fifteen descriptors."""
    verdict = record.get("verdict") or {}
    row = {name: record.get(name) for name in ("file", "width", "height", "format", "error", "backbone")}
    row |= {"label": verdict.get("label"), "probability": verdict.get("probability")}
    for method, score in record.get("detectors", {}).items():
        row |= {f"{method}_probability": score["probability"], f"{method}_logit": score["logit"]}
    return row | record.get("physical", {})


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    # file names need not be text: what cannot be written is escaped, so that one name never costs the other results
    if path is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def _write(records: Iterable[dict], form: str, file: TextIO, columns: list[str]) -> int:
    """Write records as they come; returns how many carry an error."""
    failed = 0
    rows = csv.DictWriter(file, columns, extrasaction="ignore") if form == "csv" else None
    if rows:
        rows.writeheader()
    for record in records:
        failed += record["error"] is not None
        if rows:
            rows.writerow(csv_row(record))
        else:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
    return failed


def csv_columns(methods: Iterable[str]) -> list[str]:
    from detector.methods.physical.features import NAMES

    scores = [f"{method}_{what}" for method in methods for what in ("probability", "logit")]
    return ["file", "width", "height", "format", "error", "backbone", "label", "probability", *scores, *NAMES]


def run_score(arguments: argparse.Namespace) -> int:
    from detector.progress import byte_progress, progress
    from detector.suite import Suite

    paths = list(expand(arguments.paths))
    if not paths:
        raise ValueError("There is no image in the folder(s) given.")
    with byte_progress("weights") as shown:
        suite = Suite.load(arguments.backbone, arguments.device, shown, arguments.released)
    _name_absent(suite.absent)
    analyses = suite.analyze_files(paths, arguments.batch_size, caption=arguments.caption)
    records = (analysis.to_dict() for analysis in progress(analyses, len(paths), "score"))
    with _output(arguments.out) as file:
        failed = _write(records, arguments.format, file, csv_columns([*suite.heads, *suite.released.heads]))
    if failed:
        print(f"{failed} of {len(paths)} files could not be read; see their 'error'.", file=sys.stderr)
    return 1 if failed else 0


def _name_absent(methods: Iterable[str]) -> None:
    """Say on stderr which methods the verdict has to do without."""
    for method in methods:
        print(f"The {method} head is absent, so the verdict does without it; get it again or train it with "
              f"`python -m detector train {method}`.", file=sys.stderr)


# --- explain -------------------------------------------------------------------------------------------------------


def run_explain(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from detector.data.images import load_photo
    from detector.progress import byte_progress, count_progress
    from detector.suite import Suite
    from interpret.attribution import explain  # this command line is the one place that draws on both layers

    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"'{arguments.out}' is a file; --out needs a folder.")
    photo = load_photo(arguments.image)
    with byte_progress("weights") as shown:
        suite = Suite.load(arguments.backbone, arguments.device, shown)
    _name_absent(suite.absent)
    analysis = replace(suite.analyze(photo, arguments.caption), file=arguments.image)
    most = explain.WINDOWS if arguments.windows is None else arguments.windows or None
    try:
        with count_progress("windows") as shown:
            found = explain.explain(suite, photo, most=most, progress=shown)
    except explain.ExplainError:
        explain.write(analysis, None, photo.pixels, arguments.out)  # the rest is worth having
        raise
    for path in explain.write(analysis, found, photo.pixels, arguments.out):
        print(path)
    return 0


def run_measure_maps(arguments: argparse.Namespace) -> int:
    from detector.data.datasets import read_dataset, with_splits
    from detector.markdown import require_marks, write_between_marks
    from detector.suite import Suite
    from interpret.attribution import explain
    from interpret.attribution import map_measures as mapcard

    for path in arguments.write:
        require_marks(path, "maps")
    examples = with_splits(read_dataset(arguments.data), test=True)
    suite = Suite.load(arguments.backbone, arguments.device)
    found = mapcard.measure(explain.sdd_head(suite), examples, arguments.split, arguments.seed, arguments.images, arguments.splices)
    mapcard.store(found, arguments.out or mapcard.path_of(arguments.backbone))
    print(mapcard.report(found))
    for path in arguments.write:
        write_between_marks(path, "maps", mapcard.report(found))
    return 0


# --- the others ----------------------------------------------------------------------------------------------------


def run_train(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from detector.training.train import FITTERS, SddRun, train_heads

    if arguments.method != "all" and arguments.method not in FITTERS:
        raise ValueError(f"There is no method '{arguments.method}'; there are {', '.join(FITTERS)} and all.")
    methods = list(FITTERS) if arguments.method == "all" else [arguments.method]
    run = SddRun(checkpoints=arguments.checkpoints, resume=arguments.resume)
    run = replace(run, recipe=replace(run.recipe, epochs=arguments.epochs)) if arguments.epochs else run
    written = train_heads(methods, arguments.data, arguments.backbone, arguments.out, arguments.copies, arguments.seed,
                          arguments.cache, arguments.device, run)
    for method, path in written.items():
        print(f"{method}\t{path}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    from detector.evaluation.evaluate import evaluate, measured_on
    from detector.evaluation.robustness import robustness
    from detector.evaluation.tables import REPORTS, report, robustness_report, source_marks, write_sources
    from detector.markdown import has_marks, require_marks, write_between_marks
    from detector.suite import Suite

    for path in arguments.write:
        require_marks(path, "evaluation")
    for path in arguments.sources:
        source_marks(path)
    suite = Suite.load(arguments.backbone, arguments.device)
    results = evaluate(suite, arguments.data, arguments.cache, arguments.split)
    if "all" in results:
        print("No split is named: all images were measured, also those that `train` on this folder learns from.", file=sys.stderr)
    texts, stored = {"evaluation": report(results)}, {"measured_on": measured_on(suite), "splits": results}
    print(texts["evaluation"])
    if arguments.robustness is not None:
        curves = robustness(suite, arguments.data, arguments.split, arguments.robustness_images)
        texts |= {mark: write(curves) for mark, write in REPORTS.items()}
        print(f"\n{robustness_report(curves)}")
        if arguments.robustness.name:
            _write_json(arguments.robustness, {"measured_on": measured_on(suite)} | curves)
        else:
            stored["robustness"] = curves
    if arguments.out:
        _write_json(arguments.out, stored)
    for path in arguments.write:
        for mark, text in texts.items():
            if has_marks(path, mark):
                write_between_marks(path, mark, text)
    for path in arguments.sources:
        write_sources(path, results)
    return 0


def _write_json(path: Path, found: dict) -> None:
    with _output(path) as file:
        json.dump(found, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def run_study(arguments: argparse.Namespace) -> int:
    from detector.clip.backbone import Backbone
    from detector.evaluation.studies import STUDIES
    from detector.markdown import require_marks, write_between_marks

    if arguments.name not in STUDIES:
        raise ValueError(f"There is no study '{arguments.name}'; there are {', '.join(STUDIES)}.")
    mark = f"study {arguments.name}"
    for path in arguments.write:
        require_marks(path, mark)
    study, backbone = STUDIES[arguments.name], Backbone.load(arguments.backbone, arguments.device)
    corpora = [study.load(backbone, data, arguments.cache) for data in arguments.data]
    result = {"measured_on": study.measured_on(backbone)} | study.run(corpora, backbone, arguments.seeds)
    print(study.report(result))
    if arguments.out:
        known = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
        text = json.dumps(known | {arguments.name: result}, indent=1, ensure_ascii=False, allow_nan=False)
        arguments.out.write_text(text + "\n", encoding="utf-8")
    for path in arguments.write:
        write_between_marks(path, mark, study.report(result))
    return 0


def run_select(arguments: argparse.Namespace) -> int:
    from detector.markdown import require_marks, write_between_marks
    from detector.methods.physical.selection import read_groups, select, selection_report

    for path in arguments.write:
        require_marks(path, "selection")
    groups, left_out = read_groups(arguments.data)
    result = select(groups, left_out, seed=arguments.seed).to_dict()
    print(selection_report(result))
    if arguments.out:
        _write_json(arguments.out, result)
    if arguments.plot:
        from interpret.render.figures import selection_chart

        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        selection_chart(result).write_html(arguments.plot, include_plotlyjs=True)
    for path in arguments.write:
        write_between_marks(path, "selection", selection_report(result))
    return 0


def run_prepare(arguments: argparse.Namespace) -> int:
    from detector.data.prepare import prepare

    written = prepare(arguments.name, arguments.out, arguments.source, arguments.limit)
    print(f"{written['images']} images in {arguments.out}; {written['skipped']} unreadable and {written['repeated']} repeated left out")
    return 0


def run_pretrain(arguments: argparse.Namespace) -> int:
    import torch

    from detector.clip.backbone import choose_device
    from detector.clip.pretrain.data import PretrainConfig
    from detector.clip.pretrain.loop import pretrain, refine_decoder
    from detector.evaluation.tables import embedded_report
    from detector.markdown import write_between_marks

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    configuration = json.loads((MODELS / EMBEDDED / "open_clip_config.json").read_text(encoding="utf-8"))
    chosen = {"epochs": arguments.epochs, "caption_epochs": arguments.caption_epochs}
    config = PretrainConfig(**{name: value for name, value in chosen.items() if value})
    own, rest = MODELS / EMBEDDED, (config, arguments.resume, choose_device(arguments.device))
    if arguments.decoder_only:
        metrics = refine_decoder(arguments.pairs, arguments.weights or own, arguments.out or own, arguments.checkpoints, *rest)
    else:
        metrics = pretrain(arguments.pairs, arguments.out or own, arguments.checkpoints, configuration, *rest)
    print(embedded_report(metrics))
    for path in arguments.write:
        write_between_marks(path, "embedded", embedded_report(metrics))
    return 0


def run_autoencoder(arguments: argparse.Namespace) -> int:
    from detector.clip.autoencoder import train_autoencoder

    print(f"mean loss of the last steps: {train_autoencoder(arguments.pairs, arguments.steps):.4f}")
    return 0


def run_heads(arguments: argparse.Namespace) -> int:
    from detector.progress import byte_progress

    if arguments.fetch:
        from detector.methods.published import fetch
        from detector.methods.released import fetch_released

        with byte_progress("heads") as shown:
            if arguments.fetch == "all":
                fetch_released(arguments.backbone, shown)
            else:
                fetch(arguments.fetch, progress=shown)
    print("method\tbackbone\torigin\ttraining data\tmeasures\tstate")
    for row in (*own_heads(arguments.backbone), *published_heads()):
        print("\t".join(row))
    return 0


def own_heads(backbone: str) -> Iterator[list[str]]:
    """Rows for the methods trained by this project: method, backbone, origin, training data, measures, state."""
    from detector.clip.backbone import require_known
    from detector.methods.base import load_head
    from detector.methods.registry import METHODS, find_heads

    require_known(backbone)
    found = find_heads(backbone)
    for method in (*METHODS, "verdict"):
        if method in found:
            card = load_head(found[method])[1]
            measured = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
            yield [method, card.backbone, "trained here", card.training_data, measured, "present"]
        else:
            yield [method, backbone, "trained here", "", "", f"absent: python -m detector train {method}"]


def published_heads() -> Iterator[list[str]]:
    """Rows for the heads that others have released; they are fetched by `detector.methods.published.load(name)`, never by themselves."""
    from detector.methods.published import cache_path

    for name, source in SOURCES.items():
        state = "present" if cache_path(name).is_file() else "not downloaded"
        yield [name, source.backbone, f"{source.paper}, {source.licence}", source.training_data, "", state]


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0 only when all went well, 1 when something could not be done, 2 for unusable options."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    chosen = parser().parse_args(arguments)
    try:
        return chosen.run(chosen)
    except BrokenPipeError:
        return 1
    except MemoryError:
        print("There is not enough memory for this.", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{type(error).__name__ if not str(error) else str(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
