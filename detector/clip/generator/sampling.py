"""Pictures from the generator: the flow's equation solved from noise, then the autoencoder's decoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from detector.clip.autoencoder import Autoencoder, load_autoencoder
from detector.clip.backbone import Backbone
from detector.clip.generator.model import Generator, load_generator
from detector.devices import to_numpy
from detector.steps import checkpoint

MOST_STEPS = 200
MOST_GUIDANCE = 20.0
MOST_SEEDS = 2**31


@dataclass(frozen=True)
class Sampling:
    """steps: Euler steps, 1 to MOST_STEPS. guidance: factor on the difference between the velocities with and without text, 0 to
    MOST_GUIDANCE (arXiv 2207.12598); 1: the velocity with text. seed: of the noise, 0 to below MOST_SEEDS. ValueError outside these."""

    steps: int = 40
    guidance: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"The number of steps must lie between 1 and {MOST_STEPS}.")
        if not 0 <= self.guidance <= MOST_GUIDANCE:
            raise ValueError(f"The guidance must lie between 0 and {MOST_GUIDANCE:g}.")
        if not 0 <= self.seed < MOST_SEEDS:
            raise ValueError(f"The seed must lie between 0 and {MOST_SEEDS - 1}.")


@dataclass(frozen=True)
class Painter:
    """What makes a picture of words: flow, decoder, text tower."""

    generator: Generator
    autoencoder: Autoencoder
    backbone: Backbone

    def paint(self, texts: list[str], sampling: Sampling = Sampling()) -> np.ndarray:
        """(len(texts), H, W, 3) uint8. Equal texts, weights and sampling give equal pictures on one machine. ValueError without a word."""
        if not all(any(character.isalnum() for character in text) for text in texts):
            raise ValueError("Say in a few words what the picture shall show.")
        return decode(self.autoencoder, self.generator, sample(self.generator, self.backbone.encode_text(texts), sampling))


@torch.inference_mode()
def sample(generator: Generator, texts: Tensor, sampling: Sampling) -> Tensor:
    """texts: (B, E) unit rows → (B, C, S, S) along the generator's axes. The noise depends on the seed and the place in the batch."""
    shape = generator.shape
    noise = torch.Generator().manual_seed(sampling.seed)
    latents = torch.randn(len(texts), shape.channels, shape.side, shape.side, generator=noise)
    both = torch.cat([texts, torch.full_like(texts, torch.nan)])
    for step in range(sampling.steps):
        checkpoint()
        times = torch.full((len(both),), step / sampling.steps)
        with_text, without = generator(latents.repeat(2, 1, 1, 1), times, both).chunk(2)
        latents = latents + (without + sampling.guidance * (with_text - without)) / sampling.steps
    return latents


@torch.inference_mode()
def decode(autoencoder: Autoencoder, generator: Generator, latents: Tensor) -> np.ndarray:
    """(B, C, S, S) latents along the generator's axes → (B, H, W, 3) uint8."""
    pictures = autoencoder.decode(generator.to_autoencoder(latents))
    return to_numpy((pictures.permute(0, 2, 3, 1) * 255).round().byte())


@lru_cache(maxsize=1)
def _shipped_weights() -> tuple[Generator, Autoencoder]:
    return load_generator(), load_autoencoder()


def shipped_painter(backbone: Backbone) -> Painter:
    """With the shipped weights, read once. backbone: the embedded one, whose texts the generator learned from. WeightsError, one sentence,
    if a file is missing or damaged."""
    return Painter(*_shipped_weights(), backbone)
