"""`pretrain`: the embedded model, from scratch."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from detector.assets import EMBEDDED, MODELS
from detector.cli.options import Commands, add_training, add_write, positive


def add(commands: Commands) -> None:
    pretrain = commands.add_parser("pretrain", help="train the embedded model from scratch on image-caption pairs")
    pretrain.add_argument("--pairs", type=Path, required=True, help="folder with train/val/test.tar and captions.csv")
    pretrain.add_argument("--out", type=Path, help="folder for the weights (default: the embedded model's own)")
    add_training(pretrain, "checkpoints/pretrain")
    pretrain.add_argument("--epochs", type=positive, help="passes over the images for the towers")
    pretrain.add_argument("--caption-epochs", type=positive, help="passes for the caption decoder")
    part = pretrain.add_mutually_exclusive_group()
    part.add_argument(
        "--decoder-only",
        action="store_true",
        help="train only the caption decoder, on from the weights in --weights; the towers stay as they are",
    )
    part.add_argument(
        "--keep-text",
        action="store_true",
        help="train the image tower and then the decoder, on from the weights in --weights; the text tower stays as it is",
    )
    pretrain.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder that --decoder-only and --keep-text go on from (default: the embedded model's own)",
    )
    pretrain.add_argument("--device", metavar="D", help="cpu, cuda, … (default: a GPU where there is one)")
    add_write(pretrain, "embedded")
    pretrain.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import torch

    from detector.clip.backbone import choose_device
    from detector.clip.pretrain.data import KEEP_TEXT, PretrainConfig
    from detector.clip.pretrain.loop import PretrainRun, keep_text, pretrain, refine_decoder
    from detector.evaluation.tables import embedded_report
    from detector.markdown import write_between_marks

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    configuration = json.loads((MODELS / EMBEDDED / "open_clip_config.json").read_text(encoding="utf-8"))
    options = {"epochs": arguments.epochs, "caption_epochs": arguments.caption_epochs}
    config = replace(KEEP_TEXT if arguments.keep_text else PretrainConfig(), **{name: value for name, value in options.items() if value})
    embedded, device = MODELS / EMBEDDED, choose_device(arguments.device)
    run = PretrainRun(arguments.pairs, arguments.out or embedded, arguments.checkpoints, arguments.resume, device)
    if arguments.decoder_only:
        metrics = refine_decoder(run, arguments.weights or embedded, config)
    elif arguments.keep_text:
        metrics = keep_text(run, arguments.weights or embedded, config)
    else:
        metrics = pretrain(run, configuration, config)
    print(embedded_report(metrics))
    for path in arguments.write:
        write_between_marks(path, "embedded", embedded_report(metrics))
    return 0
