"""First stage of pre-training: the towers learn content, by a contrastive loss over captions, and photographic attributes.

Choices, not from a paper: patches are dropped at random for speed (as in FLIP, arXiv 2212.00794) and come back for the last epochs;
the weight matrices inside the blocks are updated along orthogonalised momentum (Muon), the rest by AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from detector.checkpoints import Checkpoint
from detector.clip.pretrain.data import Batch, Pairs, PretrainConfig, batches
from detector.clip.pretrain.losses import tower_loss
from detector.clip.pretrain.measures import measure
from detector.clip.pretrain.model import CaptionModel, make_optimisers, set_rate
from detector.clip.towers import Tower
from detector.trainer import Losses, Plan, Trainer


def dropout_at(epoch: int, config: PretrainConfig) -> float:
    """The share of patches that an epoch leaves out."""
    if epoch >= config.epochs - config.full_epochs:
        return 0.0
    return config.early_dropout if epoch < config.early_epochs else config.patch_dropout


class TowerTrainer(Trainer[Tower, Batch]):
    """Trains everything but the caption decoder, and prints the measures on `val` after each epoch."""

    title = "towers"

    def __init__(self, subject: CaptionModel, train: Pairs, val: Pairs, config: PretrainConfig, checkpoint: Checkpoint | None = None):
        self.freeze(subject.model)
        plan = Plan(config.epochs, average=config.average, clip=5.0, mixed_precision=True, title=self.title)
        super().__init__(subject.model, make_optimisers(subject.model, config), plan, checkpoint)
        self.subject, self.pairs, self.val, self.config = subject, train, val, config

    def freeze(self, model: Tower) -> None:
        """Mark what is not trained."""
        model.text_decoder.requires_grad_(False)

    def before_epoch(self, epoch: int) -> None:
        self.module.visual.patch_dropout.prob = dropout_at(epoch, self.config)

    def batches(self, epoch: int) -> Iterator[Batch]:
        return batches(self.pairs, self.subject.size, self.config, epoch)

    def before_step(self, epoch: int, step: int) -> None:
        steps = max(1, len(self.pairs.images) // self.config.batch)
        set_rate(self.optimisers, (epoch + (step + 1) / steps) / self.config.epochs)

    def loss(self, batch: Batch) -> Losses:
        return tower_loss(self.subject, batch, self.config.attribute_weight)

    def after_step(self) -> None:
        self.module.logit_scale.data.clamp_(max=math.log(100))

    def after_epoch(self, better: bool) -> None:
        measures = measure(replace(self.subject, model=self.result), self.val)
        print("  ", {name: round(value, 3) for name, value in measures.items()}, flush=True)


class ImageTowerTrainer(TowerTrainer):
    """Trains the image tower alone; the text tower and the temperature stay as they are, bit for bit.

    The mirror image of arXiv 2111.07991, which keeps the image tower (choice): what rests on texts, such as directions of concepts
    and the generator, stays valid.
    """

    title = "image tower"

    def freeze(self, model: Tower) -> None:
        model.requires_grad_(False)
        model.visual.requires_grad_(True)
