"""Small models with SDD's interface, whose maps are known."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Small(nn.Module):
    """A convolution, an attention layer, a difference map and three stages: SDD's interface in miniature, random weights."""

    def __init__(self, size: int = 32, width: int = 8):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 8, 8)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.first, self.second = nn.Conv2d(3 + width, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.third, self.classify = nn.Conv2d(4, 1, 3, 2, 1), nn.Linear((size // 8) ** 2, 1)
        self.tap_tokens, self.tap_difference = nn.Identity(), nn.Identity()
        self.tap_stage1, self.tap_stage2, self.tap_stage3 = nn.Identity(), nn.Identity(), nn.Identity()

    def layers(self) -> dict[str, nn.Module]:
        return {name: getattr(self, f"tap_{name}") for name in ("tokens", "difference", "stage1", "stage2", "stage3")}

    def forward(self, images):
        tokens = self.tap_tokens(self.embed(images))  # (B, D, g, g)
        flat = tokens.flatten(2).transpose(1, 2)
        rebuilt = self.attention(flat, flat, flat)[0].transpose(1, 2).view_as(tokens)
        difference = self.tap_difference((rebuilt - tokens).abs())
        x = torch.cat([images, F.interpolate(difference, images.shape[-2:])], 1)
        x = self.tap_stage1(F.gelu(self.first(x)))
        x = self.tap_stage2(F.gelu(self.second(x)))
        x = self.tap_stage3(F.gelu(self.third(x)))
        return SimpleNamespace(logits=self.classify(x.flatten(1))[:, 0] * 1000, difference=difference)


class Red(nn.Module):
    """logit = 4 · mean red: what the map must find is known."""

    def __init__(self):
        super().__init__()
        self.tap_difference = nn.Identity()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def layers(self) -> dict[str, nn.Module]:
        return {"difference": self.tap_difference}

    def forward(self, images):
        red = self.tap_difference(F.avg_pool2d(images[:, :1], 4))
        return SimpleNamespace(logits=self.gain * red.mean((1, 2, 3)), difference=red)


class Head:
    """SddHead's interface: red above the mean of the three colours counts as positive in the input of the model."""

    def __init__(self, model: nn.Module, size: int = 32):
        self.model, self.size, self.scale, self.bias = model.eval(), size, 1.0, 0.0

    def prepare(self, windows):
        images = torch.from_numpy(np.stack(windows)).float().permute(0, 3, 1, 2) / 255
        return images - images.mean(1, keepdim=True)

    def window_logits(self, windows):
        with torch.inference_mode():
            return self.scale * self.model(self.prepare(windows)).logits.double().numpy() + self.bias

    def pool(self, logits):
        return np.mean(logits)


def small_head(seed: int = 0) -> Head:
    torch.manual_seed(seed)
    return Head(Small())


def picture(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
