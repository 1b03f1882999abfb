"""A CLIP small enough for tests: random weights, the real classes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "output_tokens": True},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 600,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"},
}


def write_tiny(folder: Path, seed: int = 0, decoder: bool = True) -> Path:
    """A backbone folder that open_clip loads. Without a decoder its captions are nouns, and so always usable."""
    from open_clip.model import CustomTextCLIP

    from detector.clip.pretrain.model import build_model

    torch.manual_seed(seed)
    kept = dict(CONFIG["model_cfg"])
    if not decoder:
        del kept["multimodal_cfg"]
        kept |= {name: kept[name] | {"output_tokens": False} for name in ("vision_cfg", "text_cfg")}
    model = build_model(kept) if decoder else CustomTextCLIP(**{n: part for n, part in kept.items() if n != "custom_text"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG | {"model_cfg": kept}))
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder
