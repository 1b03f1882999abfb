"""The training of SDD's enhancer by itself, before the rest of the model (ours).

It learns its windows' labels, and the logits of the `residual` head trained on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.checkpoints import Checkpoint
from detector.methods.residual.features import WINDOW, features
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddHead
from detector.methods.sdd.model import FEATURES, Enhancer
from detector.methods.sdd.recipe import SddRecipe
from detector.methods.sdd.windows import WORKERS, draw_window, window_of
from detector.progress import progress
from detector.trainer import Losses, Plan, Stateful, Trainer

Teacher = Callable[[np.ndarray], float]  # (S, S, 3) uint8 → logit, higher speaks for synthetic


@dataclass(frozen=True)
class WindowSample:
    """Windows (N, S, S, 3) uint8 drawn once, their labels (N,) and the teacher's logits (N,), cut at ±6."""

    pixels: np.ndarray
    labels: Tensor
    logits: Tensor


def residual_teacher(head: ResidualHead) -> Teacher:
    """The `residual` head on the middle of a window: it reads squares of its own size, and four would take four times as long."""

    def logit(window: np.ndarray) -> float:
        start = max(0, (window.shape[0] - WINDOW) // 2)
        return float(head.logits(features(window[start : start + WINDOW, start : start + WINDOW])[None])[0])

    return logit


def sample_windows(
    pictures: Sequence[np.ndarray], labels: np.ndarray, size: int, teacher: Teacher, recipe: SddRecipe, seed: int
) -> WindowSample:
    """`recipe.pretrain_windows` random windows of every picture, scored by the teacher."""
    generator = np.random.default_rng((seed, 1))
    windows: list[np.ndarray] = []
    logits: list[float] = []
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for _ in progress(range(recipe.pretrain_windows), title="sdd: windows"):
            draws = [draw_window(p.shape, size, generator) for p in pictures]
            pixels = list(pool.map(window_of, pictures, [size] * len(draws), draws))
            windows += pixels
            logits += pool.map(teacher, pixels)
    each = torch.as_tensor(np.tile(labels, recipe.pretrain_windows), dtype=torch.float32)
    return WindowSample(np.stack(windows), each, torch.tensor(logits).clamp(-6, 6))


class EnhancerClassifier(nn.Module):
    """The enhancer under neutral modulation, and a classifier that only its own training uses."""

    def __init__(self, enhancer: Enhancer):
        super().__init__()
        self.enhance = enhancer
        classify = nn.Sequential(
            nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Linear(FEATURES, 1)
        )
        self.classify = classify.to(enhancer.summary.weight.device)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → (B,) logits; higher speaks for synthetic."""
        return self.classify(self.enhance(images, None)).squeeze(1)


@dataclass(frozen=True)
class Lessons:
    """What the enhancer learns from. sample: makes the windows, called only where an epoch is left to train. count: of the windows."""

    sample: Callable[[], WindowSample]
    count: int


class EnhancerTrainer(Trainer[EnhancerClassifier, Tensor]):
    """Trains an SDD head's enhancer on labels and the teacher's logits. Its checkpoint holds nothing of the rest of the model, so that
    runs that differ there can share it."""

    def __init__(self, head: SddHead, lessons: Lessons, recipe: SddRecipe, seed: int, checkpoint: Checkpoint | None = None):
        module = EnhancerClassifier(head.model.enhance)
        optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.pretrain_rate, weight_decay=1e-3)
        super().__init__(module, [optimiser], Plan(recipe.pretrain_epochs, average=recipe.average, title="sdd: enhancer"), checkpoint)
        self.head, self.lessons, self.recipe, self.seed = head, lessons, recipe, seed
        self.rows = lessons.count // recipe.pretrain_batch * recipe.pretrain_batch  # of an epoch: whole batches
        total = max(1, recipe.pretrain_epochs * (lessons.count // recipe.pretrain_batch))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.pretrain_rate, total_steps=total)

    @cached_property
    def windows(self) -> WindowSample:
        return self.lessons.sample()

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Row numbers."""
        generator = torch.Generator().manual_seed(self.seed + 1000 * epoch)
        yield from torch.randperm(len(self.windows.labels), generator=generator)[: self.rows].split(self.recipe.pretrain_batch)

    def loss(self, batch: Tensor) -> Losses:
        logits = self.module(self.head.prepare(list(self.windows.pixels[batch.numpy()])))
        return {"loss": teacher_loss(logits, self.windows, batch, self.recipe.teacher_share)}

    def after_step(self) -> None:
        self.schedule.step()

    def parts(self) -> dict[str, Stateful]:
        return super().parts() | {"schedule": self.schedule}


def pretrain_enhancer(head: SddHead, lessons: Lessons, recipe: SddRecipe, seed: int, checkpoint: Checkpoint | None = None) -> None:
    """Train the enhancer of the head's model by itself, then let its modulation start neutral."""
    trained = EnhancerTrainer(head, lessons, recipe, seed, checkpoint).run()
    head.model.enhance.load_state_dict(trained.enhance.state_dict())
    head.model.enhance.neutralise()


def teacher_loss(logits: Tensor, sample: WindowSample, rows: Tensor, share: float) -> Tensor:
    """(1 − share) · entropy of the labels, both classes weighing the same, + share · smooth L1 to the teacher's logits."""
    labels, taught = sample.labels[rows].to(logits.device), sample.logits[rows].to(logits.device)
    rarity = float((sample.labels == 0).sum() / (sample.labels == 1).sum())
    entropy = F.binary_cross_entropy_with_logits(logits, labels, torch.where(labels == 1, rarity, 1.0))
    return (1 - share) * entropy + share * F.smooth_l1_loss(logits, taught)
