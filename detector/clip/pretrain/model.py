"""The model with fresh weights, and its optimisers: Muon for the matrices inside the blocks, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detector.clip.pretrain.data import PretrainConfig
from detector.clip.pretrain.muon import matrix_optimiser
from detector.clip.tokenizer import simple_tokenizer
from detector.clip.towers import Tower


@dataclass(frozen=True)
class CaptionModel:
    """A CoCa with its tokenizer and its preprocessing record (mean and standard deviation of the pixels)."""

    model: Tower
    tokenizer: Any  # texts → (B, L) tokens; open_clip's
    preprocess: dict[str, Any]
    size: int  # side of its square images in pixels

    @classmethod
    def build(cls, configuration: dict[str, Any], device: torch.device | str = "cpu") -> CaptionModel:
        """With fresh weights, from the contents of an `open_clip_config.json`."""
        sizes = configuration["model_cfg"]
        tokenizer = simple_tokenizer(sizes["text_cfg"]["vocab_size"], sizes["text_cfg"]["context_length"])
        return cls(build_model(sizes).to(device), tokenizer, configuration["preprocess_cfg"], sizes["vision_cfg"]["image_size"])

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device


def build_model(model_cfg: dict[str, Any]) -> Tower:
    """open_clip's CoCa from the `model_cfg` of an open_clip configuration, with every parameter initialised."""
    from open_clip.coca_model import CoCa

    cfg = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    vision = cfg.pop("vision_cfg") | {"patch_dropout": 0.5}  # builds the module; its rate is set by the epoch
    model = CoCa(vision_cfg=vision, **cfg)
    # open_clip leaves this one matrix as the memory happened to be
    nn.init.normal_(model.text_decoder.text_projection, std=cfg["multimodal_cfg"]["width"] ** -0.5)
    return model


def make_optimisers(module: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """For the trained parameters: Muon for the matrices inside the blocks, AdamW for the rest, without decay of vectors."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ("resblocks" in name or "cross_attn" in name)]
    places = {id(p) for p in matrices}
    decayed = [p for _, p in named if id(p) not in places and p.ndim >= 2]
    plain = [p for _, p in named if id(p) not in places and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [
        matrix_optimiser(matrices, config.matrix_rate, config.weight_decay),
        torch.optim.AdamW(groups, lr=config.other_rate, betas=(0.9, 0.98)),
    ]


def set_rate(optimisers: Sequence[torch.optim.Optimizer], progress: float) -> None:
    """Warm up over the first 4 %, then fall linearly to a fiftieth."""
    factor = min(progress / 0.04, 1.0) * max(0.02, 1 - max(progress - 0.04, 0) / 0.96)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("peak", group["lr"]) * factor
