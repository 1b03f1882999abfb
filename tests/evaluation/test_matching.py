"""Overlap weights and AUROCs on weighted images."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detector.data.sources import random_folds
from detector.evaluation.fact_models import boosting_scores, out_of_fold
from detector.evaluation.matching import Resampling, auroc, effective_sizes, matched_weights, weighted_auroc


def planted(images=800, seed=0):
    """Facts of which the first differs between the classes, labels, and a logit of its own signal and of that fact."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    facts = generator.normal(size=(images, 4))
    facts[:, 0] += 1.4 * labels
    signal = 1.2 * labels + generator.normal(size=images)
    return facts, labels, signal


def test_weights_balance_a_planted_confounder():
    facts, labels, _ = planted()
    weights = matched_weights(facts, labels)
    assert roc_auc_score(labels, facts[:, 0]) > 0.8
    assert auroc(facts[:, 0], labels, weights) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(np.bincount(labels, weights), 1)
    for column in facts.T:  # theorem 3 of Li, Morgan and Zaslavsky: equal weighted means
        assert np.average(column[labels == 1], weights=weights[labels == 1]) == pytest.approx(
            np.average(column[labels == 0], weights=weights[labels == 0]), abs=0.01
        )
    assert all(100 < size < 400 for size in effective_sizes(labels, weights))


def test_weights_balance_a_fact_that_differs_in_spread_only():
    generator = np.random.default_rng(0)
    labels = np.arange(800) % 2
    facts = generator.normal(size=(800, 3))
    facts[:, 0] *= np.where(labels == 1, 0.3, 1.0)  # the means are equal
    weights, folds = matched_weights(facts, labels), random_folds(labels, seed=1)
    scores = out_of_fold(facts, labels, folds, boosting_scores)
    assert auroc(scores, labels, np.ones(800)) > 0.75
    assert auroc(scores, labels, weights) == pytest.approx(0.5, abs=0.08)


def test_a_head_that_reads_the_confounder_falls_to_chance_and_one_that_does_not_stays():
    facts, labels, signal = planted()
    weights = matched_weights(facts, labels)
    shortcut, honest = (weighted_auroc(logits, labels, weights) for logits in (3 * facts[:, 0] + 1, signal))
    assert shortcut["auroc_95"][0] < 0.5 < shortcut["auroc_95"][1]
    assert honest["auroc"] == pytest.approx(roc_auc_score(labels, signal), abs=0.05) and honest["auroc_95"][0] > 0.7


def test_facts_that_an_image_lacks_and_constant_facts_are_no_obstacle():
    facts, labels, _ = planted()
    facts[::3, 1], facts[:, 2], facts[:, 3] = np.nan, np.nan, 7.0
    weights = matched_weights(facts, labels)
    assert np.isfinite(weights).all() and auroc(facts[:, 0], labels, weights) == pytest.approx(0.5, abs=0.05)


def test_classes_without_overlap_leave_hardly_an_image():
    labels = np.arange(200) % 2
    facts = (labels * 1000.0 + np.random.default_rng(0).normal(size=200))[:, None]
    weights = matched_weights(facts, labels)
    assert np.isfinite(weights).all() and np.bincount(labels, weights) == pytest.approx([1, 1])


def test_weighted_auroc_agrees_with_scikit_learn_also_where_scores_are_equal():
    generator = np.random.default_rng(0)
    labels, scores, weights = generator.integers(0, 2, 300), generator.integers(0, 9, 300).astype(float), generator.uniform(size=300)
    scores += labels
    result = weighted_auroc(scores, labels, weights)
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert weighted_auroc(scores, labels)["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    low, high = result["auroc_95"]
    assert 0.01 < high - low < 0.2 and low < result["auroc"] < high
    assert result == weighted_auroc(scores, labels, weights)  # the draws are fixed


def test_scores_of_different_folds_are_not_compared():
    labels, folds = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    scores = np.array([0.0, 1.0, 10.0, 11.0])  # right within each fold
    assert weighted_auroc(scores, labels)["auroc"] == 0.75
    assert weighted_auroc(scores, labels, resampling=Resampling(folds))["auroc"] == 1


def test_drawing_whole_sources_widens_the_interval_where_sources_differ():
    generator = np.random.default_rng(0)
    sources = np.repeat(np.arange(10), 40)
    labels = sources % 2
    scores = labels + generator.normal(size=10)[sources] + 0.1 * generator.normal(size=400)
    widths = [np.ptp(weighted_auroc(scores, labels, resampling=Resampling(units=units))["auroc_95"]) for units in (None, sources)]
    assert widths[1] > 2 * widths[0]
