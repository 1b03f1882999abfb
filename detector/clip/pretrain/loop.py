"""Train the embedded model, a small CoCa, from scratch on image-caption pairs and on photographic attributes.

Two stages, both resumable. The towers learn content (contrastive loss over captions) and attributes (an edited copy of
a photograph must lie further along the attribute's text direction than the copy before the edit). Then the caption
decoder learns on the frozen towers. Either part can go on from exported weights: `keep_text`, `refine_decoder`. Nothing here knows which
images are real or synthetic.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector.checkpoints import Checkpoint
from detector.clip.backbone import WEIGHTS_FILE
from detector.clip.pretrain.data import KEEP_TEXT, Pairs, PretrainConfig, load_pairs
from detector.clip.pretrain.decoder import DecoderTrainer
from detector.clip.pretrain.measures import measure
from detector.clip.pretrain.model import CaptionModel
from detector.clip.pretrain.towers import ImageTowerTrainer, TowerTrainer
from detector.clip.towers import Tower
from detector.hub.weights import read_weights, tensor_digest, write_weights


@dataclass(frozen=True)
class PretrainRun:
    """pairs: folder of the images and captions. out: folder that gets the exported model. checkpoints: folder of the files that
    `resume` continues from."""

    pairs: Path
    out: Path
    checkpoints: Path
    resume: bool = False
    device: torch.device | str = "cpu"

    def checkpoint(self, stage: str, config: PretrainConfig, start: str = "") -> Checkpoint:
        """The file of a stage. start: digest of the weights that the stage starts from; the number of epochs may change."""
        identity = json.dumps([asdict(replace(config, epochs=0, caption_epochs=0)), start])
        return Checkpoint(self.checkpoints / f"{stage}.pt", identity, self.resume, restart=bool(start))


def decoder_trainer(run: PretrainRun, subject: CaptionModel, train: Pairs, config: PretrainConfig) -> DecoderTrainer:
    """The second stage, ready to run. A checkpoint of other towers is not used: the stage starts from its first epoch."""
    towers = {name: value for name, value in subject.model.state_dict().items() if not name.startswith("text_decoder.")}
    checkpoint = run.checkpoint("decoder", config, tensor_digest(towers))
    return DecoderTrainer(subject, train, load_pairs(run.pairs, "val"), config, checkpoint)


def export(model: Tower, configuration: dict[str, Any], metrics: dict[str, Any], out: Path) -> None:
    """Write float16 weights, the open_clip configuration and the metrics: a folder that open_clip itself can load."""
    write_export({name: value.half().cpu().contiguous() for name, value in model.state_dict().items()}, configuration, metrics, out)


def write_export(weights: dict[str, Tensor], configuration: dict[str, Any], metrics: dict[str, Any], out: Path) -> None:
    """The three files of a backbone folder; the weights replace older ones only when they are written in full."""
    write_weights(out / WEIGHTS_FILE, weights, {"format": "pt", "licence": "research and education"})
    (out / "open_clip_config.json").write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pretrain(run: PretrainRun, configuration: dict[str, Any], config: PretrainConfig) -> dict[str, Any]:
    """Both stages, then the measures on the `test` split, then the export. Returns the metrics."""
    torch.manual_seed(config.seed)
    subject = CaptionModel.build(configuration, run.device)
    checkpoint = run.checkpoint("towers", config)
    metrics = _both_stages(run, subject, TowerTrainer, config, checkpoint)
    export(subject.model, configuration, metrics, run.out)
    return metrics


def _both_stages(
    run: PretrainRun, subject: CaptionModel, kind: type[TowerTrainer], config: PretrainConfig, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Train the towers that `kind` trains, then the decoder; `subject.model` gets the result. Returns the metrics."""
    train, val = load_pairs(run.pairs, "train"), load_pairs(run.pairs, "val")
    print(f"{len(train.images)} training images, {sum(map(len, train.captions))} captions")
    towers = kind(subject, train, val, config, checkpoint)
    subject.model.load_state_dict(towers.run().state_dict())
    decoder = decoder_trainer(run, subject, train, config)
    decoder.run()
    return measure(subject, load_pairs(run.pairs, "test"), attributes=200) | {
        "caption_nats_per_token_val": decoder.state.best,
        "tower_seconds": towers.state.seconds,
        "decoder_seconds": decoder.state.seconds,
        "images": len(train.images),
        "config": asdict(config),
    }


@dataclass(frozen=True)
class Exported:
    """An exported folder, read again: tensors in float16, the open_clip configuration, the metrics."""

    weights: dict[str, Tensor]
    configuration: dict[str, Any]
    metrics: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Exported:
        """WeightsError, one sentence, if the weights cannot be used."""
        configuration, metrics = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("open_clip_config.json", "metrics.json")
        )
        return cls(read_weights(folder / WEIGHTS_FILE)[0], configuration, metrics)

    def subject(self, device: torch.device | str) -> CaptionModel:
        """The model with these weights, in float32."""
        subject = CaptionModel.build(self.configuration)
        subject.model.load_state_dict(self.weights)
        subject.model.to(device)
        return subject


def keep_text(run: PretrainRun, weights: Path, config: PretrainConfig = KEEP_TEXT) -> dict[str, Any]:
    """Train the image tower of the exported folder `weights` further, then the decoder on it; the text tower stays, bit for bit.

    Writes `run.out`. Returns the metrics; under "before" those of `weights`.
    """
    torch.manual_seed(config.seed)
    before = Exported.read(weights)
    subject = before.subject(run.device)
    checkpoint = run.checkpoint("image_tower", config, tensor_digest(before.weights))
    metrics = _both_stages(run, subject, ImageTowerTrainer, config, checkpoint) | {"before": before.metrics}
    export(subject.model, before.configuration, metrics, run.out)
    return metrics


def refine_decoder(run: PretrainRun, weights: Path, config: PretrainConfig) -> dict[str, Any]:
    """Train only the caption decoder, on from the exported folder `weights`; both towers stay as they are, bit for bit.

    `run.out` gets the decoder of the epoch with the lowest validation loss, anew after each better epoch. Returns the metrics.
    """
    torch.manual_seed(config.seed)
    exported = Exported.read(weights)
    subject, metrics = exported.subject(run.device), dict(exported.metrics)
    before = {"caption_nats_per_token_val": metrics.get("caption_nats_per_token_val"), "seconds": metrics.get("decoder_seconds", 0.0)}

    def write(trainer: DecoderTrainer) -> None:
        metrics.update(
            caption_nats_per_token_val=trainer.state.best,
            decoder_seconds=before["seconds"] + trainer.state.seconds,
            decoder_before=before,
            decoder_config={name: value for name, value in asdict(config).items() if name.startswith("caption")},
        )
        write_export(exported.weights | decoder_weights(subject.model), exported.configuration, metrics, run.out)

    trainer = decoder_trainer(run, subject, load_pairs(run.pairs, "train"), config)
    trainer.improved = write
    trainer.run()
    write(trainer)
    return metrics


def decoder_weights(model: Tower) -> dict[str, Tensor]:
    """The decoder's tensors in float16, under the names that the whole model gives them."""
    return {f"text_decoder.{name}": value.half().cpu().contiguous() for name, value in model.text_decoder.state_dict().items()}
