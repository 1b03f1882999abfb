"""detector/evaluation/weights.py: what the verdict rests on."""

import numpy as np
import pytest

from detector.evaluation.tables import text_of_mark, weights_report, write_figures
from detector.evaluation.weights import fusion_weights
from detector.verdict.fusion import Fusion


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    sources = np.char.add(np.where(labels == 1, "made", "photo").astype(str), (np.arange(400) % 8).astype(str))
    logits = {"residual": generator.normal(2 * labels - 1, 1.0), "sdd": generator.normal(0, 1, 400)}
    return Fusion.fit(logits, labels, sources=sources)


def test_a_method_of_noise_has_no_share_and_the_shares_sum_to_one(fusion):
    weights = fusion_weights(fusion, draws=30)
    assert weights["residual"]["share"] > 0.95 and weights["sdd"]["share"] < 0.05
    assert sum(figures["share"] for figures in weights.values()) == pytest.approx(1)
    assert weights["sdd"]["reads_clip"] and not weights["residual"]["reads_clip"]


def test_the_interval_tells_noise_from_a_method_that_counts_and_is_reproducible(fusion):
    weights = fusion_weights(fusion, draws=30)
    assert weights["sdd"]["share_95"][0] < 0.01 and weights["residual"]["share_95"][0] > 0.9
    assert weights == fusion_weights(fusion, draws=30)


def test_redrawn_sources_of_a_class_are_never_absent(fusion):
    assert all(np.isfinite(fusion.redrawn(np.random.default_rng(seed)).weights).all() for seed in range(10))


def test_the_report_stands_between_its_marks(fusion, tmp_path):
    weights, card = fusion_weights(fusion, draws=5), tmp_path / "card.md"
    card.write_text("<!-- weights -->\nold\n<!-- end weights -->\n<!-- audit -->\nstays\n<!-- end audit -->\n")
    write_figures(card, {"weights": weights})
    assert weights_report(weights) == text_of_mark("weights", weights) and weights_report(weights) in card.read_text()
    assert "old" not in card.read_text() and "stays" in card.read_text()
    assert weights_report(weights).index("| residual |") < weights_report(weights).index("| sdd |")
