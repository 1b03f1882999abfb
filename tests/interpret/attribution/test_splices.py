"""interpret/attribution/splices.py: what is pasted is where the mask says, as sharp as its surroundings, and measured as by hand."""

import cv2
import numpy as np
import pytest

from detector.data.datasets import Example
from interpret.attribution import splices


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
    assert 0.02 < splice.mask.mean() < 0.4


def test_the_same_seed_gives_the_same_splice_and_another_one_another():
    host, donor = textured(0), textured(1)
    first, again, other = (splices.make_splice(host, donor, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.box != other.box


def test_a_control_has_the_place_of_its_pair():
    host = textured(0)
    pair = [splices.make_splice(host, textured(seed), 5, kind) for seed, kind in ((1, "synthetic in real"), (2, splices.CONTROL))]
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
    found = [splices.localisation(splices.centre_prior(host), splices.make_splice(host, donor, seed).mask)["auroc"] for seed in range(200)]
    assert abs(np.mean(found) - 0.5) < 0.08


def test_the_sign_of_each_kind():
    made = {kind: splices.make_splice(textured(0), textured(1), 0, kind).sign for kind in splices.KINDS}
    assert made == {"synthetic in real": 1, "real in synthetic": -1, "real in real": 1}


def test_hostile_pictures():
    with pytest.raises(splices.SpliceError, match="48 pixels"):
        splices.make_splice(flat(0, (40, 200)), flat(1), 0)
    with pytest.raises(ValueError, match="none of"):
        splices.make_splice(flat(0), flat(1), 0, "cat in dog")
    for host, donor in (((48, 48), (400, 60)), ((50, 500), (48, 48)), ((131, 77), (93, 201))):
        splice = splices.make_splice(textured(0, host), textured(1, donor), 7)
        assert splice.pixels.shape == (*host, 3) and splice.mask.any()


def test_triples_come_in_turns_and_skip_what_is_too_small(tmp_path):
    examples = [Example(tmp_path / f"{i}", i % 2, "made up", "val") for i in range(12)]
    sizes = {example.path.name: (20, 20) if example.path.name == "4" else (96, 112) for example in examples}
    made = splices.make_splices(examples, 4, 0, lambda e: textured(int(e.path.name), sizes[e.path.name]))
    assert [splice.kind for splice in made] == list(splices.KINDS) * 4
    for first, _, control in zip(made[::3], made[1::3], made[2::3], strict=True):
        assert first.box == control.box
    again = splices.make_splices(examples, 4, 0, lambda e: textured(int(e.path.name), sizes[e.path.name]))
    assert all((a.pixels == b.pixels).all() for a, b in zip(made, again, strict=True))


# --- measuring -----------------------------------------------------------------------------------------------------


def quarter() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[:32, :32] = True
    return mask


def test_localisation_by_hand():
    mask = quarter()
    assert splices.localisation(mask.astype(float), mask) == {"pointing": 1.0, "auroc": 1.0, "mass": 4.0}  # all in a quarter
    assert splices.localisation(1 - 2.0 * mask, mask) == {"pointing": 0.0, "auroc": 0.0, "mass": 0.0}
    level = splices.localisation(np.zeros((64, 64)), mask)
    assert level == {"pointing": 0.25, "auroc": 0.5, "mass": 1.0}  # a flat map: chance, whatever the area
    half = np.zeros((64, 64))
    half[:32] = 1  # twice the mask: all of it and a third of the rest
    found = splices.localisation(half, mask)
    assert found["auroc"] == pytest.approx(2 / 3 + 1 / 3 / 2) and found["pointing"] == 0.5 and found["mass"] == 2.0


def test_localisation_leaves_out_what_was_not_seen():
    values = quarter().astype(np.float32)
    values[:, 48:] = np.nan
    assert splices.localisation(values, quarter())["auroc"] == 1.0
    values[:32, :32] = np.nan
    assert all(np.isnan(number) for number in splices.localisation(values, quarter()).values())


def test_a_random_map_is_at_chance():
    found = [
        splices.localisation(splices.noise(np.zeros((256, 256, 3), np.uint8), seed), np.kron(quarter(), np.ones((4, 4))) > 0)
        for seed in range(200)
    ]
    assert np.mean([row["auroc"] for row in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([row["pointing"] for row in found]) == pytest.approx(0.25, abs=0.1)


def test_interval_by_hand():
    assert splices.interval([2.0] * 5) == [2.0, 2.0, 2.0]
    mean, low, high = splices.interval([0.0, 1.0, float("nan")] * 50)
    assert mean == 0.5 and 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert np.isnan(splices.interval([float("nan")])).all()


def test_splice_test_handles_the_sign_and_shows_what_is_only_pasting():
    def pasted(splice):  # reacts to the pasting, whatever was pasted
        return splice.mask.astype(np.float32)

    made = [
        splices.make_splice(textured(seed), textured(seed + 50 * (1 + i)), seed, kind)
        for seed in range(6)
        for i, kind in enumerate(splices.KINDS)
    ]
    truth = {splice.pixels.tobytes(): splice for splice in made}

    def maps(pixels):
        splice = truth[pixels.tobytes()]
        right = splice.sign * pasted(splice) if splice.kind != splices.CONTROL else np.zeros(splice.mask.shape)
        return {"right": right, "pasting": pasted(splice)}

    found = splices.splice_test(maps, made)
    assert set(found) == {"right", "pasting", "random", "centre", "edges"}
    assert found["right"]["synthetic in real"]["auroc"][0] == found["right"]["real in synthetic"]["auroc"][0] == pytest.approx(1, abs=0.02)
    assert found["right"]["real in real"]["auroc"] == [0.5] * 3
    assert found["right"]["lift"]["auroc"][1] > 0.4  # the lower end of the interval
    assert found["pasting"]["lift"]["auroc"] == pytest.approx([0, 0, 0], abs=0.02)
    assert found["pasting"]["real in synthetic"]["auroc"][0] == pytest.approx(0, abs=0.02)  # warm where it should be cold


def test_baselines_have_the_shape_of_the_picture():
    pixels = textured(0, (61, 87))
    maps = splices.baselines(pixels)
    assert all(values.shape == (61, 87) for values in maps.values())
    assert np.unravel_index(maps["centre"].argmax(), (61, 87)) == (30, 43)
    half = flat(0, (64, 64))
    half[:, 32:] = 255
    assert abs(int(splices.edges(half)[32].argmax()) - 32) <= 1
