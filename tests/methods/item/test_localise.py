"""Patch embeddings against attention to oneself, boxes by hand, and the shipped model on a pasted picture."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import write_tiny

from detector.clip.backbone import Backbone, ClipFeatures
from detector.methods.item.localise import GENERIC, box_of, crop, heatmap, hottest, patch_embeddings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


def test_the_value_path_is_attention_with_nothing_else_to_look_at(tiny):
    """Each patch alone in a sequence attends to itself only: the attention's output is then the value path."""
    generator = np.random.default_rng(0)
    images = torch.stack([tiny.prepare(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(2)])
    features, visual = tiny.encode(images), tiny.model.visual
    block = visual.transformer.resblocks[-1]
    with torch.inference_mode():
        alone = block.ln_1(features.previous[:, 1:]).reshape(-1, 1, 32)
        attended = block.attn(alone, alone, alone, need_weights=False)[0].reshape(2, 16, 32)
        expected = F.normalize(visual.ln_post(attended) @ visual.proj, dim=-1)
    torch.testing.assert_close(patch_embeddings(tiny, features), expected, rtol=1e-4, atol=1e-5)


def test_towers_without_patches_have_none(tiny):
    assert patch_embeddings(tiny, ClipFeatures(torch.ones(1, 4), torch.ones(1, 4), None)) is None


def test_heat_by_hand():
    patches = torch.eye(4)
    texts = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0.6, 0.8]])
    heat = heatmap(patches, texts, torch.tensor([0.5, 0, 0, 0]))
    np.testing.assert_allclose(heat, [[[0.5, 0], [0, 0]], [[-0.5, 0], [0.6, 0.8]]], atol=1e-6)


def grid(*cells: tuple[int, int, float]) -> np.ndarray:
    heat = np.zeros((8, 8), np.float32)
    for row, column, value in cells:
        heat[row, column] = value
    return heat


@pytest.mark.parametrize(
    "heat, box",
    [
        (grid((2, 3, 1), (2, 4, 1), (3, 3, 1), (6, 6, 1)), (3, 2, 5, 4)),  # the larger part wins
        (grid((1, 1, 1), (2, 2, 1.5)), (2, 2, 3, 3)),  # a corner does not connect; of equal parts the hotter
        (np.full((8, 8), 0.3, np.float32), (0, 0, 8, 8)),  # even: everything
    ],
)
def test_hottest_part(heat, box):
    assert hottest(heat) == box


def test_a_box_by_hand():
    """160 × 80: the tower sees x 40…120. Cells are 10 pixels; the part spans cells 2–6 by 2–6, 40 pixels, with its margin 48."""
    heat = np.zeros((8, 8), np.float32)
    heat[2:6, 2:6] = 1
    assert box_of(heat, 160, 80) == (56, 16, 104, 64)


def test_a_small_part_gets_a_quarter_of_the_side():
    assert box_of(grid((4, 4, 1)), 80, 80) == (35, 35, 55, 55)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (37, 41), (640, 480)])
def test_boxes_lie_in_the_image_and_crops_are_not_empty(size):
    generator, (width, height) = np.random.default_rng(0), size
    pixels = np.zeros((height, width, 3), np.uint8)
    for _ in range(50):
        x0, y0, x1, y1 = box = box_of(generator.normal(size=(9, 9)).astype(np.float32), width, height)
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        cut = crop(pixels, box)
        assert min(cut.shape[:2]) >= 1 and max(cut.shape[:2]) <= max(x1 - x0, y1 - y0)


def test_crops_are_the_original_pixels_in_a_square():
    pixels = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    np.testing.assert_array_equal(crop(pixels, (20, 10, 60, 30)), pixels[0:40, 20:60])  # moved down into the image
    np.testing.assert_array_equal(crop(pixels, (0, 0, 200, 100)), pixels)  # no room for a square of 200


def test_the_shipped_model_finds_a_pasted_flower(photographs):
    """A flower on an even ground, in each of the four corners: the box's centre lies on it."""
    backbone = Backbone.load()
    flower, hits = cv2.resize(photographs[1][:, 60:316], (112, 112), interpolation=cv2.INTER_AREA), 0
    texts = backbone.encode_text(["a photo of a flower", *GENERIC])
    for x, y in ((8, 8), (136, 8), (8, 136), (136, 136)):
        picture = np.full((256, 256, 3), (90, 120, 140), np.uint8)
        picture[y : y + 112, x : x + 112] = flower
        features = backbone.encode(backbone.prepare(picture)[None])
        heat = heatmap(patch_embeddings(backbone, features)[0], texts[:1], texts[1:].mean(0))[0]
        x0, y0, x1, y1 = box_of(heat, 256, 256)
        hits += x <= (x0 + x1) / 2 <= x + 112 and y <= (y0 + y1) / 2 <= y + 112
    assert hits >= 3
