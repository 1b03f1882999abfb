"""interpret/attribution/baselines.py: each control finds what it is made for in a picture made for it, and chance finds nothing."""

import cv2
import numpy as np
import pytest

from detector.data.augmentation import recompress
from interpret.attribution import baselines
from interpret.attribution.bench import localisation


def scene(seed: int, shape=(192, 224)) -> np.ndarray:
    """Soft shapes under fine noise."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.uniform(40, 215, (12, 14, 3)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + generator.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def region(shape=(192, 224)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[64:144, 96:192] = True
    return mask


def test_jpeg_ghost_finds_a_region_that_was_saved_at_another_quality():
    for seed in range(4):
        pixels, mask = recompress(scene(seed), ".jpg", 95), region()
        pixels[mask] = recompress(scene(seed), ".jpg", 60)[mask]
        assert localisation(baselines.jpeg_ghost(pixels), mask)["auroc"] > 0.9


def test_noise_inconsistency_finds_a_region_with_other_noise():
    for seed, factor in ((0, 3.0), (1, 0.0)):
        pixels, mask = scene(seed), region()
        calm = cv2.GaussianBlur(pixels, (0, 0), 2).astype(float)
        other = calm + factor * np.random.default_rng(seed).normal(0, 6, pixels.shape)
        pixels[mask] = np.clip(other, 0, 255).astype(np.uint8)[mask]
        assert localisation(baselines.noise_inconsistency(pixels), mask)["auroc"] > 0.9


@pytest.mark.parametrize("sigma", [2.0, 12.0])
def test_the_noise_level_is_the_noises_deviation(sigma):
    grey = np.repeat(np.clip(128 + np.random.default_rng(0).normal(0, sigma, (256, 256, 1)), 0, 255), 3, 2).astype(np.uint8)
    assert np.median(baselines.noise_level(grey)) == pytest.approx(sigma, rel=0.1)


def test_local_variance_and_edges_are_high_where_there_is_detail():
    pixels = np.full((128, 128, 3), 120, np.uint8)
    pixels[:, 64:] = np.random.default_rng(0).integers(0, 256, (128, 64, 3))
    for name in ("local variance", "edges"):
        values = baselines.baselines(pixels)[name]
        assert values[:, 90:].min() > values[:, :40].max(), name


def test_a_random_map_is_at_chance():
    numbers = [localisation(baselines.noise(np.zeros((192, 224, 3), np.uint8), seed), region())["auroc"] for seed in range(60)]
    assert np.mean(numbers) == pytest.approx(0.5, abs=0.05)


def test_every_control_covers_any_picture():
    for shape in ((48, 200), (33, 47), (129, 64)):
        for name, values in baselines.baselines(scene(0, shape)).items():
            assert values.shape == shape and np.isfinite(values).all() and values.dtype == np.float32, name
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255
    assert abs(int(baselines.edges(half)[32].argmax()) - 32) <= 1
