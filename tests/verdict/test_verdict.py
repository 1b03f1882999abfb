"""detector/verdict/fusion.py: fusion, calibration and the band, on data whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from detector.logistic import fit_logistic, fit_nonnegative_logistic
from detector.verdict.fusion import Fusion, _out_of_fold, conformal_band


def drawn(count: int = 4000, seed: int = 0):
    """Labels, and the raw logits of a good, an overconfident and a useless method."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    good = generator.normal(2 * labels - 1, 1.0, count)  # its true log-odds are 2·good
    return {"good": good, "loud": 10 * generator.normal(labels - 0.5, 1, count), "noise": generator.normal(size=count)}, labels


def test_logistic_regression_recovers_known_log_odds():
    logits, labels = drawn(20_000)
    slope, offset = fit_logistic(logits["good"][:, None], labels, 1e-3)
    assert slope == pytest.approx(2, rel=0.05) and offset == pytest.approx(0, abs=0.06)


def gradient(weights, features, labels, penalty):
    """Of the sum of the log losses, both classes weighing the same, plus half the penalty on the squared weights; by hand."""
    errors = expit(features @ weights[:-1] + weights[-1]) - labels
    errors *= np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    return np.append(features.T @ errors + penalty * weights[:-1], errors.sum())


def test_logistic_regressions_are_where_the_gradient_is_zero():
    logits, labels = drawn(600)
    features = np.column_stack(list(logits.values()))
    labels = labels * (np.arange(600) % 3 > 0)  # uneven classes: both sides must weigh them the same
    np.testing.assert_allclose(gradient(fit_logistic(features, labels, 2.0), features, labels, 2.0), 0, atol=1e-3)
    features[:, 1] *= -1  # speaks against its class: without the bound its weight would be negative
    free, bounded = fit_logistic(features, labels, 2.0), fit_nonnegative_logistic(features, labels, 2.0)
    assert free[1] < 0 and bounded[1] == 0 and min(bounded[:-1]) >= 0
    slope = gradient(bounded, features, labels, 2.0)
    np.testing.assert_allclose(slope[(bounded > 0)], 0, atol=1e-3)
    assert slope[1] > 0  # a smaller weight would be better still


def test_contributions_add_up_and_probability_is_calibrated():
    logits, labels = drawn()
    fusion = Fusion.fit(logits, labels)
    fresh, truth = drawn(seed=1)
    fused = fusion.fuse(fresh)
    one = fusion.decide({name: float(values[3]) for name, values in fresh.items()})
    assert sum(one.contributions.values()) + one.bias == pytest.approx(one.logit) == pytest.approx(fused[3])
    assert one.probability == pytest.approx(1 / (1 + np.exp(-one.logit)))
    confident = 1 / (1 + np.exp(-fused)) > 0.9
    assert truth[confident].mean() > 0.92
    assert 0 <= fusion.weights[2] < 0.1  # the useless method has no say
    flipped = Fusion.fit({**logits, "noise": -logits["good"] + 0.1 * logits["noise"]}, labels)
    assert min(flipped.weights[:-1]) >= 0


def test_the_band_keeps_its_promise_on_new_images():
    logits, labels = drawn(8000)
    fusion = Fusion.fit(logits, labels, error=0.1)
    fresh, truth = drawn(8000, seed=1)
    decided = np.array([fusion.label(value) for value in fusion.fuse(fresh)])
    assert (decided[truth == 0] == "synthetic").mean() == pytest.approx(0.1, abs=0.02)
    assert (decided[truth == 1] == "real").mean() == pytest.approx(0.1, abs=0.02)


def test_views_of_one_image_stay_in_one_fold():
    """Copied rows tell nothing new, so that held-out logits, and with them the band, must not move."""
    logits, labels = drawn(400)
    twice = {name: np.repeat(values, 2) for name, values in logits.items()}
    once, doubled = Fusion.fit(logits, labels), Fusion.fit(twice, np.repeat(labels, 2), views=2)
    assert doubled.band == pytest.approx(once.band, abs=0.15)
    assert doubled.originals.sum() == 400 and (doubled.logits[doubled.originals] == once.logits).all()
    calibrated = np.random.default_rng(0).normal(size=(60, 300))  # pure noise, which only a fold that saw the image could fit
    noise = np.repeat(calibrated, 2, axis=0)
    truth = np.repeat(np.arange(60) % 2, 2)
    held_out = _out_of_fold(noise, truth, views=2)
    assert abs(np.mean((held_out > 0) == truth) - 0.5) < 0.25 < np.mean((_out_of_fold(noise, truth, views=1) > 0) == truth) - 0.5


def test_band_by_hand():
    # nine real logits 0…8: ceil(10·0.9) = 9th smallest = 8; nine synthetic 4…12: floor(10·0.1) = 1st = 4
    logits = np.concatenate([np.arange(9.0), np.arange(4.0, 13.0)])
    assert conformal_band(logits, np.repeat([0, 1], 9), 0.1) == (4.0, 8.0)
    apart = np.concatenate([np.arange(9.0), np.arange(20.0, 29.0)])
    assert conformal_band(apart, np.repeat([0, 1], 9), 0.1) == (14.0, 14.0)  # well apart: no band
    assert conformal_band(np.arange(4.0), np.array([0, 0, 1, 1]), 0.1) == (-np.inf, np.inf)  # too few to promise anything


def test_any_subset_of_methods_gives_a_verdict():
    logits, labels = drawn()
    fusion = Fusion.fit(logits, labels)
    alone = fusion.restrict(("loud",))
    assert alone.methods == ("loud",) and alone.decide({"loud": 30.0}).label == "synthetic"
    np.testing.assert_allclose(alone.weights, Fusion.fit({"loud": logits["loud"]}, labels).weights)
    again = Fusion.from_tensors(list(fusion.methods), fusion.tensors())
    assert again.band == fusion.band and again.decide({n: 0.1 for n in logits}) == fusion.decide({n: 0.1 for n in logits})
