"""interpret/attribution/bench.py: measures by hand, a right map and one that only sees the pasting, and controls in their best reading."""

from dataclasses import replace

import numpy as np
import pytest

from interpret.attribution import bench, splices


def textured(seed: int, shape=(128, 160), strength: float = 20) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, (*shape, 3))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def quarter() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[:32, :32] = True
    return mask


# --- one map on one splice -----------------------------------------------------------------------------------------


def test_localisation_by_hand():
    mask = quarter()
    assert bench.localisation(mask.astype(float), mask) == {"pointing": 1.0, "auroc": 1.0, "ap": 1.0}
    wrong = bench.localisation(1 - 2.0 * mask, mask)
    assert wrong["pointing"] == wrong["auroc"] == 0 and wrong["ap"] == pytest.approx(0.25)
    level = bench.localisation(np.zeros((64, 64)), mask)
    assert level == {"pointing": 0.25, "auroc": 0.5, "ap": 0.25}  # a flat map: chance, whatever the area
    half = np.zeros((64, 64))
    half[:32] = 1  # twice the mask: all of it and a third of the rest
    found = bench.localisation(half, mask)
    assert found["auroc"] == pytest.approx(2 / 3 + 1 / 3 / 2) and found["pointing"] == found["ap"] == 0.5


def test_average_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    values = np.random.default_rng(0).integers(0, 40, (64, 64)).astype(float)  # with ties
    blocks, inside = bench._blocks(values), bench._blocks(quarter().astype(float)) > 0.5
    expected = average_precision_score(inside.ravel(), blocks.ravel())
    assert bench.localisation(values, quarter())["ap"] == pytest.approx(expected, abs=1e-12)


def test_localisation_leaves_out_what_was_not_read():
    values = quarter().astype(np.float32)
    values[:, 48:] = np.nan
    assert bench.localisation(values, quarter())["auroc"] == 1.0
    values[:32, :32] = np.nan
    assert all(np.isnan(number) for number in bench.localisation(values, quarter()).values())


def test_interval_by_hand():
    assert bench.interval([2.0] * 5) == [2.0, 2.0, 2.0]
    mean, low, high = bench.interval([0.0, 1.0, float("nan")] * 50)
    assert mean == 0.5 and 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert np.isnan(bench.interval([float("nan")])).all()


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = [low < 0.3 < high for _, low, high in (bench.interval(generator.normal(0.3, 1, 60), i, 300) for i in range(200))]
    assert 0.88 < np.mean(covered) < 0.99


# --- all splices ---------------------------------------------------------------------------------------------------


def draws(count: int) -> list[list[splices.Splice]]:
    """The donors are smoother than the hosts in one kind, rougher in the other, before the pasting makes them alike."""
    sources = {"synthetic in real": "maker", "real in synthetic": "maker", "real in real": "", "synthetic in synthetic": "other maker"}
    return [
        [
            replace(splices.make_splice(textured(seed), textured(seed + 50 * (1 + i)), seed, kind), source=sources[kind])
            for i, kind in enumerate(splices.KINDS)
        ]
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def measured():
    made = draws(8)
    truth = {splice.pixels.tobytes(): (index, splice) for index, draw in enumerate(made) for splice in draw}

    def maps(pixels, layers):
        index, splice = truth[pixels.tobytes()]
        right = splice.sign * splice.mask if splice.kind in bench.DIRECTED else np.zeros(splice.mask.shape)
        shifted = right + np.random.default_rng(index).normal(0, 0.1, right.shape) + 100 * index
        every = {"right": right.astype(float), "pasting": splice.mask.astype(float), "shifted": shifted}
        return {layer: every[layer] for layer in layers}

    return bench.bench(maps, made, bench.BenchPlan(["right", "pasting"], ["shifted"], subset=3, seed=1))


def test_the_sign_of_a_map_counts_and_a_map_of_the_pasting_gains_nothing(measured):
    right, pasting = measured["maps"]["right"]["kinds"], measured["maps"]["pasting"]["kinds"]
    assert right["synthetic in real"]["auroc"][0] == right["real in synthetic"]["auroc"][0] == pytest.approx(1, abs=0.02)
    assert right["real in real"]["auroc"] == right["synthetic in synthetic"]["auroc"] == [0.5] * 3
    assert pasting["real in synthetic"]["auroc"][0] == pytest.approx(0, abs=0.02)  # warm where it should be cold
    assert pasting["real in real"]["auroc"][0] > 0.9  # which the controls betray


def test_the_gain_is_over_the_best_control_on_the_same_splices(measured):
    controls = measured["baselines"]
    assert set(controls) == {"random", "centre", "edges", "local variance", "JPEG ghost", "noise inconsistency"}
    for kind in bench.DIRECTED:
        gain = measured["maps"]["right"]["gain"][kind]
        best = max(controls, key=lambda name: controls[name]["kinds"][kind]["auroc"][0])  # noqa: B023
        assert gain["baseline"] == best
        expected = measured["maps"]["right"]["kinds"][kind]["auroc"][0] - controls[best]["kinds"][kind]["auroc"][0]
        assert gain["auroc"][0] == pytest.approx(expected) and gain["auroc"][1] > 0


def test_a_control_gets_its_best_reading():
    """A map that is high in every synthetic place reads "synthetic", one that is high in whatever was pasted reads "oddity"."""
    numbers = {"auroc": 0.9, "ap": 0.9, "pointing": 1.0}
    worse = {"auroc": 0.1, "ap": 0.1, "pointing": 0.0}
    odd = [bench.Row("x", 0, kind, "", "", numbers, worse) for kind in splices.KINDS]
    assert bench._best_reading(odd)[0] == "oddity"
    signed = [bench.Row("x", 0, k, "", "", *((worse, numbers) if k == "real in synthetic" else (numbers, worse))) for k in splices.KINDS]
    reading, rows = bench._best_reading(signed)
    assert reading == "synthetic" and all(row.numbers is numbers for row in rows)
    opposite = [bench.Row("x", 0, row.kind, "", "", row.negative, row.numbers) for row in signed]
    assert bench._best_reading(opposite)[0] == "real"


def test_costly_maps_are_measured_on_the_first_draws_and_say_so(measured):
    assert measured["draws"] == 8 and measured["maps"]["shifted"]["draws"] == 3 and measured["maps"]["right"]["draws"] == 8


def test_only_what_stands_out_survives_the_level_of_a_picture(measured):
    """The map "shifted" is right within each picture, and its level differs from picture to picture."""
    shifted = measured["maps"]["shifted"]
    assert shifted["kinds"]["synthetic in real"]["auroc"][0] > 0.95
    assert shifted["pooled"]["synthetic in real"]["logits"][0] < 0.85 < 0.95 < shifted["pooled"]["synthetic in real"]["standing out"][0]


def test_groups_hold_every_directed_splice_once(measured):
    right = measured["maps"]["right"]
    assert sum(size["splices"] for size in right["sizes"].values()) == 16
    assert right["sources"]["maker"]["splices"] == 16 and right["sources"]["maker"]["synthetic in real"][0] > 0.95


def test_the_report_is_plain_numbers(measured):
    import json

    json.dumps(measured)
