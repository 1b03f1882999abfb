"""interpret/attribution/faithfulness.py: curves by hand, a planted detector whose map must win, a random map that must not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import Head, Red, small_head

from detector.data.datasets import Example
from interpret.attribution import cam, faithfulness
from interpret.attribution.bench import DIRECTED, localisation
from interpret.attribution.exact import MapHeads
from interpret.attribution.map_tables import maps_report
from interpret.attribution.splices import CONTROLS, KINDS


def red_square(seed: int, size: int = 64, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A grey, noisy picture with a red square on the grid, and its mask."""
    generator = np.random.default_rng(seed)
    pixels = np.repeat(generator.integers(90, 150, (size, size, 1)), 3, 2).astype(np.uint8)
    y, x = generator.integers(0, size // side, 2) * side
    pixels[y : y + side, x : x + side] = (255, 40, 40)
    mask = np.zeros((size, size), bool)
    mask[y : y + side, x : x + side] = True
    return pixels, mask


def planted() -> Head:
    return Head(Red(), size=64)


def redness(pictures) -> np.ndarray:
    """Mean of what exceeds grey, squared: blur spreads it out and so lowers it."""
    return np.array([((picture[..., 0].astype(float) - picture[..., 1]).clip(0) ** 2).mean() / 1000 for picture in pictures])


# --- curves --------------------------------------------------------------------------------------------------------


def test_order_of_cells_by_hand():
    values = np.kron(np.array([[3.0, 1.0], [np.nan, 2.0]]), np.ones((16, 16)))
    assert faithfulness.order_of_cells(values).tolist() == [[0, 2], [3, 1]]
    assert faithfulness.order_of_cells(values[:20, :25]).tolist() == [[0, 2], [3, 1]]  # squares cut at the edge


def test_mixtures_begin_with_the_image_and_end_with_its_blur():
    pixels, mask = red_square(0)
    made = list(faithfulness.mixtures(pixels, mask, steps=16))
    assert len(made) == 17
    np.testing.assert_array_equal(made[0], pixels)
    np.testing.assert_array_equal(made[-1], faithfulness.blur(pixels))
    core = np.argwhere(mask).mean(0).astype(int)
    changed = (made[1] != pixels).any(2)
    assert changed[mask].any() and not changed[~mask].all()  # the square goes first
    assert tuple(made[1][tuple(core)]) == tuple(faithfulness.blur(pixels)[tuple(core)])


def test_curves_by_hand():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = 200  # one of four squares counts
    values = np.zeros((32, 32))
    values[:16, :16] = 1
    found = faithfulness.curves(lambda pictures: np.array([float(p[8, 8, 0] > 195) for p in pictures]), pixels, values, steps=4)
    assert found["deletion"].tolist() == [1, 0, 0, 0, 0]
    assert found["insertion"].tolist() == [0, 1, 1, 1, 1]
    assert faithfulness.area(found["deletion"]) == 0.125 and faithfulness.area(found["insertion"]) == 0.875


def test_area_of_a_straight_line():
    assert faithfulness.area(np.linspace(0, 2, 9)) == pytest.approx(1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_map_beats_its_baselines_on_either_side(sign):
    results = []
    for seed in range(12):
        (pixels, mask), (_, other) = red_square(seed), red_square(seed + 100)
        results.append(
            faithfulness.faithfulness(
                lambda p: sign * redness(p), pixels, {"right": sign * mask.astype(float)}, {"right": sign * other.astype(float)}, seed
            )
        )
    found = faithfulness.compare(results, ["right"])
    for measure in faithfulness.CURVES:
        assert set(found["right"][measure]["gain"]) == set(faithfulness.BASELINES)
        assert all(gain[1] > 0 for rival, gain in found["right"][measure]["gain"].items() if rival != "edges")
        assert found["right"][measure]["gain"]["edges"][0] >= 0  # the square's border is an edge


def test_a_random_map_gains_nothing():
    results = []
    for seed in range(40):
        pixels, _ = red_square(seed)
        values, other = np.random.default_rng(seed + 999).normal(size=(2, *pixels.shape[:2]))
        results.append(faithfulness.faithfulness(redness, pixels, {"noise": values}, {"noise": other}, seed, steps=4))
    for found in faithfulness.compare(results, ["noise"])["noise"].values():
        assert all(gain[1] < 0 < gain[2] for rival, gain in found["gain"].items() if rival in ("random", "another image's"))


def test_the_map_of_the_planted_detector_points_at_the_square():
    head, rows = planted(), []
    for seed in range(6):
        pixels, mask = red_square(seed)
        rows.append(localisation(cam.heatmap(head, pixels, "difference").values, mask))
    assert all(row["pointing"] == 1 for row in rows) and np.mean([row["auroc"] for row in rows]) > 0.95


# --- randomisation -------------------------------------------------------------------------------------------------


def test_shuffling_keeps_the_numbers_and_leaves_the_original_alone():
    model = small_head().model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = faithfulness.randomised(model, 0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        torch.testing.assert_close(other.state_dict()[name].flatten().sort()[0], tensor.flatten().sort()[0])
    assert not torch.equal(other.classify.weight, model.classify.weight)
    last = faithfulness.randomised(model, 0, ["classify"])
    assert torch.equal(last.embed.weight, model.embed.weight) and not torch.equal(last.classify.weight, model.classify.weight)


def test_similarity_by_hand():
    values = np.kron(np.arange(16.0).reshape(4, 4), np.ones((16, 16)))
    assert faithfulness.similarity(values, 3 * values + 1) == pytest.approx(1)
    assert faithfulness.similarity(values, -values) == pytest.approx(-1)
    assert np.isnan(faithfulness.similarity(values, np.zeros_like(values)))


def test_randomisation_tells_an_edge_map_from_one_that_needs_the_weights():
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(3)]
    found = faithfulness.randomisation(MapHeads(small_head()), pictures, 0, ["stage3"])
    assert found["stage3"]["all"][0] < 0.5
    # a planted detector with one weight cannot be shuffled: its map stays, and the check says so
    assert faithfulness.randomisation(MapHeads(planted()), pictures, 0, ["difference"])["difference"]["all"][0] == pytest.approx(1)


# --- all of it, and in words ---------------------------------------------------------------------------------------


def reddish_examples(folder: Path, splits: Sequence[str]) -> list[Example]:
    """Twelve pictures in each split; synthetic ones are reddish."""
    made = []
    for index, split in enumerate(np.repeat(splits, 12).tolist()):
        label, generator = index % 2, np.random.default_rng(index)
        pixels = np.repeat(generator.integers(60, 190, (96, 96, 1)), 3, 2).astype(np.uint8)
        pixels[..., 0] = np.clip(pixels[..., 0].astype(int) + (60 if label else -30), 0, 255)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        made.append(Example(folder / f"{index}.png", label, "made up", split))
    return made


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    examples = reddish_examples(tmp_path_factory.mktemp("data"), ["val"])
    return faithfulness.measure_maps(MapHeads(planted()), examples, faithfulness.MeasurePlan(1, images=6, splices=5, subset=4, shuffles=2))


def test_measure_maps_gives_plain_numbers_for_every_layer(measured):
    import json

    json.dumps(measured)
    layers = {"difference", cam.ERROR_LAYER}
    assert set(measured["curves"]) == layers and set(measured["randomisation"]) == layers | {cam.WINDOW_LAYER}
    splices = measured["splices"]
    assert set(splices["maps"]) == layers | {cam.WINDOW_LAYER} and {"random", "JPEG ghost"} <= set(splices["baselines"])
    assert measured["counts"] == {"images": 6, "splices": 5, "subset": 4, "shuffles": 2}
    kinds = splices["maps"]["difference"]["kinds"]
    assert splices["maps"]["difference"]["draws"] == 4  # it needs a gradient
    assert kinds["synthetic in real"]["auroc"][0] > 0.9 and kinds["real in synthetic"]["auroc"][0] > 0.9  # it finds what is reddish
    assert kinds["real in real"]["auroc"][0] == pytest.approx(0.5, abs=0.25)


def test_the_report_has_every_map_control_and_group(measured):
    text = maps_report(measured)
    for name in (
        *measured["splices"]["maps"],
        *measured["splices"]["baselines"],
        *KINDS,
        "deletion",
        "another image's",
        "made up",
        "under 10 %",
    ):
        assert name in text, name
    assert "needing the trained weights" in text  # one weight cannot be shuffled


def passing() -> dict:
    good = [0.3, 0.1, 0.5]
    gain = dict.fromkeys(faithfulness.BASELINES, good)
    kinds = {kind: {"auroc": [0.8, 0.7, 0.9]} for kind in DIRECTED} | {kind: {"auroc": [0.52, 0.4, 0.6]} for kind in CONTROLS}
    splices = {"draws": 30, "kinds": kinds, "gain": {kind: {"baseline": "edges", "auroc": good} for kind in DIRECTED}}
    return {
        "counts": {"images": 40, "splices": 30},
        "curves": {"difference": {measure: {"gain": dict(gain)} for measure in faithfulness.CURVES}},
        "splices": {"maps": {"difference": splices}},
        "randomisation": {"difference": {"all": [0.1, 0.0, 0.2], "classifier": [0.3, 0.2, 0.4]}},
    }


def test_trust_says_what_failed():
    results = passing()
    assert faithfulness.trust(results, "difference") == "beats its baselines"
    assert faithfulness.worth(results, "difference") == pytest.approx(0.8)
    results["curves"]["difference"]["deletion"]["gain"]["edges"] = [0.1, -0.1, 0.3]
    assert faithfulness.trust(results, "difference") == "does not beat its baselines: deletion against edges"
    results["splices"]["maps"]["difference"]["gain"]["real in synthetic"]["auroc"] = [0.1, 0.0, 0.2]
    assert faithfulness.failures(results, "difference")[1:] == ["real in synthetic, against edges"]
    for value, fails in ((0.56, True), (0.44, True), (0.54, False)):
        results["splices"]["maps"]["difference"]["kinds"]["synthetic in synthetic"] = {"auroc": [value, 0, 1]}
        assert ("chance for synthetic in synthetic" in faithfulness.failures(results, "difference")) == fails


def test_nan_is_no_success():
    results = passing()
    results["randomisation"]["difference"]["all"] = [float("nan")] * 3
    results["curves"]["difference"]["insertion"]["gain"]["random"] = [float("nan")] * 3
    assert "insertion against random" in faithfulness.trust(results, "difference")
    assert "needing the trained weights" in faithfulness.trust(results, "difference")
