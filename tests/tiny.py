"""A CLIP small enough for tests: random weights, the real classes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "output_tokens": True},
        "text_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1, "embed_cls": True,
                     "output_tokens": True},
        "multimodal_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1,
                           "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"},
}


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """A backbone folder that open_clip loads."""
    from detector.pretrain import build_model

    torch.manual_seed(seed)
    model = build_model(CONFIG["model_cfg"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder
