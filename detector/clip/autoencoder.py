"""A small convolutional autoencoder: photographs re-synthesised from an eighth of their resolution.

It makes the project's own synthetic examples: every pixel of its output comes from a decoder with learned upsampling, as
in latent diffusion, and no picture of anybody's has to be shipped. It is no detector and no detector is trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.assets import MODELS
from detector.clip.backbone import choose_device
from detector.devices import to_numpy
from detector.hub.weights import read_weights, write_weights
from detector.trainer import Losses, Plan, Trainer

WEIGHTS = MODELS / "autoencoder" / "autoencoder.safetensors"
STRIDE = 8
WIDTHS = (32, 64, 96)
EPOCH_STEPS = 50  # after which the mean loss is printed
RATE = 2e-3  # at its peak
LATENT = 12  # channels at an eighth of the resolution: 16 times fewer numbers than the image has


class Autoencoder(nn.Module):
    """(B, 3, H, W) in [0, 1] → the same shape; H and W multiples of 8."""

    def __init__(self):
        super().__init__()
        ins = (3, *WIDTHS[:-1])
        down = [layer for i, o in zip(ins, WIDTHS, strict=True) for layer in (nn.Conv2d(i, o, 4, 2, 1), nn.GELU())]
        self.encoder = nn.Sequential(*down, nn.Conv2d(WIDTHS[-1], LATENT, 1))
        outs = (*WIDTHS[-2::-1], 24)
        up = [
            layer
            for i, o in zip(WIDTHS[::-1], outs, strict=True)
            for layer in (nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 3, 1, 1), nn.GELU())
        ]
        self.decoder = nn.Sequential(nn.Conv2d(LATENT, WIDTHS[-1], 3, 1, 1), nn.GELU(), *up, nn.Conv2d(24, 3, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → its reconstruction, in [0, 1]."""
        return self.decoder(self.encoder(images * 2 - 1)).sigmoid()


@dataclass(frozen=True)
class Crops:
    """How the autoencoder is trained: steps of `batch` random crops of size × size pixels."""

    steps: int = 1000
    batch: int = 24
    size: int = 96
    seed: int = 0


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the pixels plus that of their horizontal and vertical differences (keeps edges)."""
    loss = F.l1_loss(output, target)
    for axis in (2, 3):
        loss = loss + F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    return loss


class AutoencoderTrainer(Trainer[Autoencoder, Tensor]):
    """Trains on random crops of photographs, as many steps as the schedule of the rate has."""

    def __init__(self, images: list[np.ndarray], crops: Crops):
        model = Autoencoder().to(choose_device())
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
        super().__init__(model, [optimiser], Plan(-(-crops.steps // EPOCH_STEPS), title="autoencoder"))
        self.images, self.crops, self.generator = images, crops, np.random.default_rng(crops.seed)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=crops.steps)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """(B, 3, S, S) in [0, 1]."""
        device = next(self.module.parameters()).device
        for _ in range(min(EPOCH_STEPS, self.crops.steps - epoch * EPOCH_STEPS)):
            pixels = np.stack([_crop(self.images, self.crops.size, self.generator) for _ in range(self.crops.batch)])
            yield torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255

    def loss(self, batch: Tensor) -> Losses:
        return {"loss": reconstruction_loss(self.module(batch), batch)}

    def after_step(self) -> None:
        self.schedule.step()


def train_autoencoder(pairs: Path, crops: Crops = Crops(), out: Path = WEIGHTS) -> float:
    """Train on the pairs' photographs, on a GPU where there is one, and write float16 weights. Returns the mean loss of the last
    EPOCH_STEPS steps or fewer."""
    from detector.clip.pretrain.data import load_pairs

    torch.manual_seed(crops.seed)
    images = [image for image in load_pairs(pairs, "train").images if min(image.shape[:2]) >= crops.size]
    trainer = AutoencoderTrainer(images, crops)
    model = trainer.run()
    write_weights(out, {name: value.half() for name, value in model.state_dict().items()}, {})
    return trainer.state.log[-1]["loss"]


def _crop(images: list[np.ndarray], size: int, generator: np.random.Generator) -> np.ndarray:
    image = images[generator.integers(len(images))]
    y, x = (int(generator.integers(length - size + 1)) for length in image.shape[:2])
    return image[y : y + size, x : x + size]


def load_autoencoder(path: Path = WEIGHTS) -> Autoencoder:
    """The autoencoder of a weights file. WeightsError, one sentence, if the file is missing or damaged."""
    model = Autoencoder()
    model.load_state_dict({name: value.float() for name, value in read_weights(path)[0].items()})
    return model.eval()


@torch.inference_mode()
def resynthesise(pixels: np.ndarray, model: Autoencoder) -> np.ndarray:
    """(H, W, 3) uint8 → the decoder's picture of it, cut to multiples of 8 pixels."""
    height, width = (length // STRIDE * STRIDE for length in pixels.shape[:2])
    image = torch.from_numpy(pixels[:height, :width].copy()).to(next(model.parameters()).device).permute(2, 0, 1)[None].float() / 255
    return to_numpy((model(image)[0].permute(1, 2, 0) * 255).round().byte())
