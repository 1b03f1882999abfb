"""detector/data/windows.py: every pixel lies in a window, mirrored images have mirrored windows, small images are continued."""

import numpy as np
import pytest

from detector.data.windows import crop_window, window_boxes

SIZES = [(256, 256), (144, 144), (145, 300), (1000, 333), (40, 500), (1, 1), (7, 3), (287, 288)]


@pytest.mark.parametrize("width, height", SIZES)
def test_every_pixel_lies_in_a_window_of_the_right_size(width, height):
    covered = np.zeros((height, width), int)
    for x0, y0, x1, y1 in window_boxes(width, height, 144):
        assert 0 <= x0 and x1 <= width and 0 <= y0 and y1 <= height
        assert x1 - x0 == min(144, width) and y1 - y0 == min(144, height)
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize("width, height", [(256, 256), (1000, 333), (287, 288), (144, 144), (40, 500)])
def test_windows_overlap_by_a_quarter(width, height):
    xs = sorted({box[0] for box in window_boxes(width, height, 144)})
    assert all(b - a <= 144 * 0.75 for a, b in zip(xs, xs[1:], strict=False))


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("most", [None, 4, 9])
def test_mirrored_images_have_mirrored_windows(width, height, most):
    boxes = window_boxes(width, height, 144, limit=most)
    mirrored = {(width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in boxes}
    assert all(min(abs(x0 - box[0]) for box in boxes if box[1] == y0) <= 1 for x0, y0, _, _ in mirrored)


@pytest.mark.parametrize("most", [1, 2, 4, 5, 9])
def test_at_most_so_many_evenly_spaced(most):
    boxes = window_boxes(6000, 4000, 144, limit=most)
    assert 1 <= len(boxes) <= most and len(set(boxes)) == len(boxes)


def test_one_window_lies_in_the_middle():
    assert window_boxes(300, 200, 100, limit=1) == [(100, 50, 200, 150)]


@pytest.mark.parametrize("shape", [(200, 200), (144, 30), (1, 1), (143, 144)])
def test_cut_is_always_full_and_begins_with_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    box = window_boxes(shape[1], shape[0], 144)[0]
    window = crop_window(pixels, box, 144)
    assert window.shape == (144, 144, 3)
    inside = pixels[box[1] : box[3], box[0] : box[2]]
    assert np.array_equal(window[: inside.shape[0], : inside.shape[1]], inside)
