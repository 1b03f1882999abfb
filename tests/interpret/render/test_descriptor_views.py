"""interpret/render/descriptor_views.py: planted structure shows where it is, on a scale that no image changes."""

import numpy as np
import pytest

from detector.methods.physical.features import measure
from interpret.render.descriptor_views import CAPTIONS, gallery, views


def picture(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def test_a_flat_image_is_calm_in_every_view():
    found = views(np.full((300, 280, 3), 90, np.uint8))
    assert set(found) == set(CAPTIONS)
    assert found["sobel"].max() == 0 and found["spectrum"].max() == 0
    assert set(np.unique(found["laplacian"])) | set(np.unique(found["residual"])) <= {127, 128}


def test_an_edge_shows_where_it_is():
    pixels = np.zeros((256, 256))
    pixels[:, 128:] = 200
    found = views(picture(pixels))
    assert found["sobel"][:, 127:129].min() == 255 and found["sobel"][:, :120].max() == 0 and found["sobel"][:, 136:].max() == 0
    assert found["laplacian"][100, 127] > 200 and found["laplacian"][100, 128] < 60


def test_noise_is_brighter_in_the_residual_than_a_gradient():
    ramp = np.tile(np.linspace(0, 200, 256), (256, 1))
    noise = ramp + np.random.default_rng(0).normal(0, 8, (256, 256))
    calm, rough = (views(picture(values.clip(0, 255)))["residual"].astype(int) for values in (ramp, noise))
    assert np.abs(rough - 127.5).mean() > 5 * np.abs(calm - 127.5).mean()
    assert measure(picture(noise.clip(0, 255)))[4] > measure(picture(ramp))[4]


def test_a_wave_is_two_dots_at_its_frequency():
    wave = 128 + 60 * np.cos(2 * np.pi * 32 * np.arange(256) / 256)
    spectrum = views(picture(np.tile(wave, (256, 1))))["spectrum"]
    assert spectrum[128, 128 + 32] == spectrum[128, 128 - 32] == spectrum.max() and spectrum[128 + 32, 128] < spectrum.max() / 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 900, 3), (3, 2, 3), (40, 41, 3), (3000, 20, 3)])
def test_any_size(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert all(view.shape == (256, 256) and view.dtype == np.uint8 for view in views(pixels).values())
    page = gallery(pixels)
    assert page.count('<img src="data:image/png;base64,') == page.count("alt=") == page.count("<figcaption>") == len(CAPTIONS)


def test_the_scale_is_the_same_for_all_images():
    faint = np.full((256, 256), 100.0)
    faint[:, 128:] = 102
    assert views(picture(faint))["sobel"].max() < 10
