"""The low-level half of SDD: an enhancer that reads pixels under the difference map, and the read-out by tokens (ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.methods.sdd.config import SddConfig

FEATURES = 256  # length of the enhancer's summary f, and of the classifier's hidden layer
PLACE_FEATURES = 96  # channels of the enhancer's maps at the tokens' places, for the read-out by tokens
SEMANTIC_START = 0.1  # weight of the semantic maps' batch-norm at first: near neutral; at 0 the branch would get no gradient


def modulate(features: Tensor, semantic: Tensor, kind: str) -> Tensor:
    """The enhancer's maps under the semantic maps of the same shape; "exp" weakens places where the two disagree much."""
    if kind == "exp":
        product = features * semantic
        return product + product * torch.exp(-(product - features).abs())
    gap = (features * semantic - features).abs()
    return torch.relu(features + features * (gap**2 if kind == "square" else gap))


def high_passed(images: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, 9, S, S): differences across, down, and from the four neighbours' mean, cut at ±1. Choice."""
    across = F.pad(images[..., 1:] - images[..., :-1], (0, 1, 0, 0))
    down = F.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    around = (padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]) / 4
    return (torch.cat([across, down, images - around], dim=1) * 4).clamp(-1, 1)


LUMA = (0.299, 0.587, 0.114)


def local_residual(images: Tensor, deviation: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, 6, S, S): second differences across and down of Y, B−Y and R−Y, in units of their mean size, cut at ±2.

    images: CLIP-normalised; deviation: (3, 1, 1), the preprocessing's, which turns differences into grey levels again. Dividing by
    the local size makes a flat sky and a hedge count alike; 0.3 grey levels keep rounding noise at zero. Choice, after `residual`.
    """
    levels = images * (deviation * 255)  # up to a constant, which differences do not see
    luma = (levels * levels.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    planes = torch.cat([luma, levels[:, 2:] - luma, levels[:, :1] - luma], dim=1)
    across = F.pad(planes[..., 2:] - 2 * planes[..., 1:-1] + planes[..., :-2], (1, 1, 0, 0))
    down = F.pad(planes[..., 2:, :] - 2 * planes[..., 1:-1, :] + planes[..., :-2, :], (0, 0, 1, 1))
    second = torch.cat([across, down], dim=1)
    size = F.avg_pool2d(second.abs(), 8, ceil_mode=True)  # blocks: a sliding mean costs as much as a convolution
    return (second / (0.7 * F.interpolate(size, second.shape[2:]) + 0.3)).clamp(-2, 2)


def covariances(maps: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C (C + 1) / 2): signed roots of the channels' covariances over places, for stationary traces."""
    flat = maps.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    matrix = centred @ centred.mT / flat.shape[2]  # (B, C, C)
    rows, columns = torch.triu_indices(maps.shape[1], maps.shape[1], device=maps.device)
    upper = matrix[:, rows, columns]
    return upper.sign() * (upper.abs() + 1e-6).sqrt()


class Stage(nn.Module):
    """One convolution that halves the maps, and the semantic maps at the same size that modulate them."""

    def __init__(self, convolve: nn.Sequential, width: int, grid: int, side: int, modulation: str | None):
        super().__init__()
        outside = channels_of(convolve)
        stride = -(-side // grid)
        padding = 1 if stride > 4 else (grid * stride - side) // 2  # the paper's kernels at its sizes: 9, 4 and 2
        kernel = stride + 2 if stride > 4 else stride
        self.convolve = convolve
        self.semantic = nn.Sequential(nn.ConvTranspose2d(width, outside, kernel, stride, padding), nn.BatchNorm2d(outside), nn.ReLU())
        self.modulation, self.side = modulation, side
        _start_neutral(self.semantic)

    def forward(self, maps: Tensor, difference: Tensor) -> Tensor:
        features = self.convolve(maps)  # (B, outside, side, side)
        if self.modulation is None:
            return features
        return modulate(features, self.semantic(difference)[..., : self.side, : self.side], self.modulation)


def _start_neutral(semantic: nn.Sequential) -> None:
    """Set the semantic maps near 1 everywhere, from where training moves them."""
    norm = semantic[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.weight, SEMANTIC_START)
    nn.init.ones_(norm.bias)


def halving(inside: int, outside: int, dense: bool = False) -> nn.Sequential:
    """A convolution that halves the maps. dense: every pixel is read with a 5 × 5 kernel, and the results are averaged."""
    if dense:
        convolve = nn.Conv2d(inside, outside, 5, 1, 2)
        return nn.Sequential(convolve, nn.BatchNorm2d(outside), nn.ReLU(), nn.AvgPool2d(2))
    return nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU())


def channels_of(convolve: nn.Sequential) -> int:
    """Channels that a `halving` gives."""
    assert isinstance(convolve[0], nn.Conv2d)
    return convolve[0].out_channels


class Enhancer(nn.Module):
    """Pixels (B, 3, S, S) under the difference map (B, D, g, g) → the summary f (B, 256); docs/methods.md, 2.1, step 5."""

    deviation: Tensor

    def __init__(self, width: int, grid: int, size: int, config: SddConfig, deviation: Tensor):
        super().__init__()
        first = {"plain": 3, "highpass": 12, "local": 6}[config.inputs]
        channels = (first, *(config.widths or (width // 8, width // 16, 1)))
        kinds = [config.modulation if i < config.modulated_stages else None for i in range(3)]
        convolutions = [halving(channels[i], channels[i + 1], config.dense and i == 0) for i in range(3)]
        self.stages = nn.ModuleList(Stage(convolutions[i], width, grid, size // 2 ** (i + 1), kinds[i]) for i in range(3))
        self.taps = nn.ModuleList(nn.Identity() for _ in range(3))
        self.inputs, self.covariance = config.inputs, config.covariance
        self.register_buffer("deviation", deviation, persistent=False)
        pairs = sum(c * (c + 1) // 2 for c in channels[1:3]) if config.covariance else 0
        read = channels[3] * (size // 8) ** 2 + pairs
        # covariances and places differ much in size; the paper's last map goes to the layer as it is
        self.level = nn.BatchNorm1d(read) if config.covariance else nn.Identity()
        self.summary = nn.Linear(read, FEATURES) if config.readout == "summary" else nn.Identity()

    def read(self, images: Tensor) -> Tensor:
        """(B, C, S, S) what the first convolution gets."""
        if self.inputs == "local":
            with torch.autocast(images.device.type, enabled=False):  # low-level traces are small differences of the pixels
                return local_residual(images, self.deviation)
        return torch.cat([images, high_passed(images)], dim=1) if self.inputs == "highpass" else images

    def maps(self, images: Tensor, difference: Tensor) -> list[Tensor]:
        """The maps of the three stages, (B, C, h, w) each."""
        maps, outputs = self.read(images), []
        for stage, tap in zip(self.stages, self.taps, strict=True):
            maps = tap(stage(maps, difference))
            outputs.append(maps)
        return outputs

    def forward(self, images: Tensor, difference: Tensor) -> Tensor:
        outputs = self.maps(images, difference)
        last = outputs[2].flatten(1)  # (B, C (S / 8)²)
        return self.summary(self.level(torch.cat([last, *map(covariances, outputs[:2])], dim=1) if self.covariance else last))


class TokenReadout(nn.Module):
    """A logit for each token, from the token and the enhancer's maps at its place; the image's is their mean (ours).

    So the map of the tokens' logits is the logit, place by place.
    """

    def __init__(self, width: int, maps: int):
        super().__init__()
        self.gather = halving(maps, PLACE_FEATURES)
        self.drop = nn.Dropout(0.3)  # of the tokens' channels: content is learned first
        self.hidden = nn.Sequential(nn.Conv2d(width + PLACE_FEATURES, FEATURES // 2, 1), nn.BatchNorm2d(FEATURES // 2), nn.ReLU())
        self.logit = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(FEATURES // 2, 1, 1))

    def forward(self, tokens: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """tokens: (B, D, g, g); maps: (B, C, h, w). Returns logits (B, g, g) and features (B, 128), the mean over places."""
        places = F.adaptive_avg_pool2d(self.gather(maps), tokens.shape[-1])
        hidden = self.hidden(torch.cat([self.drop(tokens), places], dim=1))
        return self.logit(hidden)[:, 0], hidden.mean((2, 3))
