"""detector/evaluation/evaluate.py: measures by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import ClipFeatures
from detector.data.datasets import DataError
from detector.evaluation.evaluate import (
    at_threshold,
    auroc_interval,
    by_source,
    calibration_error,
    chance_map,
    chosen_splits,
    evaluate_table,
    false_alarms,
    frozen_thresholds,
    mean_ap,
    measures,
    report,
    source_rows,
    true_positive_rate,
    verdict_measures,
    write_between_marks,
)
from detector.methods.base import Evidence, Score
from detector.suite import Suite
from detector.training.train import Table
from detector.verdict.fusion import Fusion


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


def test_tables_go_between_their_marks(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("before\n<!-- evaluation -->\nold\n<!-- end evaluation -->\nafter\n")
    write_between_marks(path, "evaluation", "new")
    assert path.read_text() == "before\n<!-- evaluation -->\nnew\n<!-- end evaluation -->\nafter\n"
    with pytest.raises(ValueError, match="no marks"):
        write_between_marks(path, "other", "x")


def test_accuracy_and_f1_at_the_frozen_threshold_by_hand():
    # called synthetic: two of three synthetic, one of two real
    found = measures(np.array([1, 1, 1, 0, 0]), np.array([2.0, 0.1, -1.0, 0.5, -3.0]))
    assert found["accuracy"] == pytest.approx(3 / 5) and found["f1"] == pytest.approx(2 * 2 / (3 + 3))
    # nothing called synthetic: no precision, and an F1 of 0 rather than a division by zero
    assert measures(np.array([0, 1]), np.array([-2.0, -1.0]))["f1"] == 0


def test_source_rows_take_own_reals_else_all():
    labels, sources = np.array([0, 1, 0, 1]), np.array(["gan", "gan", "camera", "flux"])
    assert {name: list(rows) for name, rows in source_rows(labels, sources).items()} == {
        "flux": [True, False, True, True], "gan": [True, True, False, False]}


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


def found(**changes) -> dict:
    """Measures of one method, as `evaluate` gives them; a change to None takes a measure away."""
    overall = measures(np.arange(20) % 2, np.where(np.arange(20) % 2, 1.0, -1.0)) | {"mean_ap_over_sources": 0.75} | changes
    return {"overall": {name: value for name, value in overall.items() if value is not None}, "sources": {}, "real_sources": {}}


def test_the_papers_measures_stand_in_a_table_of_their_own():
    text = report({"seen": {"probe": found(), "units": found(f1=0.5)}, "unseen": {"probe": found(accuracy=0.25)}})
    assert "| method | seen mAP over sources | seen accuracy | seen F1 | unseen mAP over sources | unseen accuracy | unseen F1 |" in text
    assert "| probe | 0.750 | 1.000 | 1.000 | 0.750 | 0.250 | 1.000 |" in text
    assert "| units | 0.750 | 1.000 | 0.500 | – | – | – |" in text  # a method that one split lacks
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (8, 10) for line in lines)


def test_results_measured_before_accuracy_was_taken_can_still_be_shown():
    text = report({"seen": {"probe": found(accuracy=None, f1=None)}})
    assert "| seen | probe | 1.000" in text and "accuracy and F1" not in text


def labelled_fusion(labels=(0, 0, 0, 0, 1, 1, 1, 1)) -> Fusion:
    """A fusion of one method that passes its logit through, with a band from −1 to 1."""
    logits = np.array([[-3.0, -2.0, -1.0, 0.5, 0.0, 1.0, 2.0, 3.0]]).T
    return Fusion(("probe",), np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), (-1.0, 1.0), logits, np.array(labels))


class Probe:
    """A head whose logit is the first pooled number."""

    @staticmethod
    def score(evidence):
        return Score(evidence.clip.pooled[:, 0].numpy())


def probe_suite() -> Suite:
    return Suite(None, {"probe": Probe()}, {}, labelled_fusion())


def test_verdict_measures_by_hand():
    # real: labelled real, none, synthetic (wrong), real; synthetic: real (wrong), none, synthetic, synthetic
    labels, fused = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([-2, 0.0, 4, -5, -3, 0.5, 2, 9])
    assert verdict_measures(probe_suite(), labels, fused) == {
        "coverage": 6 / 8, "error_of_labelled": 2 / 6, "real_called_synthetic": 1 / 4, "synthetic_called_real": 1 / 4}


def test_a_verdict_that_labels_nothing_is_not_wrong():
    found = verdict_measures(probe_suite(), np.array([0, 1]), np.zeros(2))
    assert found["coverage"] == 0 and found["error_of_labelled"] == 0


def test_thresholds_come_from_the_real_validation_images():
    # the real ones lie at −3, −2, −1, 0.5: above 0.5 there is none (at most 5 %), above −1 one in four
    assert frozen_thresholds(probe_suite(), 0.05) == {"probe": 0.5, "verdict": 0.5}
    assert frozen_thresholds(probe_suite(), 0.30)["verdict"] == -1.0
    assert frozen_thresholds(Suite(None, {}, {}, None), 0.05) == {}


def test_rates_at_a_threshold_by_hand():
    found = at_threshold(np.array([0, 0, 1, 1]), np.array([0.0, 2.0, 1.0, 3.0]), 1.0)  # a logit on the threshold is not above it
    assert found == {"threshold": 1.0, "tpr": 0.5, "fpr": 0.5}


def test_a_split_s_measures_hold_frozen_rates_coverage_and_error():
    pooled = torch.tensor([[-2.0], [0.0], [2.0], [-2.0], [0.0], [2.0]])
    table = Table(Evidence(ClipFeatures(pooled, pooled, None), np.zeros((6, 15)), np.zeros((6, 1))), np.array([0, 0, 0, 1, 1, 1]),
                  np.array(["camera"] * 3 + ["gan"] * 3), np.zeros(6))
    found = evaluate_table(probe_suite(), table)
    assert found["probe"]["overall"]["frozen_at_5_fpr"] == {"threshold": 0.5, "tpr": 1 / 3, "fpr": 1 / 3}
    assert found["verdict"]["overall"]["coverage"] == 4 / 6 and found["verdict"]["overall"]["error_of_labelled"] == 0.5
    text = report({"test": found})
    assert "| test | probe | 0.333 (0.333) | 0.333 (0.333) |" in text  # the thresholds for 1 % and for 5 %
    assert "| test | 66.7% | 50.0% | 33.3% | 33.3% |" in text
    assert "| test | gan | 3 | 0.500" in text


def test_splits_to_measure(tmp_path):
    for split in ("train", "test"):
        for name in ("real", "synthetic"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.png").touch()
    assert list(chosen_splits(tmp_path)) == ["test"] and list(chosen_splits(tmp_path, ["train"])) == ["train"]
    with pytest.raises(DataError, match="there are test, train"):
        chosen_splits(tmp_path, ["val"])
