"""Other towers than CLIP's transformer: what a miniature of each kind can do, and what it refuses before it starts."""

import json

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from detector.cli.main import main
from detector.clip.backbone import Backbone, BackboneError
from detector.methods.registry import METHODS
from detector.suite import Suite

TEXT = {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
COCA_TEXT = TEXT | {"width": 24}  # as in the released ones: what the pooler gives is as wide as the decoder
TOWERS = {
    "resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}, "text_cfg": TEXT},
    "convnext": {
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
        "text_cfg": TEXT,
    },
    "siglip": {
        "vision_cfg": {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "linear", "image_size": 160},
        "text_cfg": TEXT | {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "no_causal_mask": True, "pool_type": "last"},
        "init_logit_bias": -10,
        "custom_text": True,
    },
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "coca": {
        "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
        "text_cfg": COCA_TEXT | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": COCA_TEXT | {"attn_pooler_heads": 2},
        "custom_text": True,
    },
}
REFUSED = {"resnet": {"sdd"}, "convnext": {"sdd"}, "siglip": {"sdd", "concepts", "item", "physical_clip"}, "vit": set(), "coca": set()}


@pytest.fixture(scope="module", params=TOWERS)
def tower(request, tmp_path_factory):
    """(kind, folder) of a backbone with random weights."""
    folder, config = tmp_path_factory.mktemp("towers") / request.param, {"embed_dim": 24} | TOWERS[request.param]
    folder.mkdir()
    torch.manual_seed(0)
    (folder / f"tiny-{request.param}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"tiny-{request.param}.json")
    model = open_clip.create_model(f"tiny-{request.param}")
    if request.param == "coca":
        torch.nn.init.normal_(model.text_decoder.text_projection)  # which open_clip leaves as memory happens to be
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file({name: value.clone().contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return request.param, folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(24):
        path = folder / ("train" if i < 14 else "val") / ("synthetic/x" if i % 2 else "real") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (generator.normal(128, 20 + 20 * (i % 2), (66, 66, 3))).clip(0, 255).astype(np.uint8))
    return folder


def test_every_tower_trains_what_it_can_and_says_what_it_cannot(tower, data, tmp_path, capsys, monkeypatch):
    kind, folder = tower
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    arguments = ["--data", str(data), "--backbone", str(folder), "--cache", str(tmp_path / "cache"), "--copies", "1"]
    options = ["--epochs", "1", "--checkpoints", str(tmp_path / "checkpoints")]
    for method in sorted(REFUSED[kind]):
        assert main(["train", method, *arguments]) == 1
        error = capsys.readouterr().err
        assert f"The method '{method}'" in error and error.count("\n") == 1 and not (tmp_path / "cache").exists()
    heads = set(METHODS) - REFUSED[kind]
    usable_captions = kind != "coca"  # a decoder of random weights repeats itself, which counts as no caption
    names = ["all"] if usable_captions else sorted(heads - {"item"})
    for name in names:
        assert main(["train", name, *arguments, *options]) == 0
    suite = Suite.load(str(folder))
    assert set(suite.heads) == (heads if usable_captions else heads - {"item"}) == set(suite.fusion.methods)
    record = suite.analyze(next(data.rglob("*.png"))).to_dict()
    assert {"linear_probe", "orthogonal"} <= set(record["detectors"]) and len(record["orthogonal"]["activations"]) == 8
    assert np.isfinite(record["verdict"]["logit"])
    capsys.readouterr()
    explained = main(["explain", str(next(data.rglob("*.png"))), "--backbone", str(folder), "--out", str(tmp_path / "out")])
    assert explained == ("sdd" in REFUSED[kind]) and (tmp_path / "out" / "explanation.json").is_file()
    error = capsys.readouterr().err
    assert ("sdd head" in error and error.count("\n") == 1) == ("sdd" in REFUSED[kind])


def test_sizes_are_those_of_the_features(tower):
    backbone = Backbone.load(str(tower[1]))
    features = backbone.encode(torch.zeros(2, 3, backbone.size, backbone.size))
    assert (features.pooled.shape[1], features.projected.shape[1]) == (backbone.sizes.pooled, backbone.sizes.projected)
    assert backbone.is_transformer == (tower[0] in ("vit", "coca"))


def test_texts_of_another_tokenizer_are_refused(tower):
    backbone = Backbone.load(str(tower[1]))
    if tower[0] == "siglip":
        with pytest.raises(BackboneError, match="tokenizer other than CLIP's own"):
            backbone.encode_text(["a dog"])
    else:
        assert backbone.encode_text(["a dog"]).shape == (1, 24)
