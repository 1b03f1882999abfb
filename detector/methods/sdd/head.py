"""A trained SDD as a method: windows of the image at its own resolution, and the mean of their logits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Backbone
from detector.clip.towers import Tower
from detector.data.windows import Box, crop_window, window_boxes
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError, Score
from detector.methods.sdd.config import LARGE, SddConfig
from detector.methods.sdd.model import Sdd
from detector.steps import checkpoint


@dataclass(frozen=True)
class SddHead:
    """A trained model as a method: windows of the image at its own resolution, their logits pooled by the mean (choice).

    scale, bias: Platt scaling of the pooled logit.
    """

    model: Sdd
    normalise: tuple[Tensor, Tensor]  # mean and standard deviation, (3, 1, 1) each
    scale: float = 1.0
    bias: float = 0.0

    @property
    def size(self) -> int:
        """Side of a window in pixels."""
        return self.model.size

    def prepare(self, windows: Sequence[np.ndarray]) -> Tensor:
        """(S, S, 3) uint8 windows → (B, 3, S, S), CLIP-normalised, not resized, on the model's device."""
        mean, deviation = (part.to(self.model.device) for part in self.normalise)
        pixels = torch.from_numpy(np.ascontiguousarray(np.stack(windows))).to(self.model.device)
        return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / deviation

    @torch.inference_mode()
    def frozen_tokens(self, windows: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 → tokens (B, 1 + N, D) float16 before the tower's adapted blocks."""
        return to_numpy(self.model.frozen_tokens(self.prepare(list(windows)))).astype(np.float16)

    def pool(self, logits: np.ndarray) -> float:
        """Logits of an image's windows → the image's: their mean."""
        return float(np.mean(logits))

    @torch.inference_mode()
    def window_logits(self, windows: Sequence[np.ndarray], batch: int = 16) -> np.ndarray:
        """(B,) scaled logits of windows, higher speaks for synthetic."""
        parts = []
        for start in range(0, len(windows), batch):
            checkpoint()
            parts.append(self.model(self.prepare(windows[start : start + batch])).logits)
        return self.scale * to_numpy(torch.cat(parts)).astype(np.float64) + self.bias

    @property
    def has_token_logits(self) -> bool:
        """Whether a window's logit is a mean over its tokens' logits."""
        return self.model.config.readout == "tokens"

    @torch.inference_mode()
    def token_logits(self, windows: Sequence[np.ndarray], batch: int = 16) -> np.ndarray:
        """(B, g, g) scaled logits of the tokens of windows, higher speaks for synthetic; their mean over a window is its logit.

        HeadError where the head has none (`has_token_logits`)."""
        if not self.has_token_logits:
            raise HeadError("This sdd head has no logits of single tokens.")
        parts = []
        for start in range(0, len(windows), batch):
            checkpoint()
            places = self.model(self.prepare(windows[start : start + batch])).token_logits
            assert places is not None  # with this read-out
            parts.append(places)
        return self.scale * to_numpy(torch.cat(parts)).astype(np.float64) + self.bias

    def boxes(self, pixels: np.ndarray) -> list[Box]:
        """The windows that an image's score rests on, evenly spaced: at most `config.windows`, of a large image `large_windows`."""
        config, (height, width) = self.model.config, pixels.shape[:2]
        return window_boxes(width, height, self.size, limit=config.large_windows if max(height, width) > LARGE else config.windows)

    def unscaled(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """(B,) logits of images before scaling. Four images' windows go through the model together."""
        groups = ([pixels[i] for i in range(start, min(start + 4, len(pixels)))] for start in range(0, len(pixels), 4))
        return (np.concatenate([self._group(group) for group in groups]) - self.bias) / self.scale

    def _group(self, pixels: list[np.ndarray]) -> np.ndarray:
        boxes = [self.boxes(p) for p in pixels]
        logits = self.window_logits([crop_window(p, box, self.size) for p, windows in zip(pixels, boxes, strict=True) for box in windows])
        return np.array([self.pool(part) for part in np.split(logits, np.cumsum([len(windows) for windows in boxes])[:-1])])

    def score(self, evidence: Evidence) -> Score:
        """The image's logit: the mean over its windows, see `boxes`."""
        logits = evidence.windowed.get(self.identity)
        return Score(self.scale * (self.unscaled(evidence.pixels) if logits is None else logits) + self.bias)

    @cached_property
    def identity(self) -> str:
        """Sixteen hex digits of all that the unscaled logits depend on besides the backbone."""
        digest = hashlib.sha256(json.dumps(self.details(), sort_keys=True).encode())
        for name, value in sorted(replace(self, scale=1.0, bias=0.0).tensors().items()):
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()[:16]

    def scaled(self, slope: float, offset: float) -> SddHead:
        """The same head with logit·slope + offset."""
        return replace(self, scale=self.scale * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        """What training made (`Sdd.trained`), float16, and the scaling; on the CPU."""
        halved = {name: value.half().cpu() if value.is_floating_point() else value.cpu() for name, value in self.model.trained().items()}
        return halved | {"scale": torch.tensor(self.scale), "bias": torch.tensor(self.bias)}

    def details(self) -> dict:
        """What the card needs to build the model again."""
        return {"config": asdict(self.model.config)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], details: dict, backbone: Backbone) -> SddHead:
        """Build the model on the backbone's tower and fill in what training made. HeadError if it does not fit."""
        try:
            config = SddConfig(**details["config"])
        except (KeyError, TypeError) as error:
            raise HeadError("The sdd head was made by another version of this method; train it again.") from error
        rest = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        unfit = HeadError("The sdd head does not have the tensors of its own configuration; train it again.")
        try:
            scale, bias = float(rest.pop("scale")), float(rest.pop("bias"))
            tower: Tower = backbone.model.visual
            model = Sdd(tower, config, rest["bag"])
            missing, surplus = model.load_state_dict(rest, strict=False)
        except (KeyError, RuntimeError, ValueError) as error:  # a tensor that is not there, or of another shape
            raise unfit from error
        lacking = [name for name in missing if not name.startswith("tower.") or name.endswith(("up", "down"))]
        if lacking or surplus:
            raise unfit
        return cls(model.eval().requires_grad_(False), normalisation(backbone), scale, bias)


def normalisation(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """The backbone's mean and standard deviation, (3, 1, 1) each."""
    mean, deviation = (torch.tensor(backbone.preprocess[name]).view(3, 1, 1) for name in ("mean", "std"))
    return mean, deviation
