"""interpret/attribution/splices.py: what is pasted is where the mask says, as sharp as its surroundings, in many outlines."""

import cv2
import numpy as np
import pytest

from detector.data.datasets import Example
from interpret.attribution import splices
from interpret.attribution.baselines import centre_prior
from interpret.attribution.bench import localisation


def flat(colour, shape=(128, 160)) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


def textured(seed: int, shape=(128, 160), strength: float = 20) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, (*shape, 3))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


# --- making --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_donor_is_where_the_mask_says(seed):
    splice = splices.make_splice(flat((20, 40, 200)), flat((220, 180, 30)), seed)
    donor = splice.pixels[..., 0] > 120
    assert (donor == splice.mask).mean() > 0.99
    rows, columns = np.nonzero(splice.mask)
    x0, y0, x1, y1 = splice.box
    assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1
    assert all(edge % splices.GRID == 0 for edge in splice.box)
    assert 0.005 < splice.mask.mean() < 0.4


def test_the_same_seed_gives_the_same_splice_and_another_one_another():
    host, donor = textured(0), textured(1)
    first, again, other = (splices.make_splice(host, donor, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.box != other.box


def test_a_control_has_the_place_of_its_pair():
    host = textured(0)
    pair = [splices.make_splice(host, textured(seed), 5, kind) for seed, kind in ((1, "synthetic in real"), (2, "real in real"))]
    assert pair[0].box == pair[1].box and (pair[0].mask == pair[1].mask).all()


def test_the_border_is_feathered():
    values = splices.make_splice(flat((0, 0, 0)), flat((255, 255, 255)), 1).pixels[..., 0].astype(int)
    assert np.ptp(values) > 250 and max(np.abs(np.diff(values, axis=axis)).max() for axis in (0, 1)) < 90  # no step


@pytest.mark.parametrize("host_strength, donor_strength", [(4, 30), (30, 4)])
def test_inside_is_as_sharp_as_outside(host_strength, donor_strength):
    host, donor = textured(0, strength=host_strength), textured(1, strength=donor_strength)
    splice = splices.make_splice(host, donor, 2)
    core = cv2.erode(splice.mask.astype(np.uint8), np.ones((9, 9))) > 0
    outer = cv2.dilate(splice.mask.astype(np.uint8), np.ones((9, 9))) == 0
    inside, outside = (splices.residual_deviation(splice.pixels, part) for part in (core, outer))
    assert 0.75 < inside / outside < 1.33
    assert not 0.5 < splices.residual_deviation(host) / splices.residual_deviation(donor) < 2  # they were not alike before


def test_blurring_goes_no_further_than_needed():
    pixels = textured(0)
    target = 0.5 * splices.residual_deviation(pixels)
    assert 0.9 * target < splices.residual_deviation(splices.blurred_to(pixels, target)) <= target
    assert splices.blurred_to(pixels, 1e6) is pixels


def test_a_guess_at_the_middle_finds_no_more_than_chance():
    host, donor = flat(100), flat(110)
    found = [localisation(centre_prior(host), splices.make_splice(host, donor, seed).mask)["auroc"] for seed in range(200)]
    assert abs(np.mean(found) - 0.5) < 0.08


def test_the_sign_of_each_kind():
    made = {kind: splices.make_splice(textured(0), textured(1), 0, kind).sign for kind in splices.KINDS}
    assert made == {"synthetic in real": 1, "real in synthetic": -1, "real in real": 1, "synthetic in synthetic": 1}


def test_hostile_pictures():
    with pytest.raises(splices.SpliceError, match="48 pixels"):
        splices.make_splice(flat(0, (40, 200)), flat(1), 0)
    with pytest.raises(ValueError, match="none of"):
        splices.make_splice(flat(0), flat(1), 0, "cat in dog")
    for host, donor in (((48, 48), (400, 60)), ((50, 500), (48, 48)), ((131, 77), (93, 201))):
        splice = splices.make_splice(textured(0, host), textured(1, donor), 7)
        assert splice.pixels.shape == (*host, 3) and splice.mask.any()


def test_regions_differ_in_outline_size_and_softness():
    """An ellipse fills π/4 of its box; half of the regions are something else."""
    host = flat(0, (256, 256))
    made = [splices.make_splice(host, flat(255, (256, 256)), seed) for seed in range(60)]
    areas = [splice.mask.mean() for splice in made]
    assert min(areas) < 0.08 and max(areas) > 0.2
    whole = [s for s in made if s.box[0] > 0 and s.box[1] > 0 and s.box[2] < 256 and s.box[3] < 256]
    rounds = [cv2.contourArea(hull := cv2.convexHull(np.argwhere(s.mask)[:, ::-1].astype(np.int32))) - s.mask.sum() for s in whole]
    assert hull is not None and sum(gap > 0.03 * s.mask.sum() for gap, s in zip(rounds, whole, strict=True)) >= len(whole) // 5
    soft = [np.abs(np.diff(s.pixels[..., 0].astype(int), axis=1)).max() for s in made]
    assert max(soft) > 1.5 * min(soft)


def test_draws_have_one_splice_of_each_kind_and_skip_what_is_too_small(tmp_path):
    examples = [Example(tmp_path / f"{i}", i % 2, f"source {i % 4}", "val") for i in range(12)]
    sizes = {example.path.name: (20, 20) if example.path.name == "4" else (96, 112) for example in examples}
    made, again = (list(splices.make_splices(examples, 4, 0, lambda e: textured(int(e.path.name), sizes[e.path.name]))) for _ in range(2))
    assert [[splice.kind for splice in draw] for draw in made] == [list(splices.KINDS)] * 4
    for synthetic_in_real, real_in_synthetic, real_in_real, synthetic_in_synthetic in made:
        assert synthetic_in_real.box == real_in_real.box and real_in_synthetic.box == synthetic_in_synthetic.box
        assert synthetic_in_real.source == real_in_synthetic.source in ("source 1", "source 3") and real_in_real.source == ""
    assert all((a.pixels == b.pixels).all() for a, b in zip(made[3], again[3], strict=True))


def test_one_picture_of_a_class_makes_no_splice(tmp_path):
    examples = [Example(tmp_path / f"{i}", int(i > 0), "made up", "val") for i in range(4)]
    assert list(splices.make_splices(examples, 2, 0, lambda e: textured(0))) == []
