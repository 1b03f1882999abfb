"""detector/evaluation/metrics.py: measures by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detector.evaluation.metrics import (
    at_threshold,
    auroc_interval,
    by_source,
    calibration_error,
    chance_map,
    false_alarms,
    mean_ap,
    measures,
    reliability,
    source_rows,
    true_positive_rate,
)


def test_calibration_error_by_hand():
    # two bins hold all: at 0.1 the rate is 0.5 (gap 0.4), at 0.9 it is 1 (gap 0.1); half of the images each
    labels, probability = np.array([0, 1, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9])
    assert calibration_error(labels, probability) == pytest.approx(0.25)
    assert calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0


def test_true_positive_rate_by_hand():
    labels = np.array([0] * 10 + [1] * 4)
    scores = np.array([*range(10), 8.5, 9.5, 3.5, 20])
    assert true_positive_rate(labels, scores, 0.0) == 0.5  # above 9: two of four
    assert true_positive_rate(labels, scores, 0.1) == 0.75  # above 8: three of four


def test_interval_holds_the_auroc_and_narrows_with_more_images():
    generator = np.random.default_rng(0)
    widths = []
    for count in (60, 2000):
        labels = np.arange(count) % 2
        scores = generator.normal(labels, 1)
        low, high = auroc_interval(labels, scores)
        assert low < roc_auc_score(labels, scores) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_perfect_and_blind_scores():
    labels = np.arange(100) % 2
    perfect = measures(labels, np.where(labels == 1, 5.0, -5.0))
    assert all(perfect[m] == 1 for m in ("auroc", "ap", "balanced_accuracy", "accuracy", "f1", "tpr_at_1_fpr"))
    blind = measures(labels, np.zeros(100))
    assert blind["auroc"] == 0.5 and blind["brier"] == 0.25 and blind["tpr_at_1_fpr"] == 0


def test_sources_with_their_own_reals_use_only_those():
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    sources = np.array(["gan"] * 4 + ["camera", "camera", "flux", "flux"])
    logits = np.array([-1, -1, 1, 1, 3, 3, 2, 2.0])
    found = by_source(labels, sources, logits)
    assert found["gan"]["auroc"] == 1 and found["gan"]["images"] == [2, 2]
    assert found["flux"]["images"] == [4, 2] and found["flux"]["auroc"] == 0.5
    assert false_alarms(labels, sources, logits)["camera"] == {"images": 2, "false_positive_rate": 1.0}


def test_accuracy_and_f1_at_the_frozen_threshold_by_hand():
    # called synthetic: two of three synthetic, one of two real
    found = measures(np.array([1, 1, 1, 0, 0]), np.array([2.0, 0.1, -1.0, 0.5, -3.0]))
    assert found["accuracy"] == pytest.approx(3 / 5) and found["f1"] == pytest.approx(2 * 2 / (3 + 3))
    # nothing called synthetic: no precision, and an F1 of 0 rather than a division by zero
    assert measures(np.array([0, 1]), np.array([-2.0, -1.0]))["f1"] == 0


def test_source_rows_take_own_reals_else_all():
    labels, sources = np.array([0, 1, 0, 1]), np.array(["gan", "gan", "camera", "flux"])
    assert {name: list(rows) for name, rows in source_rows(labels, sources).items()} == {
        "flux": [True, False, True, True],
        "gan": [True, True, False, False],
    }


def test_mean_ap_weighs_sources_alike():
    # a lies above all reals (AP 1); every b below both reals (AP of three positives ranked 3, 4, 5)
    labels, sources = np.array([0, 0, 1, 1, 1, 1]), np.array(["camera", "camera", "a", "b", "b", "b"])
    expected = (1 + np.mean([1 / 3, 2 / 4, 3 / 5])) / 2
    assert mean_ap(labels, sources, np.array([1.0, 2, 9, -1, -2, -3])) == pytest.approx(expected)


def test_chance_is_what_shuffled_scores_reach():
    # one source has 20 images against 180 real ones (0.1), the other 60 (0.25)
    labels = np.repeat([0, 1], [180, 80])
    sources = np.repeat(["camera", "a", "b"], [180, 20, 60])
    assert chance_map(labels, sources) == pytest.approx((0.1 + 0.25) / 2)
    generator = np.random.default_rng(0)
    reached = [mean_ap(labels, sources, generator.random(260)) for _ in range(200)]
    assert np.mean(reached) == pytest.approx(chance_map(labels, sources), abs=0.03)


def test_rates_at_a_threshold_by_hand():
    found = at_threshold(np.array([0, 0, 1, 1]), np.array([0.0, 2.0, 1.0, 3.0]), 1.0)  # a logit on the threshold is not above it
    assert found == {"threshold": 1.0, "tpr": 0.5, "fpr": 0.5}


def test_reliability_refers_to_even_odds():
    generator = np.random.default_rng(0)
    labels = (np.arange(8000) % 4 == 0).astype(int)  # one synthetic image to three real ones
    logits = 2 * generator.normal(2 * labels - 1, 1.0)  # the log-odds at even odds
    diagram, loud = reliability(labels, logits), reliability(labels, 3 * logits)
    assert len(diagram["bins"]) == 10 and sum(row["images"] for row in diagram["bins"]) == 8000
    assert diagram["ece"] < 0.03 < 0.08 < loud["ece"]
    assert all(abs(row["probability"] - row["synthetic"]) < 0.08 for row in diagram["bins"])
