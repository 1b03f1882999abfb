"""detector/clip/backbone.py: the one pass against direct computation, preprocessing, texts, and what bad names get."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg
from PIL import Image
from tiny import CONFIG, write_tiny
from torchvision import transforms
from torchvision.transforms import v2

from detector.clip.backbone import Backbone, BackboneError, bfloat16_is_faster, centre_box, choose_precision, make_transform, middle_part
from detector.data.images import load_photo


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


def test_one_pass_equals_direct_computation(tiny):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features, visual = tiny.encode(images), tiny.model.visual
    with torch.no_grad():
        tokens = visual.conv1(images).flatten(2).mT  # (B, N, D)
        tokens = torch.cat([visual.class_embedding.expand(3, 1, -1), tokens], 1) + visual.positional_embedding
        tokens = visual.ln_pre(tokens)
        for block in visual.transformer.resblocks:
            before, tokens = tokens, block(tokens)
        pooled = visual.ln_post(tokens)[:, 0]
    torch.testing.assert_close(features.patches, tokens[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(features.previous, before, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.pooled, pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.projected, pooled @ visual.proj, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.projected, tiny.model.encode_image(images, normalize=False), rtol=0, atol=1e-5)


def test_a_tower_of_one_block_has_no_block_before_the_last(tiny):
    shallow = SimpleNamespace(visual=tiny.model.visual, parameters=tiny.model.parameters)
    blocks, images = shallow.visual.transformer.resblocks, torch.randn(1, 3, 32, 32)
    shallow.visual.transformer.resblocks = blocks[:1]
    try:
        features = tiny.encode(images)
    finally:
        shallow.visual.transformer.resblocks = blocks
    assert features.previous is None
    torch.testing.assert_close(features.patches, tiny.encode(images).previous[:, 1:], rtol=0, atol=1e-6)


def test_rows_do_not_depend_on_their_batch(tiny):
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(tiny.encode(images).pooled[2:3], tiny.encode(images[2:3]).pooled, rtol=0, atol=1e-5)


def test_preparation_is_torchvision_s(tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 83, 3), np.uint8)
    expected = v2.Compose(
        [
            v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CONFIG["preprocess_cfg"]["mean"], CONFIG["preprocess_cfg"]["std"]),
        ]
    )(Image.fromarray(pixels))
    torch.testing.assert_close(tiny.prepare(load_photo(pixels)), expected, rtol=0, atol=1e-6)


def test_view_shows_the_scored_pixels(tiny):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 16:48] = (10, 200, 90)
    view = tiny.view(load_photo(pixels))
    assert view.box == (16, 0, 48, 32)
    np.testing.assert_array_equal(view.pixels[:, 4:-4], np.broadcast_to((10, 200, 90), (32, 24, 3)))
    assert centre_box(100, 40) == (30, 0, 70, 40) and centre_box(40, 101) == (0, 30, 40, 70)


def test_texts_are_unit_rows_encoded_once(tiny, monkeypatch):
    first = tiny.encode_text(["a dog", "a red house", "a dog"])
    assert first.shape == (3, 24)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(first[0], first[2])
    direct = F.normalize(tiny.model.encode_text(tiny.tokenizer(["a red house"]), normalize=False), dim=1)
    torch.testing.assert_close(first[1:2], direct, rtol=0, atol=1e-5)
    monkeypatch.setattr(tiny.model, "encode_text", None)  # a second encoding would now fail
    torch.testing.assert_close(tiny.encode_text(["a red house"]), first[1:2])


@pytest.mark.parametrize("text", ["", "слово 猫 🐈", "<b>dog</b> & </script>", "word " * 2000])
def test_any_text_is_encoded(tiny, text):
    assert torch.isfinite(tiny.encode_text([text])).all()


@pytest.mark.parametrize(
    "name",
    ["nonsense", "ViT-B-32", "ViT-B-32/no-such-tag", "NoModel/openai", "", "ViT-B-16-SigLIP/webli", "roberta-ViT-B-32/laion2b_s12b_b32k"],
)
def test_unknown_names_get_one_sentence(name):
    with pytest.raises(BackboneError) as caught:
        Backbone.load(name)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("size", [(500, 337), (336, 336), (90, 41), (1200, 400)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_heads_of_others_get_their_own_interpolation_bit_for_bit(tiny, size, interpolation):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    expected = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode(interpolation), antialias=True),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(tiny.preprocess["mean"], tiny.preprocess["std"]),
        ]
    )
    assert torch.equal(tiny.prepare(pixels, interpolation=interpolation), expected(Image.fromarray(pixels)))


@pytest.mark.parametrize("size", [(100, 60), (32, 32), (20, 50), (7, 3)])
def test_a_crop_without_resize_is_cut_or_padded(tiny, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    expected = transforms.Compose(
        [transforms.CenterCrop(32), transforms.ToTensor(), transforms.Normalize(tiny.preprocess["mean"], tiny.preprocess["std"])]
    )
    assert torch.equal(tiny.prepare(pixels, interpolation="bilinear", resize=False), expected(Image.fromarray(pixels)))


CLIP_336 = {"size": (336, 336), "mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@pytest.mark.parametrize("size", [(500, 337), (337, 500), (336, 336), (90, 41), (1023, 768)])
@pytest.mark.parametrize("interpolation, resize", [("bilinear", True), ("bicubic", True), ("bilinear", False), (None, False)])
def test_preparation_at_the_size_of_the_papers_is_torchvision_s(size, interpolation, resize):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    model = SimpleNamespace(visual=SimpleNamespace(preprocess_cfg=asdict(PreprocessCfg(**CLIP_336))))
    first = [transforms.Resize(336, transforms.InterpolationMode(interpolation), antialias=True)] if resize else []
    expected = transforms.Compose(
        [*first, transforms.CenterCrop(336), transforms.ToTensor(), transforms.Normalize(CLIP_336["mean"], CLIP_336["std"])]
    )
    assert torch.equal(make_transform(model, interpolation, resize)(Image.fromarray(pixels)), expected(Image.fromarray(pixels)))


def test_a_crop_without_resize_needs_no_interpolation(tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    assert torch.equal(tiny.prepare(pixels, resize=False), tiny.prepare(pixels[14:46, 34:66], resize=False))
    assert not torch.equal(tiny.prepare(pixels, resize=False), tiny.prepare(pixels))


@pytest.mark.parametrize("shape", [(1, 200_000, 3), (200_000, 1, 3)])
@pytest.mark.parametrize("interpolation", [None, "bilinear"])
def test_strips_of_any_length_are_prepared_from_their_middle(tiny, shape, interpolation):
    pixels = np.zeros(shape, np.uint8)
    middle = middle_part(pixels)
    middle[:] = 255
    assert max(middle.shape) == 8 and torch.equal(tiny.prepare(pixels, interpolation), tiny.prepare(np.full((32, 32, 3), 255, np.uint8)))
    assert tiny.prepare(pixels, interpolation, resize=False).shape == (3, 32, 32)


def test_a_model_that_squashes_sees_the_whole_image(tmp_path):
    folder = write_tiny(tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "squash"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    squashing, pixels = Backbone.load(str(folder)), np.random.default_rng(0).integers(0, 256, (40, 700, 3), np.uint8)
    view, expected = squashing.view(load_photo(pixels)), Image.fromarray(pixels).resize((32, 32), Image.BICUBIC)
    assert view.box == (0, 0, 700, 40)
    np.testing.assert_array_equal(view.pixels, np.asarray(expected))
    assert squashing.prepare(pixels, resize=False).shape == (3, 32, 32)


def test_weights_missing_from_a_folder(tmp_path):
    folder = write_tiny(tmp_path / "model")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(BackboneError, match="no open_clip_model.safetensors"):
        Backbone.load(str(folder))


def test_unknown_device_gets_one_sentence():
    with pytest.raises(BackboneError, match="cannot be used here"):
        Backbone.load("embedded", device="cuda:17")


def test_precision_is_full_for_small_models_and_measured_for_large_ones():
    cpu = torch.device("cpu")
    assert choose_precision(12_000_000, cpu) is torch.float32
    assert (choose_precision(300_000_000, cpu) is torch.bfloat16) == bfloat16_is_faster()


def test_fingerprint_tells_trainings_apart(tmp_path, tiny):
    assert tiny.fingerprint != Backbone.load(str(write_tiny(tmp_path / "other", seed=1))).fingerprint


def test_the_embedded_model_is_what_it_says(suite):
    """Golden number of the shipped weights: changes only with the weights."""
    assert suite.backbone.size == 144 and suite.backbone.precision is torch.float32
    features = suite.backbone.encode(torch.zeros(1, 3, 144, 144))
    assert features.pooled.shape == (1, 256) and features.patches.shape == (1, 81, 256)
