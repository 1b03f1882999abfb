"""A small text-to-image generator: a flow transformer over the autoencoder's latents, conditioned on the embedded text tower.

It makes the project's own examples of generated pictures and draws what a class asks for. It is no detector, and no detector is
trained on its pictures.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.assets import MODELS
from detector.hub.weights import WeightsError, read_weights, write_weights

WEIGHTS = MODELS / "generator" / "generator.safetensors"


@dataclass(frozen=True)
class Shape:
    """channels: of the latent. side: of the latent, in places. patch: side of the square of places that is one token. text: length of a
    text's embedding. width, depth, heads: of the transformer."""

    channels: int = 12
    side: int = 16
    patch: int = 2
    text: int = 256
    width: int = 288
    depth: int = 6
    heads: int = 6

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.side // self.patch


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """(N,) → (N, width): cosines and sines of geometric frequencies from 1 to 1/10,000, as in arXiv 1706.03762."""
    frequencies = torch.exp(torch.arange(width // 2, device=positions.device) * (-math.log(10_000) / (width // 2)))
    angles = positions[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def grid_positions(side: int, width: int) -> Tensor:
    """(side², width): the sinusoids of a token's row beside those of its column."""
    along = sinusoids(torch.arange(side), width // 2)
    return torch.cat([along.repeat_interleave(side, 0), along.repeat(side, 1)], dim=1)


class Block(nn.Module):
    """Self-attention and a feed-forward network with a depth-wise 3 × 3 convolution, each scaled, shifted and gated by the condition.

    All blocks share one network of the condition and add a table of their own to it (arXiv 2310.00426); the convolution gives tokens
    their neighbours, which few training pictures do not teach attention.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        width, self.heads, self.grid = shape.width, shape.heads, shape.grid
        self.table = nn.Parameter(torch.randn(6, width) / math.sqrt(width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.neighbours = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """tokens: (B, N, width). condition: (B, 6, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (condition + self.table).unsqueeze(2).unbind(1)
        tokens = tokens + gate1 * self.attend(normed(tokens) * (1 + scale1) + shift1)
        return tokens + gate2 * self.feed(normed(tokens) * (1 + scale2) + shift2)

    def attend(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # written out: torch's fused attention takes three times as long to differentiate for so few tokens on a CPU
        shares = (normed(query).to(value.dtype) @ normed(key).to(value.dtype).mT / math.sqrt(query.shape[-1])).softmax(-1)
        mixed = shares.to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))

    def feed(self, tokens: Tensor) -> Tensor:
        hidden = self.rise(tokens)
        picture = hidden.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return self.fall(F.gelu(hidden + self.neighbours(picture).flatten(2).transpose(1, 2)))


def normed(tokens: Tensor) -> Tensor:
    """Layer normalisation without parameters."""
    return F.layer_norm(tokens, tokens.shape[-1:])


class Generator(nn.Module):
    """The velocity of a rectified flow (arXiv 2209.03003) from noise at time 0 to latents at time 1.

    It knows latents by their principal axes, all in one unit, the standard deviation along the first: mean + axes · numbers gives the
    autoencoder's latent. So the first axes hold most of the variance, as low frequencies do in a picture, and are learned first.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape, width = shape, shape.width
        numbers = shape.channels * shape.patch**2
        self.enter, self.leave = nn.Linear(numbers, width), nn.Linear(width, numbers)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.words = nn.Linear(shape.text, width)
        self.nothing = nn.Parameter(torch.zeros(shape.text))  # stands in for the text where there is none
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.last = nn.Parameter(torch.zeros(2, width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.register_buffer("positions", grid_positions(shape.grid, width), persistent=False)
        self.register_buffer("mean", torch.zeros(shape.channels, 1, 1))
        self.register_buffer("axes", torch.eye(shape.channels))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, latents: Tensor, times: Tensor, texts: Tensor) -> Tensor:
        """latents: (B, C, S, S), along the axes. times: (B,) 0 to 1. texts: (B, E) unit rows, or rows of NaN for none. → (B, C, S, S)."""
        patch, grid = self.shape.patch, self.shape.grid
        texts = torch.where(texts.isnan(), self.nothing, texts * math.sqrt(self.shape.text))
        condition = self.time(sinusoids(times * 1000, self.shape.width)) + self.words(texts)
        modulation = self.condition(condition).unflatten(1, (6, -1))
        tokens = self.enter(F.pixel_unshuffle(latents, patch).flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = (condition[:, None] + self.last).unsqueeze(2).unbind(1)
        velocity = self.leave(normed(tokens) * (1 + scale) + shift)
        return F.pixel_shuffle(velocity.transpose(1, 2).unflatten(2, (grid, grid)), patch)

    def to_autoencoder(self, latents: Tensor) -> Tensor:
        """(B, C, S, S) along the axes → the autoencoder's latents."""
        return self.mean + torch.einsum("ck,bkhw->bchw", self.axes, latents)


def save_generator(model: Generator, path: Path = WEIGHTS) -> None:
    """float16 weights with the shape in the file's record."""
    write_weights(path, {name: value.half() for name, value in model.state_dict().items()}, {"shape": json.dumps(asdict(model.shape))})


def load_generator(path: Path = WEIGHTS) -> Generator:
    """The generator of a weights file. WeightsError, one sentence, if the file is missing or damaged."""
    tensors, record = read_weights(path)
    try:
        model = Generator(Shape(**json.loads(record["shape"])))
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.name} does not hold a generator of this project; get the file again.") from error
    return model.eval()
