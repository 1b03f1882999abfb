"""Heads of small sets: calibration on cross-validated logits."""

import numpy as np
import pytest

from detector.training.small_sets import FLAT, fusion_of, platt_scaling

LABELS = np.repeat([0, 1], 30)


def test_a_head_that_is_no_better_than_chance_is_not_turned_around():
    against = np.where(LABELS == 1, -1.0, 1.0) + np.tile(np.linspace(-2, 2, 30), 2)
    assert platt_scaling(against, LABELS) == (FLAT, 0.0)
    fusion = fusion_of("linear_probe", against, LABELS)
    verdicts = [fusion.decide({"linear_probe": logit}) for logit in (-3.0, 3.0)]
    assert verdicts[0].logit < verdicts[1].logit and {verdict.label for verdict in verdicts} == {"inconclusive"}


def test_a_head_that_tells_the_classes_apart_is_calibrated():
    logits = np.where(LABELS == 1, 2.0, -2.0) + np.random.default_rng(0).normal(0, 2, 60)
    slope, offset = platt_scaling(logits, LABELS)
    assert slope > 0.3 and abs(offset) < 1
    fusion = fusion_of("linear_probe", logits, LABELS)
    assert fusion.decide({"linear_probe": 9.0}).label == "synthetic" and fusion.decide({"linear_probe": -9.0}).label == "real"
    assert fusion.decide({"linear_probe": 9.0}).probability == pytest.approx(1, abs=0.1)
