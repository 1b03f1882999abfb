"""Training of SDD (arXiv 2508.12341).

Both classes get the same random windows at native resolution: scaled a little, mirrored, blurred, compressed. With a teacher (ours)
the enhancer is first trained by itself, see `enhancer.py`. Early stopping reads the `val` split; test splits are never read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector.checkpoints import Checkpoint
from detector.clip.backbone import Backbone
from detector.clip.towers import Tower
from detector.data.datasets import Example
from detector.data.images import load_photo
from detector.methods.calibration import calibrated
from detector.methods.residual import train as residual_train
from detector.methods.sdd.bag import build_bag
from detector.methods.sdd.enhancer import Lessons, Teacher, pretrain_enhancer, residual_teacher, sample_windows
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.losses import sdd_loss
from detector.methods.sdd.model import Sdd, SddConfig
from detector.methods.sdd.recipe import SHIPPED, SHIPPED_RECIPE, SddRecipe
from detector.methods.sdd.windows import batches
from detector.methods.table import Fitted, Table, Training
from detector.trainer import Losses, Plan, Trainer

LAYOUT = "trained tensors, 2"  # what a checkpoint holds


@dataclass(frozen=True)
class SddRun:
    """One training of SDD.

    checkpoint: file written after every epoch, from which `resume` continues. enhancer: the same for the enhancer's own training;
    None: beside `checkpoint`.
    """

    config: SddConfig = SddConfig()
    recipe: SddRecipe = SddRecipe()
    seed: int = 0
    checkpoint: Path | None = None
    enhancer: Path | None = None
    resume: bool = False

    def identity(self, backbone: Backbone) -> str:
        """All that a checkpoint depends on, its layout first; the number of epochs may change."""
        return json.dumps([LAYOUT, backbone.fingerprint, asdict(self.config), asdict(replace(self.recipe, epochs=0)), self.seed])

    def model_checkpoint(self, backbone: Backbone) -> Checkpoint | None:
        """Of the whole model; None where no file is named."""
        return Checkpoint(self.checkpoint, self.identity(backbone), self.resume) if self.checkpoint else None

    def enhancer_checkpoint(self, backbone: Backbone) -> Checkpoint | None:
        """Of the enhancer's own training, which the rest of the model does not touch; None where no file is named."""
        path = self.enhancer or (self.checkpoint.with_suffix(".enhancer.pt") if self.checkpoint else None)
        if path is None:
            return None
        config, recipe = self.config, asdict(self.recipe)
        settings = {name: value for name, value in recipe.items() if name.startswith(("pretrain", "teacher", "average"))}
        form = [config.inputs, config.covariance, config.modulation, config.modulated_stages]
        return Checkpoint(path, json.dumps([LAYOUT, backbone.fingerprint, *form, settings, self.seed]), self.resume, restart=True)


@dataclass(frozen=True)
class LabelledPictures:
    """pixels: (H, W, 3) uint8 images, labels: (N,), 1 synthetic."""

    pixels: Sequence[np.ndarray]
    labels: np.ndarray

    @classmethod
    def load(cls, examples: Sequence[Example]) -> LabelledPictures:
        return cls([load_photo(e.path).pixels for e in examples], np.array([e.label for e in examples]))


class SddTrainer(Trainer[Sdd, tuple[np.ndarray, np.ndarray]]):
    """Trains on random windows of `train`; the mean of the weights with the best AUROC on `val` is the result."""

    def __init__(self, head: SddHead, train: LabelledPictures, val: LabelledPictures, run: SddRun, checkpoint: Checkpoint | None):
        recipe, model = run.recipe, head.model
        plan = Plan(recipe.epochs, recipe.patience, "auroc_val", average=recipe.average, clip=5.0, mixed_precision=True, title="sdd")
        super().__init__(model, [sdd_optimiser(model, recipe)], plan, checkpoint)
        self.train, self.val, self.run_settings, self.head = train, val, run, replace(head, model=self.result)

    def before_epoch(self, epoch: int) -> None:
        """The rate falls linearly to a twentieth."""
        recipe = self.run_settings.recipe
        for group in self.optimisers[0].param_groups:
            group["lr"] = recipe.rate * group["times"] * (1 - 0.95 * epoch / recipe.epochs)

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Windows (B, S, S, 3) and labels (B,)."""
        run = self.run_settings
        return batches(self.train.pixels, self.train.labels, self.head.size, run.recipe, (run.seed, epoch))

    def loss(self, batch: tuple[np.ndarray, np.ndarray]) -> Losses:
        windows, labels = batch
        targets = torch.as_tensor(labels, dtype=torch.float32, device=self.module.device)
        return sdd_loss(self.module, self.head.prepare(list(windows)), targets, self.run_settings.recipe)

    def clipped(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimisers[0].param_groups for parameter in group["params"]]

    def validate(self) -> float:
        """AUROC on the validation images."""
        from sklearn.metrics import roc_auc_score  # slow to import, and scoring needs none of it

        return float(roc_auc_score(self.val.labels, self.head.unscaled(self.val.pixels)))


def sdd_optimiser(model: Sdd, recipe: SddRecipe) -> torch.optim.AdamW:
    """Two groups. `times` of a group: the factor from the recipe's rate to the group's."""
    enhancer = set(model.enhance.parameters())
    rest = [p for p in model.parameters() if p.requires_grad and p not in enhancer]
    groups = [{"params": rest, "times": 1.0}, {"params": list(model.enhance.parameters()), "times": recipe.enhancer_rate}]
    return torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay)


@dataclass(frozen=True)
class Trained:
    """head: not calibrated. log: for each epoch its number, its validation AUROC and its mean losses."""

    head: SddHead
    log: list[dict[str, float]]


def fit_sdd(
    train: Sequence[Example],
    val: Sequence[Example],
    backbone: Backbone,
    run: SddRun = SddRun(),
    teacher: Callable[[], Teacher] | None = None,
) -> Trained:
    """Train on windows of `train`, with early stopping on `val`.

    teacher: makes the teacher of the enhancer; it is called only where the recipe trains the enhancer first. ValueError if the
    checkpoint was made with other settings.
    """
    torch.manual_seed(run.seed)
    pictures, val_pictures = LabelledPictures.load(train), LabelledPictures.load(val)
    tower: Tower = backbone.model.visual
    model = Sdd(tower, run.config, build_bag(backbone, train, run.config, run.seed))
    head, checkpoint = SddHead(model, normalisation(backbone)), run.model_checkpoint(backbone)
    if teacher and run.recipe.pretrain_epochs and run.config.use_enhancer and not (checkpoint and checkpoint.load()):
        _pretrain(head, pictures, teacher, run, run.enhancer_checkpoint(backbone))
    trainer = SddTrainer(head, pictures, val_pictures, run, checkpoint)
    result = trainer.run().eval().requires_grad_(False)
    return Trained(replace(head, model=result), trainer.state.log)


def _pretrain(
    head: SddHead, pictures: LabelledPictures, teacher: Callable[[], Teacher], run: SddRun, checkpoint: Checkpoint | None
) -> None:
    if checkpoint and not run.resume:
        checkpoint.path.unlink(missing_ok=True)
    sample = lambda: sample_windows(pictures.pixels, pictures.labels, head.size, teacher(), run.recipe, run.seed)  # noqa: E731
    lessons = Lessons(sample, len(pictures.labels) * run.recipe.pretrain_windows)
    pretrain_enhancer(head, lessons, run.recipe, run.seed, checkpoint)


# --- as a method ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SddOptions:
    """How the method `sdd` is trained. checkpoints: folder of the files that `resume` continues from, one for each backbone and seed."""

    config: SddConfig = SHIPPED
    recipe: SddRecipe = SHIPPED_RECIPE
    checkpoints: Path | None = None
    resume: bool = False

    def run(self, backbone: Backbone, seed: int) -> SddRun:
        name = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', backbone.name)}-{seed}.pt"
        return SddRun(self.config, self.recipe, seed, self.checkpoints / name if self.checkpoints else None, resume=self.resume)


def sdd_teacher(train: Table, val: Table, training: Training) -> Teacher:
    """The `residual` head trained on these tables, as the teacher of SDD's enhancer."""
    return residual_teacher(calibrated(residual_train.fit_residual(train, val), val, training.backbone))


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """SDD on the tables' pictures as they are: it draws random windows itself. training.options: `SddOptions`."""
    options = training.options if isinstance(training.options, SddOptions) else SddOptions()
    run = options.run(training.backbone, training.seed)
    teacher = partial(sdd_teacher, train, val, training)
    trained = fit_sdd(train.pictures.originals(), val.pictures.originals(), training.backbone, run, teacher)
    return Fitted.by(run.recipe, trained.head, trained.head.details() | {"seed": run.seed, "epochs": trained.log})
