"""detector/verdict/fusion.py: fusion, calibration and the band, on data whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from detector.logistic import fit_logistic, fit_nonnegative_logistic
from detector.verdict.fusion import Fusion, conformal_band, cross_fitted


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
    calibrated = np.random.default_rng(0).normal(size=(60, 150))  # pure noise, which only a fold that saw the image could fit
    noise = np.repeat(calibrated, 2, axis=0)
    truth = np.repeat(np.arange(60) % 2, 2)
    held_out, parted = (cross_fitted(noise, truth, sources) for sources in (np.arange(120) // 2, np.arange(120)))
    assert abs(np.mean((held_out > 0) == truth) - 0.5) < 0.25 < np.mean((parted > 0) == truth) - 0.5


def test_band_by_hand():
    # nine real logits 0…8: ceil(10·0.9) = 9th smallest = 8; nine synthetic 4…12: floor(10·0.1) = 1st = 4
    logits = np.concatenate([np.arange(9.0), np.arange(4.0, 13.0)])
    assert conformal_band(logits, np.repeat([0, 1], 9), np.arange(18), 0.1) == (4.0, 8.0)
    apart = np.concatenate([np.arange(9.0), np.arange(20.0, 29.0)])
    assert conformal_band(apart, np.repeat([0, 1], 9), np.arange(18), 0.1) == (14.0, 14.0)  # well apart: no band
    assert conformal_band(np.arange(4.0), np.array([0, 0, 1, 1]), np.arange(4), 0.1) == (-np.inf, np.inf)  # too few to promise anything


def test_any_subset_of_methods_gives_a_verdict():
    logits, labels = drawn()
    fusion = Fusion.fit(logits, labels)
    alone = fusion.restrict(("loud",))
    assert alone.methods == ("loud",) and alone.decide({"loud": 30.0}).label == "synthetic"
    np.testing.assert_allclose(alone.weights, Fusion.fit({"loud": logits["loud"]}, labels).weights)
    again = Fusion.from_tensors(list(fusion.methods), fusion.tensors())
    assert again.band == fusion.band and again.decide({n: 0.1 for n in logits}) == fusion.decide({n: 0.1 for n in logits})


def test_each_source_has_the_same_say_in_the_band():
    # real: source 0 has a hundred images at 0, sources 1 to 18 one each at 1 … 18; 0.9 of 20 equal masses is that of 18 sources
    logits, labels = np.r_[np.zeros(100), np.arange(1.0, 19.0), np.arange(50.0, 69.0)], np.repeat([0, 1], [118, 19])
    sources = np.r_[np.zeros(100), np.arange(1, 19), np.arange(19, 38)].astype(int)
    # the middle of the quantiles 17 and 50 + 1: well apart
    assert conformal_band(logits, labels, sources, 0.1) == ((17 + 51) / 2,) * 2
    assert conformal_band(np.where(labels == 1, logits - 50, logits), labels, sources, 0.1) == (1.0, 17.0)
    eight = sources % 8 + 8 * labels  # a mass of one source in nine is beyond all logits
    assert conformal_band(logits, labels, eight, 0.1) == (-np.inf, np.inf)


def sourced(seed: int, sources: int = 40, each: int = 30):
    """A method that has an offset of its own in every source: labels, sources, and its logits. Images of one source err together."""
    generator = np.random.default_rng(seed)
    source = np.repeat(np.arange(sources), each)
    labels = source % 2
    offset = generator.normal(0, 1.5, sources)[source]
    return {"one": 2.0 * labels - 1 + offset + generator.normal(0, 0.5, len(labels))}, labels, source


def test_the_band_keeps_its_promise_on_new_sources_where_one_of_images_does_not():
    wrong: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(30):
        logits, labels, sources = sourced(seed, sources=24)
        fresh, truth, _ = sourced(1000 + seed, sources=200)
        for grouped in wrong:
            fusion = Fusion.fit(logits, labels, sources=sources if grouped else None)
            fused = fusion.fuse(fresh)
            wrong[grouped].append(float(np.mean(np.where(truth == 0, fused > fusion.band[1], fused < fusion.band[0]))))
    assert np.mean(wrong[True]) <= 0.1 < np.mean(wrong[False])


def test_sources_travel_with_the_verdict_and_serve_any_subset():
    logits, labels, sources = sourced(3)
    logits["noise"] = np.random.default_rng(0).normal(size=len(labels))
    names = np.array([f"source {number}" for number in sources])
    fusion = Fusion.fit(logits, labels, sources=names)
    tensors = fusion.tensors()
    assert tensors["logits"].dtype == np.float32 and {n: np.shape(t)[1:] for n, t in tensors.items()}["sources"] == ()
    again = Fusion.from_tensors(("one", "noise"), tensors).restrict(("one",))
    alone = Fusion.fit({"one": logits["one"]}, labels, sources=names)
    assert again.band == pytest.approx(alone.band, abs=1e-4)
    without = Fusion.from_tensors(("one", "noise"), {name: tensor for name, tensor in tensors.items() if name != "sources"})
    assert len(np.unique(without.sources)) == len(labels)
