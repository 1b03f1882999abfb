"""A small convolutional autoencoder: photographs re-synthesised from an eighth of their resolution.

It makes the project's own synthetic examples: every pixel of its output comes from a decoder with learned upsampling, as
in latent diffusion, and no picture of anybody's has to be shipped. It is no detector and no detector is trained on it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.assets import MODELS
from detector.clip.backbone import choose_device
from detector.devices import to_numpy
from detector.hub.weights import read_weights, write_weights

WEIGHTS = MODELS / "autoencoder" / "autoencoder.safetensors"
STRIDE = 8
WIDTHS = (32, 64, 96)
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


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the pixels plus that of their horizontal and vertical differences (keeps edges)."""
    loss = F.l1_loss(output, target)
    for axis in (2, 3):
        loss = loss + F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    return loss


def train_autoencoder(pairs: Path, steps: int = 1000, batch: int = 24, size: int = 96, seed: int = 0, out: Path = WEIGHTS) -> float:
    """Train on random crops of the pairs' photographs, on a GPU where there is one, and write float16 weights. Returns the mean
    loss of the end."""
    from detector.clip.pretrain.data import load_pairs
    from detector.progress import progress

    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    images = [image for image in load_pairs(pairs, "train").images if min(image.shape[:2]) >= size]
    device = choose_device()
    model = Autoencoder().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    losses = []
    for _ in progress(range(steps), steps, "autoencoder"):
        target = torch.from_numpy(np.stack([_crop(images, size, generator) for _ in range(batch)]))
        target = target.to(device).permute(0, 3, 1, 2).float() / 255
        loss = reconstruction_loss(model(target), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    write_weights(out, {name: value.half() for name, value in model.state_dict().items()}, {})
    return float(np.mean(losses[-50:]))


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
