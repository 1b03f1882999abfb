"""detector/evaluation/evaluate.py: a suite on a split, the verdict's labels and thresholds from validation images."""

import numpy as np
import pytest
import torch

from detector.clip.backbone import ClipFeatures
from detector.data.datasets import DataError
from detector.evaluation.evaluate import all_logits, evaluate_table, evaluation_splits, frozen_thresholds
from detector.evaluation.metrics import decisions
from detector.evaluation.tables import method_report, report
from detector.methods.base import Evidence, Score
from detector.methods.table import Table
from detector.suite import Suite
from detector.verdict.files import FusedVerdict
from detector.verdict.fusion import Fusion


def labelled_fusion(labels=(0, 0, 0, 0, 1, 1, 1, 1)) -> Fusion:
    """A fusion of one method that passes its logit through, with a band from −1 to 1."""
    logits = np.array([[-3.0, -2.0, -1.0, 0.5, 0.0, 1.0, 2.0, 3.0]]).T
    return Fusion(
        ("probe",), np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), (-1.0, 1.0), logits, np.array(labels), 1, np.arange(len(labels))
    )


class Probe:
    """A head whose logit is the first pooled number."""

    @staticmethod
    def score(evidence):
        return Score(evidence.clip.pooled[:, 0].numpy())


def probe_suite() -> Suite:
    return Suite(None, {"probe": Probe()}, {}, FusedVerdict(labelled_fusion()))


def test_decisions_by_hand():
    # real: labelled real, none, synthetic (wrong), real; synthetic: real (wrong), none, synthetic, synthetic
    labels, fused = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([-2, 0.0, 4, -5, -3, 0.5, 2, 9])
    assert decisions(probe_suite().fusion.band, labels, fused) == {
        "coverage": 6 / 8,
        "error_of_labelled": 2 / 6,
        "real_called_synthetic": 1 / 4,
        "synthetic_called_real": 1 / 4,
    }


def test_a_verdict_that_labels_nothing_is_not_wrong():
    found = decisions(probe_suite().fusion.band, np.array([0, 1]), np.zeros(2))
    assert found["coverage"] == 0 and found["error_of_labelled"] == 0


def test_thresholds_come_from_the_real_validation_images():
    # the real ones lie at −3, −2, −1, 0.5: above 0.5 there is none (at most 5 %), above −1 one in four
    assert frozen_thresholds(probe_suite(), 0.05) == {"probe": 0.5, "verdict": 0.5}
    assert frozen_thresholds(probe_suite(), 0.30)["verdict"] == -1.0
    assert frozen_thresholds(Suite(None, {}, {}, None), 0.05) == {}


def test_a_split_s_measures_hold_frozen_rates_coverage_and_error():
    pooled = torch.tensor([[-2.0], [0.0], [2.0], [-2.0], [0.0], [2.0]])
    table = Table(
        Evidence(ClipFeatures(pooled, pooled, None), np.zeros((6, 15)), np.zeros((6, 1))),
        np.array([0, 0, 0, 1, 1, 1]),
        np.array(["camera"] * 3 + ["gan"] * 3),
        np.zeros(6),
    )
    suite = probe_suite()
    found = evaluate_table(suite, table, all_logits(suite, table.evidence))
    assert found["probe"]["overall"]["frozen_at_5_fpr"] == {"threshold": 0.5, "tpr": 1 / 3, "fpr": 1 / 3}
    assert found["verdict"]["overall"]["coverage"] == 4 / 6 and found["verdict"]["overall"]["error_of_labelled"] == 0.5
    text = report({"test": found})
    assert "| test | probe | 0.333 (0.333) | 0.333 (0.333) |" in text  # the thresholds for 1 % and for 5 %
    assert "| test | 66.7% | 50.0% | 33.3% | 33.3% |" in text
    assert "| test | gan | 3 | 0.500" in method_report({"test": found}, "verdict")


def test_splits_to_measure(tmp_path):
    for split in ("train", "test"):
        for name in ("real", "synthetic"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.png").touch()
    assert list(evaluation_splits([tmp_path])) == ["test"] and list(evaluation_splits([tmp_path], ["train"])) == ["train"]
    with pytest.raises(DataError, match="there are test, train"):
        evaluation_splits([tmp_path], ["val"])
