"""Small convolutional autoencoders: photographs re-synthesised from a fraction of their resolution.

The shipped one (an eighth) makes the project's own synthetic examples: every pixel of its output comes from a decoder with learned
upsampling, as in latent diffusion, and no picture of anybody's has to be shipped. It is no detector and no detector is trained on it.
`detector/training/resynthesis.py` trains others, whose pictures heads can learn from.
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
EPOCH_STEPS = 50  # after which the mean loss is printed
RATE = 2e-3  # at its peak
LATENT = 12  # channels at an eighth of the resolution: 16 times fewer numbers than the image has


@dataclass(frozen=True)
class Architecture:
    """upsampling: "nearest", "bilinear", "transposed" or "shuffle" (pixel shuffle). widths: channels at a half, a quarter, … of the
    resolution. latent: channels at the lowest. levels: values that a latent number can take; 0: any (no quantisation)."""

    upsampling: str = "nearest"
    widths: tuple[int, ...] = (32, 64, 96)
    latent: int = LATENT
    levels: int = 0

    @property
    def factor(self) -> int:
        """The image's side over the latent's side."""
        return int(2 ** len(self.widths))


def doubling(upsampling: str, ins: int, outs: int) -> list[nn.Module]:
    """Layers that take (B, ins, H, W) to (B, outs, 2H, 2W)."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(ins, outs, 4, 2, 1), nn.GELU()]
    if upsampling == "shuffle":
        return [nn.Conv2d(ins, 4 * outs, 3, 1, 1), nn.PixelShuffle(2), nn.GELU()]
    return [nn.Upsample(scale_factor=2, mode=upsampling), nn.Conv2d(ins, outs, 3, 1, 1), nn.GELU()]


class Autoencoder(nn.Module):
    """(B, 3, H, W) in [0, 1] → the same shape; H and W multiples of the architecture's factor."""

    def __init__(self, architecture: Architecture = Architecture()):
        super().__init__()
        self.architecture, widths = architecture, architecture.widths
        ins, last = (3, *widths[:-1]), widths[0] * 3 // 4
        down = [layer for i, o in zip(ins, widths, strict=True) for layer in (nn.Conv2d(i, o, 4, 2, 1), nn.GELU())]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], architecture.latent, 1))
        outs = (*widths[-2::-1], last)
        up = [layer for i, o in zip(widths[::-1], outs, strict=True) for layer in doubling(architecture.upsampling, i, o)]
        self.decoder = nn.Sequential(nn.Conv2d(architecture.latent, widths[-1], 3, 1, 1), nn.GELU(), *up, nn.Conv2d(last, 3, 3, 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → the latent, (B, C, H / factor, W / factor)."""
        return quantised(self.encoder(images * 2 - 1), self.architecture.levels)

    def decode(self, latents: Tensor) -> Tensor:
        """The picture of a latent, in [0, 1]."""
        return self.decoder(latents).sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → its reconstruction, in [0, 1]."""
        return self.decode(self.encode(images))


def quantised(latent: Tensor, levels: int) -> Tensor:
    """Each number bounded and rounded to one of `levels` values, with the gradient of no rounding (finite scalar quantisation,
    arXiv 2309.15505, for odd `levels`); the latent as it is for 0."""
    if not levels:
        return latent
    bounded = latent.tanh() * (levels // 2)
    return bounded + (bounded.round() - bounded).detach()


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

    def __init__(self, images: list[np.ndarray], crops: Crops, architecture: Architecture = Architecture()):
        model = Autoencoder(architecture).to(choose_device())
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


def load_autoencoder(path: Path = WEIGHTS, architecture: Architecture = Architecture()) -> Autoencoder:
    """The autoencoder of a weights file. WeightsError, one sentence, if the file is missing or damaged."""
    model = Autoencoder(architecture)
    model.load_state_dict({name: value.float() for name, value in read_weights(path)[0].items()})
    return model.eval()


@torch.inference_mode()
def resynthesise(pixels: np.ndarray, model: Autoencoder) -> np.ndarray:
    """(H, W, 3) uint8 → the decoder's picture of it, cut to multiples of the architecture's factor."""
    factor = model.architecture.factor
    height, width = (length // factor * factor for length in pixels.shape[:2])
    image = torch.from_numpy(pixels[:height, :width].copy()).to(next(model.parameters()).device).permute(2, 0, 1)[None].float() / 255
    return to_numpy((model(image)[0].permute(1, 2, 0) * 255).round().byte())
