"""Semantic Discrepancy-aware Detector (SDD, arXiv 2508.12341): what real images cannot explain of an image.

A LoRA-adapted CLIP gives tokens; an encoder-decoder rebuilds them from a bag of tokens of real images; where rebuilding fails, a
low-level enhancer looks harder. Reads windows of the image's own pixels, because a resize would wipe out low-level traces.

The paper's form is `recipe.PAPER`, as far as a processor can afford it. Each departure of its released code, and each of ours, stands
behind an option of `SddConfig` with a line that says what it changes; what neither publishes is marked "choice".
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from detector.clip.towers import Tower
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.enhancer import FEATURES, Enhancer, TokenReadout

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
    """A copy of the tower that shares its frozen parameters, with LoRA on attention and both MLP layers of its last
    `config.adapted_blocks` blocks.

    The backbone's own modules stay as they are: other methods run them at the same time.
    """
    tower = copy.deepcopy(visual, {id(tensor): tensor for tensor in (*visual.parameters(), *visual.buffers())})
    blocks = tower.transformer.resblocks
    for block in blocks[-(config.adapted_blocks or len(blocks)) :]:
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
        self.shortcut = config.shortcut

    def forward(self, tokens: Tensor, bag: Tensor) -> Tensor:
        tokens, bag = self.norm_tokens(tokens), self.norm_bag(bag).expand(len(tokens), -1, -1)
        real = self.norms[0](self.attend[0](bag, tokens))  # (B, M, D)
        recalled = self.attend[1](tokens, real)  # (B, 1 + N, D)
        first = self.norms[1](recalled + tokens if self.shortcut else recalled)
        second = self.norms[2](self.attend[2](first, first) + first)
        return self.norms[3](self.attend[3](second, real) + second)


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
        self.config, self.tower = config, adapted(visual, config)
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

    def attention_rollout(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, g, g): the share, 0 to 1, that each patch has in what the head reads of the tower, if attention and the
        residual path weigh the same in every block, (A + I) / 2, heads averaged (arXiv 2005.00928). For a read-out by tokens the mean
        over the patches' rows, else the class token's row. It has no direction and knows nothing of the logit."""
        tokens = self.tower._embeds(images)
        identity = torch.eye(tokens.shape[1], device=tokens.device)
        rollout = identity.expand(len(tokens), -1, -1)
        for block in self.tower.transformer.resblocks:
            normal = block.ln_1(tokens)
            rollout = (block.attn(normal, normal, normal, need_weights=True)[1] + identity) / 2 @ rollout
            tokens = block(tokens)
        shares = rollout[:, 1:, 1:].mean(1) if self.config.readout == "tokens" else rollout[:, 0, 1:]
        return shares.unflatten(1, (self.grid, self.grid))

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
