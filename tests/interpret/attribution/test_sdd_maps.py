"""interpret/attribution/cam.py on SDD: a map for every layer, and how maps look."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import Head, Red, picture, small_head

from interpret.attribution import cam, overlay

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
    _, found = cam.gradients(sdd_head.model, images, cam.layers_of(sdd_head)[1:-1])
    reference = LayerGradCam(lambda x: sdd_head.model(x).logits, sdd_head.model.layers()[layer]).attribute(images)[:, 0].detach()
    assert reference.abs().max() > 0
    torch.testing.assert_close(cam.grad_cam(*found[layer]), reference, rtol=1e-3, atol=1e-6)


def test_sdd_maps_of_an_image(sdd_head):
    pixels = picture()
    found = cam.heatmaps(sdd_head, pixels)
    assert list(found) == [cam.WINDOW_LAYER, "difference", "tokens", "stage1", "stage2", "stage3", cam.ERROR_LAYER]
    for heatmap in found.values():
        assert heatmap.values.shape == (70, 90) and np.isfinite(heatmap.values).all() and np.ptp(heatmap.values) > 0
    windows = [cam.crop_window(pixels, box, sdd_head.size) for box in found["difference"].boxes]
    np.testing.assert_allclose(found["difference"].logits, sdd_head.window_logits(windows), rtol=1e-4, atol=1e-5)
    for layer, mirrored in cam.heatmaps(sdd_head, np.ascontiguousarray(pixels[:, ::-1]), [cam.WINDOW_LAYER, "difference"]).items():
        np.testing.assert_allclose(mirrored.values[:, ::-1], found[layer].values, rtol=1e-3, atol=1e-4)


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
    assert tuple(image[0, 0]) == (40, 40, 40)  # the outline of the window


def test_a_blank_image_is_cold_and_weak_evidence_stays_weak():
    blank = np.full((64, 64, 3), 90, np.uint8)
    found = cam.heatmap(Head(Red()), blank)
    assert (np.asarray(overlay.overlay(blank, replace(found, boxes=()), scale=0.5)) == 90).all()
    weak = given_map(np.linspace(-0.01, 0.01, 64 * 64).reshape(64, 64))  # its own extremes would fill the colours
    assert np.abs(np.asarray(overlay.overlay(blank, weak, scale=1.0)).astype(int)[8:-8, 8:-8] - 90).max() <= 1


def test_scales_come_from_the_validation_images():
    head = Head(Red())
    pictures = [np.full((32, 32, 3), (red, 0, 0), np.uint8) for red in (0, 90, 255)]
    scales = cam.reference_scales(head, pictures, percentile=100)
    assert scales["difference"] == pytest.approx(4 * (1 - 1 / 3), rel=1e-4)  # red 1 less the mean of the colours, times the gain


def test_rows_read_the_map_aloud():
    values = np.zeros((90, 90), np.float32)
    values[:30, :30], values[60:, 60:], values[30:60, :30] = 0.8, -0.8, np.nan
    table = {region: (number, reading) for region, number, reading in overlay.rows(given_map(values), scale=1.0)}
    assert len(table) == 9
    assert table["top left"] == ("+0.80", "synthetic") and table["bottom right"] == ("-0.80", "real")
    assert table["middle left"] == ("", "not read") and table["middle centre"] == ("+0.00", "little")


def test_write_names_the_default_map_sdd(tmp_path):
    from PIL import Image

    head, pixels = small_head(), picture()
    found = cam.heatmaps(head, pixels, [cam.WINDOW_LAYER, "stage1"])
    paths = overlay.write(found, tmp_path / "new", pixels, {cam.WINDOW_LAYER: 1.0, "stage1": 1.0})
    assert {path.name for path in paths} == {"sdd.npy", "sdd.png", "stage1.npy", "stage1.png"}
    read = np.load(tmp_path / "new" / "sdd.npy")
    assert read.dtype == np.float32 and read.shape == pixels.shape[:2]
    np.testing.assert_array_equal(read, found[cam.WINDOW_LAYER].values)
    assert Image.open(tmp_path / "new" / "stage1.png").size == (90, 70)
