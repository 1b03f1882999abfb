"""Semantic Discrepancy-aware Detector (SDD, arXiv 2508.12341): what real images cannot explain of an image.

A LoRA-adapted CLIP gives tokens; an encoder-decoder rebuilds them from a bag of tokens of real images; where rebuilding fails, a
low-level enhancer looks harder. Reads windows of the image's own pixels, because a resize would wipe out low-level traces.

The paper's form is the default. Each departure of its released code, and each of ours, stands behind an option of `SddConfig`
with a line that says what it changes; what neither publishes is marked "choice".
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from detector.clip.towers import Tower

FEATURES = 256  # length of the enhancer's summary f, and of the classifier's hidden layer
LARGE = 640  # pixels of the longer side
PLACE_FEATURES = 96  # channels of the enhancer's maps at the tokens' places, for the read-out by tokens
SEMANTIC_START = 0.1  # weight of the semantic maps' batch-norm at first: near neutral; at 0 the branch would get no gradient


@dataclass(frozen=True)
class SddConfig:
    """Sizes are relative to the tower's width D where the paper's are of D = 1024."""

    rank: int = 6  # of every LoRA update (released code)
    adapted_blocks: int | None = None  # last blocks of the tower that LoRA adapts; None: all, the paper. With few, the rest is run once
    alpha: float = 6.0  # LoRA scale is alpha / rank
    bag: int = 64  # real tokens; the code's comments say 5,345, which a processor cannot afford
    heads: int = 16  # of each attention
    detach_attention: bool = False  # released code: attention modules get no gradient and stay random
    modulation: str = "exp"  # "exp": F' + F'·exp(−|F'−F|), the paper; "square", released code; "abs", its CAM variant
    modulated_stages: int = 3  # released code: 2
    use_sts: bool = True  # False: the bag is drawn at random instead of by Jensen-Shannon levels
    use_cfdl: bool = True  # False: no reconstruction, the tokens themselves modulate
    use_enhancer: bool = True  # False: the classifier reads the CLS token and the mean difference
    inputs: str = "plain"  # of the enhancer; ours: "highpass", differences beside the pixels; "local", `local_residual` in their place
    covariance: bool = False  # ours: second-order statistics of the enhancer's maps beside its last map
    target: str = "raw"  # what is rebuilt. "raw": the tokens, the released code; "unit": each token by its own mean and size, ours
    shortcut: bool = True  # released code: the tokens enter the decoder beside what is recalled; False: only what is recalled does, ours
    readout: str = "summary"  # "summary": CLS token and summary, the paper; "tokens": a logit for each token, their mean, ours
    widths: tuple[int, int, int] | None = None  # channels of the enhancer's stages; None: D / 8, D / 16 and 1, the paper
    dense: bool = False  # ours: the first stage reads every pixel with a 5 × 5 kernel and averages, instead of every second one
    windows: int = 4  # scored of an image, at most (choice)
    large_windows: int = 16  # the same for an image with a side over LARGE pixels, so that its inside is read, too (choice)


# --- LoRA ----------------------------------------------------------------------------------------------------------


class LowRank(nn.Module):
    """W → W + (alpha / rank) B A. B starts at 0, so that the adapted tower is CLIP before training."""

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1]))  # A
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))  # B
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.up @ self.down


def adapted(visual: Tower, rank: int, alpha: float, blocks: int | None = None) -> Tower:
    """A copy of the tower that shares its frozen parameters, with LoRA on attention and both MLP layers of its last `blocks` blocks.

    blocks: None for all. The backbone's own modules stay as they are: other methods run them at the same time.
    """
    tower = copy.deepcopy(visual, {id(tensor): tensor for tensor in (*visual.parameters(), *visual.buffers())})
    every = tower.transformer.resblocks
    for block in every[len(every) - (len(every) if blocks is None else blocks) :]:
        places = ((block.attn, "in_proj_weight"), (block.attn.out_proj, "weight"), (block.mlp.c_fc, "weight"), (block.mlp.c_proj, "weight"))
        for module, name in places:
            weight = getattr(module, name)
            parametrize.register_parametrization(module, name, LowRank(weight, rank, alpha).to(weight.device))
    return tower


# --- reconstruction ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention from width D through 17/8 D, as in the released code (1024 → 2176)."""

    def __init__(self, width: int, heads: int, detach: bool):
        super().__init__()
        inner = 17 * width // 8 // heads * heads
        self.heads, self.detach = heads, detach
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # noqa: E731  (B, heads, N, inner / heads)
        values = F.scaled_dot_product_attention(*map(split, (self.query(query), self.key(context), self.value(context))))
        result = self.out(values.transpose(-3, -2).flatten(-2))  # (B, N, D)
        return result.detach() if self.detach else result


class Reconstruction(nn.Module):
    """Tokens (B, 1 + N, D) → their reconstruction (B, 1 + N, D) from the bag (M, D) of real tokens; docs/methods.md, 2.1, step 3."""

    def __init__(self, width: int, config: SddConfig):
        super().__init__()
        self.attend = nn.ModuleList(Attention(width, config.heads, config.detach_attention) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.norm_tokens, self.norm_bag = nn.LayerNorm(width), nn.LayerNorm(width)
        self.shortcut = config.shortcut

    def forward(self, tokens: Tensor, bag: Tensor) -> Tensor:
        tokens, bag = self.norm_tokens(tokens), self.norm_bag(bag).expand(len(tokens), -1, -1)
        real = self.norms[0](self.attend[0](bag, tokens))  # (B, M, D)
        recalled = self.attend[1](tokens, real)  # (B, 1 + N, D)
        first = self.norms[1](recalled + tokens if self.shortcut else recalled)
        second = self.norms[2](self.attend[2](first, first) + first)
        return self.norms[3](self.attend[3](second, real) + second)


# --- enhancer ------------------------------------------------------------------------------------------------------


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


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SddOutput:
    """logits: (B,), higher speaks for synthetic. target, reconstruction: (B, 1 + N, D), what is rebuilt and what came of it.
    features: (B, F), f. token_logits: (B, g, g), whose mean is the logit; None where the read-out is not by tokens."""

    logits: Tensor
    tokens: Tensor
    target: Tensor
    reconstruction: Tensor
    features: Tensor
    token_logits: Tensor | None = None


class Sdd(nn.Module):
    """The detector for one backbone's vision tower, on its device. bag: (M, D) tokens of real images, fixed."""

    bag: Tensor

    def __init__(self, visual: Tower, config: SddConfig, bag: Tensor):
        super().__init__()
        width, self.grid = visual.conv1.out_channels, visual.grid_size[0]
        self.config, self.tower = config, adapted(visual, config.rank, config.alpha, config.adapted_blocks)
        self.register_buffer("bag", bag.to(visual.conv1.weight.device))
        self.reconstruct = Reconstruction(width, config)
        self.size = self.grid * visual.conv1.kernel_size[0]  # side of a window in pixels
        self.enhance = Enhancer(width, self.grid, self.size, config, torch.tensor(visual.image_std).view(3, 1, 1))
        self.reduce = nn.Linear(width, FEATURES)  # stands in for the enhancer in its ablation
        self.classify = self._readout(width)
        self.tap_tokens, self.tap_difference = nn.Identity(), nn.Identity()
        for part in (self.reconstruct, self.enhance, self.classify, self.reduce):  # drawn on the CPU: the same on every device
            part.to(self.device)

    def _readout(self, width: int) -> nn.Module:
        if self.config.readout == "tokens":
            return TokenReadout(width, (self.config.widths or (0, 0, 1))[2] if self.config.use_enhancer else width)
        layers = (nn.BatchNorm1d(width + FEATURES), nn.Linear(width + FEATURES, FEATURES), nn.BatchNorm1d(FEATURES))
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(FEATURES, 1))

    @property
    def device(self) -> torch.device:
        return self.bag.device

    def trained(self) -> dict[str, Tensor]:
        """What training made: LoRA, reconstruction, enhancer, classifier, their statistics and the bag; CLIP is not in it."""
        frozen = {name for name, p in self.tower.named_parameters() if "parametrizations" not in name or name.endswith("original")}
        return {name: value for name, value in self.state_dict().items() if name.removeprefix("tower.") not in frozen}

    def load_trained(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `trained` gave. RuntimeError if names or shapes are others."""
        if tensors.keys() != self.trained().keys():
            raise RuntimeError("These are not the tensors of this configuration of SDD.")
        self.load_state_dict(tensors, strict=False)

    def layers(self) -> dict[str, nn.Module]:
        """Name → the identity through which (B, C, h, w) maps pass, for attribution."""
        stages = {f"stage{i + 1}": tap for i, tap in enumerate(self.enhance.taps)} if self.config.use_enhancer else {}
        return {"difference": self.tap_difference, "tokens": self.tap_tokens} | stages

    def frozen_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → tokens (B, 1 + N, D) before the first adapted block, the same for every training on this tower."""
        tokens = self.tower._embeds(images)
        for block in self._blocks()[0]:
            tokens = block(tokens)
        return tokens

    def adapt(self, tokens: Tensor) -> Tensor:
        """`frozen_tokens` → raw tokens of the last block (B, 1 + N, D). The tap stands before the last block: of that one's output
        a head that reads the CLS token would see no patch at all (docs/methods.md, 7)."""
        blocks = self._blocks()[1]
        for i, block in enumerate(blocks):
            if i == len(blocks) - 1:
                tokens = torch.cat([tokens[:, :1], self._flat(self.tap_tokens(self._grid(tokens[:, 1:])))], dim=1)
            tokens = block(tokens)
        return tokens

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → raw tokens of the last block (B, 1 + N, D)."""
        return self.adapt(self.frozen_tokens(images))

    def _blocks(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The frozen blocks, then the adapted ones, of which the last block is always one."""
        blocks = list(self.tower.transformer.resblocks)
        count = len(blocks) if self.config.adapted_blocks is None else max(1, self.config.adapted_blocks)
        return blocks[: len(blocks) - count], blocks[len(blocks) - count :]

    def _grid(self, patches: Tensor) -> Tensor:
        return patches.mT.unflatten(2, (self.grid, self.grid))  # (B, D, g, g)

    @staticmethod
    def _flat(maps: Tensor) -> Tensor:
        return maps.flatten(2).mT  # (B, N, D)

    def forward(self, images: Tensor) -> SddOutput:
        return self.read(images, self.encode(images))

    def read(self, images: Tensor, tokens: Tensor) -> SddOutput:
        """What `forward` gives, from the tokens (B, 1 + N, D) that the tower made of the images."""
        tokens = tokens.float()
        target = F.layer_norm(tokens, tokens.shape[2:]) if self.config.target == "unit" else tokens
        rebuilt = self.reconstruct(target, self.bag) if self.config.use_cfdl else torch.zeros_like(target)
        gap = (rebuilt - target).abs() if self.config.use_cfdl else target
        difference = self.tap_difference(self._grid(gap[:, 1:]))  # (B, D, g, g)
        if self.config.readout == "tokens":
            places, features = self._token_logits(images, target, difference)
            places = places.float()
            return SddOutput(places.mean((1, 2)), tokens, target, rebuilt, features, places)
        features = self._features(images, difference)
        logits = self.classify(torch.cat([tokens[:, 0], features], dim=1)).squeeze(1)
        return SddOutput(logits, tokens, target, rebuilt, features)

    def _token_logits(self, images: Tensor, target: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
        """(B, g, g) logits and (B, F) features."""
        maps = self.enhance.maps(images, difference)[2] if self.config.use_enhancer else difference
        return self.classify(self._grid(target[:, 1:]), maps)

    def _features(self, images: Tensor, difference: Tensor) -> Tensor:
        """(B, 256) f. Never in reduced precision: low-level traces are small differences of the pixels."""
        if not self.config.use_enhancer:
            return self.reduce(difference.mean((2, 3)))
        with torch.autocast(images.device.type, enabled=False):
            return self.enhance(images, difference.float())
