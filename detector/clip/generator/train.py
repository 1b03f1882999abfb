"""Training of the generator on image-caption pairs: conditional flow matching on the frozen autoencoder's latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.checkpoints import Checkpoint
from detector.clip.autoencoder import Autoencoder, load_autoencoder
from detector.clip.backbone import Backbone
from detector.clip.generator.model import WEIGHTS, Generator, Shape, save_generator
from detector.clip.pretrain.data import Pairs, draw_weights, load_pairs
from detector.trainer import Losses, Plan, Trainer

ENCODED = 64  # pictures in a batch of the encoder


@dataclass(frozen=True)
class Recipe:
    """All choice. views: random squares of each picture, half of them mirrored. wordless: share of rows without text, for guidance.
    flickr_share: of the draws; its pictures are scenes, the others single things. The rate rises for `warm` steps; in the last
    `calm` epochs it is a fifth."""

    epochs: int = 60
    steps: int = 100  # of an epoch
    batch: int = 192
    views: int = 4
    rate: float = 1e-3
    warm: int = 200
    calm: int = 5
    wordless: float = 0.1
    flickr_share: float = 0.25
    average: float | None = None  # running mean of the weights; the calm epochs serve better (card)
    shape: Shape = field(default=Shape())
    seed: int = 0


@dataclass(frozen=True)
class Latents:
    """values: (N, views, C, S, S) float16, along `axes` (C, C) from `mean` (C, 1, 1), see `Generator`. texts: for each picture the rows of
    `embeddings` (T, E) that are its captions. weights: (N,) chance of each picture in a draw."""

    values: Tensor
    mean: Tensor
    axes: Tensor
    texts: list[list[int]]
    embeddings: Tensor
    weights: np.ndarray


def square(image: np.ndarray, side: int, generator: np.random.Generator, mirrored: bool) -> np.ndarray:
    """A random square of the picture's whole shorter side, (side, side, 3)."""
    short = min(image.shape[:2])
    y, x = (int(generator.integers(length - short + 1)) for length in image.shape[:2])
    part = cv2.resize(image[y : y + short, x : x + short], (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(part[:, ::-1]) if mirrored else part


@torch.inference_mode()
def encoded(pairs: Pairs, autoencoder: Autoencoder, recipe: Recipe) -> Tensor:
    """(N, views, C, S, S) float16, the autoencoder's latents."""
    side, generator = recipe.shape.side * autoencoder.architecture.factor, np.random.default_rng(recipe.seed)
    rows = [(image, bool(view % 2)) for image in pairs.images for view in range(recipe.views)]
    parts = []
    for start in range(0, len(rows), ENCODED):
        pixels = np.stack([square(image, side, generator, mirrored) for image, mirrored in rows[start : start + ENCODED]])
        parts.append(autoencoder.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).half())
    return torch.cat(parts).unflatten(0, (-1, recipe.views))


def principal_axes(latents: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, S, S) → mean (C, 1, 1) and axes (C, C): in columns the principal directions, the one of most variance first, all times
    the standard deviation along that one."""
    rows = latents.float().permute(0, 2, 3, 1).flatten(0, 2)
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    return mean.view(-1, 1, 1), directions.flip(1) * variances[-1].sqrt()


def along(latents: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """(…, C, S, S) latents → float16 numbers along the axes; the inverse of `Generator.to_autoencoder`."""
    return torch.einsum("kc,...chw->...khw", torch.linalg.inv(axes), latents.float() - mean).half()


def make_latents(pairs: Pairs, autoencoder: Autoencoder, backbone: Backbone, recipe: Recipe) -> Latents:
    """Of all pictures, with the embeddings of their captions."""
    values = encoded(pairs, autoencoder, recipe)
    mean, axes = principal_axes(values[:: max(1, len(values) // 1000), 0])
    texts = sorted({caption for captions in pairs.captions for caption in captions})
    number = {text: index for index, text in enumerate(texts)}
    embeddings = torch.cat([backbone.encode_text(texts[start : start + 1000]) for start in range(0, len(texts), 1000)])
    rows = [[number[caption] for caption in captions] for captions in pairs.captions]
    numbers = torch.cat([along(part, mean, axes) for part in values.split(1000)])
    return Latents(numbers, mean, axes, rows, embeddings, draw_weights(pairs.sources, recipe.flickr_share))


@dataclass(frozen=True)
class Batch:
    """latents: (B, C, S, S). texts: (B, E), NaN where there is none."""

    latents: Tensor
    texts: Tensor


class GeneratorTrainer(Trainer[Generator, Batch]):
    """Learns the velocity latent − noise at a random time between them; times follow a logit-normal law (arXiv 2403.03206)."""

    def __init__(self, latents: Latents, recipe: Recipe, checkpoint: Checkpoint | None = None):
        torch.manual_seed(recipe.seed)
        model = Generator(recipe.shape)
        model.mean, model.axes = latents.mean, latents.axes
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        plan = Plan(recipe.epochs, average=recipe.average, clip=1.0, mixed_precision=True, title="generator")
        super().__init__(model, [optimiser], plan, checkpoint)
        self.latents, self.recipe = latents, recipe

    def batches(self, epoch: int) -> Iterator[Batch]:
        generator, recipe, latents = np.random.default_rng((self.recipe.seed, epoch)), self.recipe, self.latents
        for _ in range(recipe.steps):
            rows = generator.choice(len(latents.weights), recipe.batch, p=latents.weights)
            views = generator.integers(latents.values.shape[1], size=recipe.batch)
            texts = latents.embeddings[[int(generator.choice(latents.texts[row])) for row in rows]]
            texts[generator.random(recipe.batch) < recipe.wordless] = torch.nan
            yield Batch(latents.values[rows, views].float(), texts)

    def loss(self, batch: Batch) -> Losses:
        noise = torch.randn_like(batch.latents)
        times = torch.randn(len(noise)).sigmoid()
        mix = times.view(-1, 1, 1, 1)
        velocity = self.module(mix * batch.latents + (1 - mix) * noise, times, batch.texts)
        return {"loss": F.mse_loss(velocity.float(), batch.latents - noise)}

    def before_step(self, epoch: int, step: int) -> None:
        recipe, number = self.recipe, epoch * self.recipe.steps + step + 1
        share = 0.2 if epoch >= recipe.epochs - recipe.calm else 1.0
        self.optimisers[0].param_groups[0]["lr"] = share * recipe.rate * min(1.0, number / recipe.warm)


def train_generator(pairs: Path, checkpoints: Path, recipe: Recipe = Recipe(), resume: bool = False, out: Path = WEIGHTS) -> float:
    """Train on the pairs' `train` split and write the weights. Returns the last epoch's loss."""
    latents = make_latents(load_pairs(pairs, "train"), load_autoencoder(), Backbone.load(), recipe)
    identity = str(asdict(recipe) | {"epochs": 0})
    trainer = GeneratorTrainer(latents, recipe, Checkpoint(checkpoints / "generator.pt", identity, resume))
    save_generator(trainer.run(), out)
    return trainer.state.log[-1]["loss"]
