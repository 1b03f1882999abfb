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


@dataclass(frozen=True)
class SddConfig:
    """Sizes are relative to the tower's width D where the paper's are of D = 1024."""

    rank: int = 6  # of every LoRA update (released code)
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
    windows: int = 4  # scored of an image, at most (choice)
    lora_dropout: float = 0.0  # the paper: 0.8; of a weight's inputs, one draw for all tokens of a forward (choice)
    attention_dropout: float = 0.0  # released code: 0.1
    biases: bool = False  # released code: all biases of the tower, its class and its positional embeddings are trained, too


# --- LoRA ----------------------------------------------------------------------------------------------------------


class LowRank(nn.Module):
    """W → W + (alpha / rank) B A. B starts at 0, so that the adapted tower is CLIP before training."""

    def __init__(self, weight: Tensor, config: SddConfig):
        super().__init__()
        rank, self.dropout = config.rank, config.lora_dropout
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1]))  # A
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))  # B
        self.scale = config.alpha / rank
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        inputs = F.dropout(self.down.new_ones(self.down.shape[1]), self.dropout, self.training)
        return weight + self.scale * self.up @ (self.down * inputs)


def is_bias(name: str) -> bool:
    """Whether `SddConfig.biases` trains a parameter of the tower. The final layer norm is none: SDD reads the tokens before it."""
    return name in ("class_embedding", "positional_embedding") or (name.endswith("bias") and not name.startswith("ln_post"))


def adapted(visual: Tower, config: SddConfig) -> Tower:
    """A copy of the tower that shares its frozen parameters, with LoRA on attention and both MLP layers of every block.

    The backbone's own modules stay as they are: other methods run them at the same time.
    """
    tower = copy.deepcopy(visual, {id(tensor): tensor for tensor in (*visual.parameters(), *visual.buffers())})
    for block in tower.transformer.resblocks:
        places = ((block.attn, "in_proj_weight"), (block.attn.out_proj, "weight"), (block.mlp.c_fc, "weight"), (block.mlp.c_proj, "weight"))
        for module, name in places:
            weight = getattr(module, name)
            parametrize.register_parametrization(module, name, LowRank(weight, config).to(weight.device))
    for name, parameter in list(tower.named_parameters()) if config.biases else ():
        if is_bias(name):
            path, _, leaf = name.rpartition(".")
            setattr(tower.get_submodule(path), leaf, nn.Parameter(parameter.detach().clone()))
    return tower


# --- reconstruction ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention from width D through 17/8 D, as in the released code (1024 → 2176)."""

    def __init__(self, width: int, config: SddConfig):
        super().__init__()
        heads = config.heads
        inner = 17 * width // 8 // heads * heads
        self.heads, self.detach, self.dropout = heads, config.detach_attention, config.attention_dropout
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # noqa: E731  (B, heads, N, inner / heads)
        queries, keys, content = split(self.query(query)), split(self.key(context)), split(self.value(context))
        values = F.scaled_dot_product_attention(queries, keys, content, dropout_p=self.dropout if self.training else 0.0)
        result = self.out(values.transpose(-3, -2).flatten(-2))  # (B, N, D)
        return result.detach() if self.detach else result


class Reconstruction(nn.Module):
    """Tokens (B, 1 + N, D) → their reconstruction (B, 1 + N, D) from the bag (M, D) of real tokens; docs/methods.md, 2.1, step 3."""

    def __init__(self, width: int, config: SddConfig):
        super().__init__()
        self.attend = nn.ModuleList(Attention(width, config) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.norm_tokens, self.norm_bag = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, bag: Tensor) -> Tensor:
        tokens, bag = self.norm_tokens(tokens), self.norm_bag(bag).expand(len(tokens), -1, -1)
        real = self.norms[0](self.attend[0](bag, tokens))  # (B, M, D)
        first = self.norms[1](self.attend[1](tokens, real) + tokens)  # (B, 1 + N, D)
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

    def __init__(self, inside: int, outside: int, width: int, grid: int, side: int, modulation: str | None):
        super().__init__()
        stride = -(-side // grid)
        padding = 1 if stride > 4 else (grid * stride - side) // 2  # the paper's kernels at its sizes: 9, 4 and 2
        kernel = stride + 2 if stride > 4 else stride
        self.convolve = nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU())
        self.semantic = nn.Sequential(nn.ConvTranspose2d(width, outside, kernel, stride, padding), nn.BatchNorm2d(outside), nn.ReLU())
        self.modulation, self.side = modulation, side

    def forward(self, maps: Tensor, difference: Tensor | None) -> Tensor:
        features = self.convolve(maps)  # (B, outside, side, side)
        if self.modulation is None:
            return features
        if difference is None:  # what `modulate` gives for semantic maps of 1, without its passes over the maps
            return 2 * features if self.modulation == "exp" else features
        return modulate(features, self.semantic(difference)[..., : self.side, : self.side], self.modulation)

    def neutralise(self) -> None:
        """Set the semantic maps to 1 everywhere, from where training moves them."""
        norm = self.semantic[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)
        nn.init.ones_(norm.bias)


class Enhancer(nn.Module):
    """Pixels (B, 3, S, S) under the difference map (B, D, g, g) → the summary f (B, 256); docs/methods.md, 2.1, step 5.

    Without a difference map the modulation is neutral: so the enhancer is trained by itself.
    """

    deviation: Tensor

    def __init__(self, width: int, grid: int, size: int, config: SddConfig, deviation: Tensor):
        super().__init__()
        channels = ({"plain": 3, "highpass": 12, "local": 6}[config.inputs], width // 8, width // 16, 1)
        kinds = [config.modulation if i < config.modulated_stages else None for i in range(3)]
        self.stages = nn.ModuleList(Stage(channels[i], channels[i + 1], width, grid, size // 2 ** (i + 1), kinds[i]) for i in range(3))
        self.taps = nn.ModuleList(nn.Identity() for _ in range(3))
        self.inputs, self.covariance = config.inputs, config.covariance
        self.register_buffer("deviation", deviation, persistent=False)
        pairs = sum(c * (c + 1) // 2 for c in channels[1:3]) if config.covariance else 0
        read = (size // 8) ** 2 + pairs
        # covariances and places differ much in size; the paper's last map goes to the layer as it is
        self.level = nn.BatchNorm1d(read) if config.covariance else nn.Identity()
        self.summary = nn.Linear(read, FEATURES)

    def neutralise(self) -> None:
        """Let the modulation of every stage start neutral."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.neutralise()

    def read(self, images: Tensor) -> Tensor:
        """(B, C, S, S) what the first convolution gets."""
        if self.inputs == "local":
            return local_residual(images, self.deviation)
        return torch.cat([images, high_passed(images)], dim=1) if self.inputs == "highpass" else images

    def forward(self, images: Tensor, difference: Tensor | None) -> Tensor:
        maps = self.read(images)
        outputs = []
        for stage, tap in zip(self.stages, self.taps, strict=True):
            maps = tap(stage(maps, difference))
            outputs.append(maps)
        last = maps.flatten(1)  # (B, (S / 8)²)
        return self.summary(self.level(torch.cat([last, *map(covariances, outputs[:2])], dim=1) if self.covariance else last))


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SddOutput:
    """logits: (B,), higher speaks for synthetic. tokens, reconstruction: (B, 1 + N, D). features: (B, 256), f."""

    logits: Tensor
    tokens: Tensor
    reconstruction: Tensor
    features: Tensor


class Sdd(nn.Module):
    """The detector for one backbone's vision tower, on its device. bag: (M, D) tokens of real images, fixed."""

    bag: Tensor

    def __init__(self, visual: Tower, config: SddConfig, bag: Tensor):
        super().__init__()
        width, self.grid = visual.conv1.out_channels, visual.grid_size[0]
        self.config, self.tower = config, adapted(visual, config)
        self.register_buffer("bag", bag.to(visual.conv1.weight.device))
        self.reconstruct = Reconstruction(width, config)
        self.size = self.grid * visual.conv1.kernel_size[0]  # side of a window in pixels
        self.enhance = Enhancer(width, self.grid, self.size, config, torch.tensor(visual.image_std).view(3, 1, 1))
        self.classify = nn.Sequential(
            nn.BatchNorm1d(width + FEATURES),
            nn.Linear(width + FEATURES, FEATURES),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, 1),
        )
        self.reduce = nn.Linear(width, FEATURES)  # stands in for the enhancer in its ablation
        self.tap_tokens, self.tap_difference = nn.Identity(), nn.Identity()
        for part in (self.reconstruct, self.enhance, self.classify, self.reduce):  # drawn on the CPU: the same on every device
            part.to(self.device)

    @property
    def device(self) -> torch.device:
        return self.bag.device

    def trained(self) -> dict[str, Tensor]:
        """What training made: LoRA, reconstruction, enhancer, classifier, their statistics and the bag; CLIP is not in it."""
        names = [name for name, _ in self.tower.named_parameters() if not (self.config.biases and is_bias(name))]
        frozen = {name for name in names if "parametrizations" not in name or name.endswith("original")}
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

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → raw tokens of the last block (B, 1 + N, D). The tap stands before the last block: of that one's output
        a head that reads the CLS token would see no patch at all (docs/methods.md, 7)."""
        blocks = self.tower.transformer.resblocks
        tokens = self.tower._embeds(images)
        for i, block in enumerate(blocks):
            if i == len(blocks) - 1:
                tokens = torch.cat([tokens[:, :1], self._flat(self.tap_tokens(self._grid(tokens[:, 1:])))], dim=1)
            tokens = block(tokens)
        return tokens

    def _grid(self, patches: Tensor) -> Tensor:
        return patches.mT.unflatten(2, (self.grid, self.grid))  # (B, D, g, g)

    @staticmethod
    def _flat(maps: Tensor) -> Tensor:
        return maps.flatten(2).mT  # (B, N, D)

    def forward(self, images: Tensor) -> SddOutput:
        tokens = self.encode(images)
        rebuilt = self.reconstruct(tokens, self.bag) if self.config.use_cfdl else torch.zeros_like(tokens)
        gap = (rebuilt - tokens).abs() if self.config.use_cfdl else tokens
        difference = self.tap_difference(self._grid(gap[:, 1:]))  # (B, D, g, g)
        features = self._features(images, difference)
        logits = self.classify(torch.cat([tokens[:, 0], features], dim=1)).squeeze(1)
        return SddOutput(logits, tokens, rebuilt, features)

    def _features(self, images: Tensor, difference: Tensor) -> Tensor:
        """(B, 256) f. Never in reduced precision: low-level traces are small differences of the pixels."""
        if not self.config.use_enhancer:
            return self.reduce(difference.mean((2, 3)))
        with torch.autocast(images.device.type, enabled=False):
            return self.enhance(images, difference.float())
