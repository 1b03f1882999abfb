"""interpret/attribution/cam.py on SDD: a map for every layer, and how maps look."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from small_models import Head, Red, picture, small_head

from interpret.attribution import cam, overlay
from interpret.attribution.exact import MapHeads
from interpret.attribution.map_measures import reference_scales
from interpret.attribution.region import blurred, strongest_region

# --- the real model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdd_head(tmp_path_factory):
    """SDD with random weights on the tiny tower; its running statistics are those of noise, not 0 and 1."""
    from tiny import write_tiny

    from detector.clip.backbone import Backbone
    from detector.methods.sdd.config import SddConfig
    from detector.methods.sdd.head import SddHead, normalisation
    from detector.methods.sdd.model import Sdd

    backbone = Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")
    torch.manual_seed(0)
    model = Sdd(backbone.model.visual, SddConfig(heads=2, bag=8), torch.randn(8, 32))
    model.train()(torch.randn(8, 3, 32, 32))
    return SddHead(model.eval().requires_grad_(False), normalisation(backbone), scale=2.0, bias=0.5)


@pytest.mark.parametrize("layer", ["difference", "tokens", "stage1", "stage2", "stage3"])
def test_sdd_has_a_map_for_every_layer_that_captum_confirms(sdd_head, layer):
    from captum.attr import LayerGradCam

    images = sdd_head.prepare([picture(32, 32, seed) for seed in range(3)])
    _, found = cam.gradients(sdd_head.model, images, list(sdd_head.model.layers()))
    reference = LayerGradCam(lambda x: sdd_head.model(x).logits, sdd_head.model.layers()[layer]).attribute(images)[:, 0].detach()
    assert reference.abs().max() > 0
    torch.testing.assert_close(cam.grad_cam(*found[layer]), reference, rtol=1e-3, atol=1e-6)


def test_sdd_maps_of_an_image(sdd_head):
    pixels = picture()
    found = cam.heatmaps(sdd_head, pixels)
    assert list(found) == [cam.WINDOW_LAYER, "difference", "tokens", "stage1", "stage2", "stage3", cam.ERROR_LAYER, cam.ROLLOUT_LAYER]
    for heatmap in found.values():
        assert heatmap.values.shape == (70, 90) and np.isfinite(heatmap.values).all() and np.ptp(heatmap.values) > 0
    windows = [cam.crop_window(pixels, box, sdd_head.size) for box in found["difference"].boxes]
    np.testing.assert_allclose(found["difference"].logits, sdd_head.window_logits(windows), rtol=1e-4, atol=1e-5)
    for layer, mirrored in cam.heatmaps(sdd_head, np.ascontiguousarray(pixels[:, ::-1]), [cam.WINDOW_LAYER, "difference"]).items():
        np.testing.assert_allclose(mirrored.values[:, ::-1], found[layer].values, rtol=1e-3, atol=1e-4)


# --- attention rollout -----------------------------------------------------------------------------------------------


def test_rollout_by_hand(sdd_head):
    """The same product, from the blocks' own weights; the class token's row, since this head reads that token."""
    model, images = sdd_head.model, sdd_head.prepare([picture(32, 32, seed) for seed in range(2)])
    tokens, product = model.tower._embeds(images), torch.eye(17).expand(2, -1, -1)
    for block in model.tower.transformer.resblocks:
        normal, attention = block.ln_1(tokens), block.attn
        query, key, _ = (normal @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
        split = lambda x, heads=attention.num_heads: x.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
        shares = (split(query) @ split(key).mT / (query.shape[-1] // attention.num_heads) ** 0.5).softmax(-1).mean(1)
        product, tokens = (shares + torch.eye(17)) / 2 @ product, block(tokens)
    torch.testing.assert_close(model.attention_rollout(images).flatten(1), product[:, 0, 1:], rtol=1e-4, atol=1e-6)


def test_rollout_is_unsigned_and_in_units_of_an_even_one(sdd_head):
    images = sdd_head.prepare([picture(32, 32)])
    shares = cam.rollout(sdd_head.model, images)
    assert shares.min() >= 0 and shares.mean() == pytest.approx(1) and shares.std() > 0
    found = cam.heatmap(sdd_head, picture(), cam.ROLLOUT_LAYER)
    assert not found.signed and found.values.min() >= 0


# --- the look ------------------------------------------------------------------------------------------------------


def given_map(values) -> cam.Heatmap:
    values = np.asarray(values, np.float32)
    return cam.Heatmap(values, "difference", ((0, 0, values.shape[1], values.shape[0]),), np.zeros(1), 0.0)


def test_overlay_is_orange_for_synthetic_blue_for_real_and_clear_at_zero():
    values = np.zeros((40, 40), np.float32)
    values[10:20, 10:20], values[10:20, 25:35], values[25:35, 10:20] = 5, -5, np.nan
    image = np.asarray(overlay.overlay(np.full((40, 40, 3), 100, np.uint8), given_map(values), scale=1.0, opacity=1.0))
    assert tuple(image[15, 15]) == (213, 94, 0) and tuple(image[15, 30]) == (0, 114, 178)
    assert tuple(image[30, 30]) == tuple(image[30, 15]) == (100, 100, 100)
    assert tuple(image[0, 0]) == (40, 40, 40)  # the outline of the window, which is not read as a whole


def test_a_blank_image_is_cold_and_weak_evidence_stays_weak():
    blank = np.full((64, 64, 3), 90, np.uint8)
    found = cam.heatmap(Head(Red()), blank)
    assert (np.asarray(overlay.overlay(blank, replace(found, boxes=()), scale=0.5)) == 90).all()
    weak = given_map(np.linspace(-0.01, 0.01, 64 * 64).reshape(64, 64))  # its own extremes would fill the colours
    assert np.abs(np.asarray(overlay.overlay(blank, weak, scale=1.0)).astype(int)[8:-8, 8:-8] - 90).max() <= 1


def test_scales_come_from_the_validation_images():
    heads = MapHeads(Head(Red()))
    pictures = [np.full((32, 32, 3), (red, 0, 0), np.uint8) for red in (0, 90, 255)]
    scales = reference_scales(heads, pictures, percentile=100)
    assert scales["difference"] == pytest.approx(4 * (1 - 1 / 3), rel=1e-4)  # red 1 less the mean of the colours, times the gain


def test_rows_read_the_map_aloud():
    values = np.zeros((90, 90), np.float32)
    values[:30, :30], values[60:, 60:], values[30:60, :30] = 0.8, -0.8, np.nan
    table = {region: (number, reading) for region, number, reading in overlay.rows(given_map(values), scale=1.0)}
    assert len(table) == 9
    assert table["top left"] == ("+0.80", "synthetic") and table["bottom right"] == ("-0.80", "real")
    assert table["middle left"] == ("", "not read") and table["middle centre"] == ("+0.00", "little")


def spot(shape=(90, 120), sign: float = 1.0) -> cam.Heatmap:
    """A hill around row 30 and column 80 on gentle noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    hill = np.exp(-((y - 30) ** 2 + (x - 80) ** 2) / (2 * 10**2))
    return given_map(sign * 5 * hill + np.random.default_rng(0).normal(0, 0.1, shape))


@pytest.mark.parametrize("sign, side", [(1, "synthetic"), (-1, "real")])
def test_the_strongest_region_is_around_the_hill_on_either_side(sign, side):
    region = strongest_region(spot(sign=sign), (900, 1200))  # of a picture ten times the map's size
    mask = region.mask()
    rows, columns = np.nonzero(mask)
    assert region.side == side and abs(rows.mean() - 300) < 12 and abs(columns.mean() - 800) < 12
    assert mask.mean() == pytest.approx(region.share, rel=0.1)
    assert mask.sum() == pytest.approx(np.pi * (11.8 * 10) ** 2, rel=0.15)  # half of the height lies at 1.18 deviations
    assert sign * region.mean > 2 and sign * region.standing_out > 10


def test_a_region_as_polygons():
    feature = strongest_region(spot(), (90, 120)).feature("residual")
    assert feature["type"] == "Feature" and feature["geometry"]["type"] == "Polygon" and feature["properties"]["map"] == "residual"
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert (ring[0] == ring[-1]).all() and len(ring) > 5
    assert ring[:, 0].min() >= 60 and ring[:, 0].max() <= 100 and ring[:, 1].max() <= 50  # x, y


def test_a_flat_map_has_no_region():
    assert strongest_region(given_map(np.zeros((40, 40))), (40, 40)) is None


def test_what_the_map_points_at_is_blurred_and_nothing_else():
    pixels = picture(90, 120)
    region = strongest_region(spot(), (90, 120))
    result, mask = blurred(pixels, region), region.mask() > 0
    core, far = (
        cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0,
        cv2.dilate(mask.astype(np.uint8), np.ones((17, 17))) == 0,
    )
    assert result.dtype == np.uint8 and result.shape == pixels.shape
    assert (result[far] == pixels[far]).all() and result[core].std() < pixels[core].std() / 3
    assert pixels.tobytes() == picture(90, 120).tobytes()  # the original stays


def test_the_overlay_has_the_pictures_size_and_shows_the_outline():
    pixels = picture(450, 600)
    region = strongest_region(spot(), (450, 600))
    image = overlay.overlay_at(pixels, spot(), 1.0, 0.0, region)
    assert image.size == (600, 450)
    changed = (np.asarray(image) != np.asarray(overlay.overlay_at(pixels, spot(), 1.0, 0.0, None))).any(2)
    band = cv2.dilate(region.mask(), np.ones((15, 15))) - cv2.erode(region.mask(), np.ones((15, 15)))
    assert changed.any() and not (changed & (band == 0)).any()


def test_write_gives_a_map_at_the_pictures_size(tmp_path):
    from PIL import Image

    found, pixels = cam.heatmaps(small_head(), picture(), [cam.WINDOW_LAYER]), picture()
    paths = overlay.write(pixels, found[cam.WINDOW_LAYER], 1.0, tmp_path / "new" / "sdd.npy")
    assert [path.name for path in paths] == ["sdd.npy", "sdd.png"]
    values = np.load(paths[0])
    assert values.dtype == np.float32 and values.shape == pixels.shape[:2]
    np.testing.assert_array_equal(values, found[cam.WINDOW_LAYER].values)
    assert Image.open(paths[1]).size == (90, 70)
