"""The bag of real tokens that SDD rebuilds an image's tokens from (arXiv 2508.12341, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Backbone
from detector.data.datasets import Example
from detector.data.images import load_photo
from detector.data.windows import crop_window, window_boxes
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import normalisation


def jensen_shannon(anchor: Tensor, tokens: Tensor) -> Tensor:
    """(D,), (N, D) → (N,) divergence in bits, 0 to 1, of softmaxed channels."""
    p, q = F.softmax(anchor, dim=-1), F.softmax(tokens, dim=-1)
    middle = (p + q) / 2
    divergence = lambda a: (a * (a.clamp(min=1e-12) / middle.clamp(min=1e-12)).log2()).sum(-1)  # noqa: E731
    return (divergence(p.expand_as(q)) + divergence(q)) / 2


def sample_bag(tokens: Tensor, size: int, by_divergence: bool = True, seed: int = 0) -> Tensor:
    """(N, D) patch tokens of real images → (size, D): one token at each of `size` equal steps of divergence from the anchor.

    Anchor: the token nearest the mean; steps between the smallest and the largest divergence, each token used once (choices;
    the paper's steps on [0, 1] would mostly be empty). Without `by_divergence` the tokens are drawn at random.
    """
    if not by_divergence:
        return tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:size]]
    anchor = tokens[(tokens - tokens.mean(0)).norm(dim=1).argmin()]
    divergence = jensen_shannon(anchor, tokens)
    free = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    places: list[int] = []
    for level in torch.linspace(float(divergence.min()), float(divergence.max()), size, device=tokens.device):
        distance = (divergence - level).abs().masked_fill(~free, torch.inf)
        best = int(distance.argmin())
        free[best] = False
        places.append(best)
    return tokens[places]


def build_bag(backbone: Backbone, examples: Sequence[Example], config: SddConfig, seed: int = 0, images: int = 256) -> Tensor:
    """(config.bag, D) from windows of real training images through the frozen tower, raw tokens of the last block."""
    real = [example for example in examples if example.label == 0]
    generator = np.random.default_rng(seed)
    subset = [real[i] for i in generator.permutation(len(real))[:images]]
    mean, deviation = normalisation(backbone)
    tokens = []
    for start in range(0, len(subset), 16):
        windows = [middle_window(load_photo(e.path).pixels, backbone.size) for e in subset[start : start + 16]]
        batch = (torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        patches = backbone.encode(batch).patches
        assert patches is not None  # `Sdd` is built on towers with patch tokens only
        tokens.append(patches.flatten(0, 1))
    return sample_bag(torch.cat(tokens), config.bag, config.use_sts, seed)


def middle_window(pixels: np.ndarray, size: int) -> np.ndarray:
    return crop_window(pixels, window_boxes(pixels.shape[1], pixels.shape[0], size, limit=1)[0], size)
