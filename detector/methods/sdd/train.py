"""Training of SDD (arXiv 2508.12341).

Both classes get windows at native resolution, of the pictures and of random copies of them; every source has its share of the
draws (`SddRecipe.power`). Early stopping reads the `val` split; test splits are never read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from detector.checkpoints import Checkpoint
from detector.clip.backbone import Backbone
from detector.clip.towers import Tower
from detector.data.datasets import Example
from detector.methods.sdd.bag import build_bag
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.losses import sdd_loss
from detector.methods.sdd.model import Sdd
from detector.methods.sdd.recipe import PLACES, PLACES_RECIPE, SddRecipe
from detector.methods.sdd.windows import LabelledPictures, WindowBatch, WindowPool, draw_pool, steps_of
from detector.methods.table import Fitted, Table, Training
from detector.trainer import Losses, Plan, Trainer

LAYOUT = "trained tensors, 3"  # what a checkpoint holds
RISE = 0.3  # share of the steps in which the rate rises to its peak


@dataclass(frozen=True)
class SddRun:
    """One training of SDD. checkpoint: file written after every epoch, from which `resume` continues."""

    config: SddConfig = SddConfig()
    recipe: SddRecipe = SddRecipe()
    seed: int = 0
    checkpoint: Path | None = None
    resume: bool = False

    def identity(self, backbone: Backbone) -> str:
        """All that a checkpoint depends on, its layout first; the number of epochs may change."""
        return json.dumps([LAYOUT, backbone.fingerprint, asdict(self.config), asdict(replace(self.recipe, epochs=0)), self.seed])

    def file(self, backbone: Backbone) -> Checkpoint | None:
        """None where no checkpoint is named."""
        return Checkpoint(self.checkpoint, self.identity(backbone), self.resume) if self.checkpoint else None


def rate_factor(progress: float) -> float:
    """Share of the peak rate at a share `progress` of all steps: it rises linearly, then falls linearly to zero."""
    return progress / RISE if progress < RISE else (1 - progress) / (1 - RISE)


class SddTrainer(Trainer[Sdd, WindowBatch]):
    """Trains on windows of `train`; the mean of the weights with the best AUROC on `val` is the result."""

    def __init__(self, head: SddHead, train: LabelledPictures, val: LabelledPictures, run: SddRun, checkpoint: Checkpoint | None):
        recipe, model = run.recipe, head.model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=recipe.weight_decay)
        plan = Plan(recipe.epochs, recipe.patience, "auroc_val", average=recipe.average, clip=5.0, mixed_precision=True, title="sdd")
        super().__init__(model, [optimiser], plan, checkpoint)
        self.train, self.val, self.settings, self.head = train, val, run, replace(head, model=self.result)

    @cached_property
    def pool(self) -> WindowPool:
        """The windows of the training images: made only where an epoch is left to train."""
        return draw_pool(self.train, self.head, self.settings.recipe, self.settings.seed)

    def batches(self, epoch: int) -> Iterator[WindowBatch]:
        return self.pool.batches(self.settings.recipe, (self.settings.seed, epoch))

    def before_step(self, epoch: int, step: int) -> None:
        recipe = self.settings.recipe
        steps = steps_of(len(self.train.labels), recipe)
        for group in self.optimisers[0].param_groups:
            group["lr"] = recipe.rate * rate_factor((epoch * steps + step + 1) / (recipe.epochs * steps + 1))

    def loss(self, batch: WindowBatch) -> Losses:
        model = self.module
        shares = torch.from_numpy(batch.shares).to(model.device).float()
        images = self.head.prepare(list(batch.pixels))
        known = None if batch.tokens is None else torch.from_numpy(batch.tokens).to(model.device).float()
        tokens = model.encode(images) if known is None else model.adapt(known)
        return sdd_loss(model.read(images, tokens), shares, self.settings.recipe)

    def validate(self) -> float:
        """AUROC on the validation images."""
        from sklearn.metrics import roc_auc_score  # slow to import, and scoring needs none of it

        return float(roc_auc_score(self.val.labels, self.head.unscaled(self.val.pixels)))


@dataclass(frozen=True)
class Trained:
    """head: not calibrated. log: for each epoch its number, its validation AUROC and its mean losses."""

    head: SddHead
    log: list[dict[str, float]]


def fit_sdd(train: Sequence[Example], val: Sequence[Example], backbone: Backbone, run: SddRun = SddRun()) -> Trained:
    """Train on windows of `train`, with early stopping on `val`.

    ValueError if the checkpoint was made with other settings, or if a loss on tokens meets a read-out without their logits.
    """
    if run.recipe.places and run.config.readout != "tokens":
        raise ValueError("A loss on places needs the read-out 'tokens'; set the recipe's `places` to 0 or change the read-out.")
    torch.manual_seed(run.seed)
    tower: Tower = backbone.model.visual
    model = Sdd(tower, run.config, build_bag(backbone, train, run.config, run.seed))
    head = SddHead(model, normalisation(backbone))
    trainer = SddTrainer(head, LabelledPictures.of(train), LabelledPictures.of(val), run, run.file(backbone))
    result = trainer.run().eval().requires_grad_(False)
    return Trained(replace(head, model=result), trainer.state.log)


# --- as a method ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SddOptions:
    """How the method `sdd` is trained. checkpoints: folder of the files that `resume` continues from, one for each backbone and seed."""

    config: SddConfig = PLACES
    recipe: SddRecipe = PLACES_RECIPE
    checkpoints: Path | None = None
    resume: bool = False

    def run(self, backbone: Backbone, seed: int) -> SddRun:
        name = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', backbone.name)}-{seed}.pt"
        return SddRun(self.config, self.recipe, seed, self.checkpoints / name if self.checkpoints else None, resume=self.resume)


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """SDD on the tables' pictures as they are: it draws random windows itself. training.options: `SddOptions`."""
    options = training.options if isinstance(training.options, SddOptions) else SddOptions()
    run = options.run(training.backbone, training.seed)
    trained = fit_sdd(train.pictures.originals(), val.pictures.originals(), training.backbone, run)
    return Fitted.by(run.recipe, trained.head, trained.head.details() | {"seed": run.seed, "epochs": trained.log})
