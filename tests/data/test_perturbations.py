"""detector/data/perturbations.py: each change does what its name says, on any size, and leaves its input alone."""

import numpy as np
import pytest

from detector.data.perturbations import AS_IS, CURVES, VARIANTS, blur, crop, jpeg, mirror, resize, shrink_to, webp

ALL = {variant.name: variant for variant in (*VARIANTS, *(v for levels in CURVES.values() for v in levels))}


def test_the_tables_begin_with_the_mildest_and_repeat_nothing():
    assert VARIANTS[0] is AS_IS and len({variant.name for variant in VARIANTS}) == len(VARIANTS) == 12
    assert [v.name for v in CURVES["JPEG"]] == ["JPEG 95", "JPEG 85", "JPEG 70", "JPEG 50", "JPEG 40"]
    assert set(CURVES) == {"JPEG", "WebP", "resize", "blur"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (61, 47)])
def test_any_size_goes_in_and_stays_as_it_was(name, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = image.copy()
    image.setflags(write=False)  # a photo's pixels are so
    changed = ALL[name].apply(image)
    assert changed.dtype == np.uint8 and changed.ndim == 3 and min(changed.shape[:2]) >= 1 and changed.shape[2] == 3
    assert (image == before).all()


def test_as_it_is_costs_no_copy():
    image = np.zeros((4, 4, 3), np.uint8)
    assert AS_IS.apply(image) is image


def test_mirrored_and_cropped_by_hand():
    image = np.arange(5 * 10 * 3, dtype=np.uint8).reshape(5, 10, 3)
    assert (mirror().apply(image)[:, 0] == image[:, 9]).all()
    assert (crop(0.6).apply(image) == image[1:4, 2:8]).all()  # three of five rows, six of ten columns, from the middle


def test_resized_by_hand():
    image = np.zeros((4, 8, 3), np.uint8)
    image[::2] = 200
    small = resize(0.5).apply(image)
    assert small.shape == (2, 4, 3) and (small == 100).all()  # each new pixel is the mean of four
    assert resize(1.5).apply(image).shape == (6, 12, 3)


def test_a_blur_spreads_a_dot_and_keeps_the_sum():
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    soft = blur(1).apply(image)[..., 0].astype(float)
    assert soft.sum() == pytest.approx(255, rel=0.06) and soft[15, 15] == pytest.approx(255 / (2 * np.pi), rel=0.03)


@pytest.mark.parametrize("levels", [CURVES["JPEG"], CURVES["WebP"], CURVES["blur"]])
def test_each_level_of_a_curve_loses_more(levels, photographs):
    image = photographs[0]
    lost = [np.abs(variant.apply(image).astype(int) - image).mean() for variant in levels]
    assert lost == sorted(lost) and lost[0] > 0


def test_colours_come_back_in_their_order():
    image = np.full((32, 32, 3), (200, 30, 90), np.uint8)
    for variant in ALL.values():
        assert np.abs(variant.apply(image).astype(int) - image[0, 0]).max() <= 6, variant.name


@pytest.mark.parametrize("variant, side", [(jpeg(50), 65_500), (webp(80), 16_383)])
def test_the_longest_side_that_a_format_holds(variant, side):
    fits, too_long = np.zeros((1, side, 3), np.uint8), np.zeros((side + 1, 1, 3), np.uint8)
    assert variant.fits(fits) and variant.apply(fits).shape == fits.shape
    assert not variant.fits(too_long)


@pytest.mark.parametrize("shape, most", [((100, 200), 5000), ((1, 9000), 100), ((9000, 1), 100), ((7, 3), 20), ((3, 7), 1)])
def test_at_most_is_kept(shape, most):
    small = shrink_to(np.full((*shape, 3), 9, np.uint8), most)
    assert small.shape[0] * small.shape[1] <= most and (small == 9).all()


def test_at_most_keeps_the_shape_and_leaves_smaller_images_alone():
    assert shrink_to(np.zeros((100, 200, 3), np.uint8), 5000).shape == (50, 100, 3)
    image = np.zeros((50, 100, 3), np.uint8)
    assert shrink_to(image, 5000) is image
