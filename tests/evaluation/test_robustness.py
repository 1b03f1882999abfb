"""detector/evaluation/robustness.py: the draw, the levels and the tables; that the committed figures are fresh is in test_docs.py."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.data.datasets import DataError, Example
from detector.data.perturbations import AS_IS, CURVES, blur, jpeg
from detector.evaluation.robustness import robustness, sample, scores
from detector.evaluation.tables import method_robustness, robustness_report, robustness_summary, worst_sentences
from detector.suite import Suite
from detector.verdict.files import FusedVerdict

LEVELS = ["as it is", *(variant.name for levels in CURVES.values() for variant in levels)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two smooth "real" and three noisy "synthetic" pictures."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, spread, count in (("real", 3, 2), ("synthetic", 60, 3)):
        (folder / "test" / name).mkdir(parents=True)
        for i in range(count):
            image = np.clip(generator.normal(120, spread, (70, 90, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "test" / name / f"{i}.png"), image)
    return folder


@pytest.fixture(scope="module")
def small(suite):
    """Two methods that read pixels, and a verdict over them: quick."""
    heads = {name: suite.heads[name] for name in ("physical", "linear_probe")}
    return Suite(suite.backbone, heads, {}, FusedVerdict(suite.fusion.restrict(tuple(heads))))


@pytest.fixture(scope="module")
def results(small, data):
    return robustness(small, [data], images=2)


def test_the_draw_is_fixed_balanced_and_without_repeats():
    examples = [Example(Path(f"{label}-{i}"), label, "s") for label in (0, 1) for i in range(30)]
    first = sample(examples, 10, seed=0)
    assert first == sample(examples, 10, seed=0) != sample(examples, 10, seed=1)
    assert [sum(e.label == label for e in first) for label in (0, 1)] == [10, 10] and len({e.path for e in first}) == 20
    assert len(sample(examples, 99, seed=0)) == 60
    assert sample(examples, 5, seed=0) == [e for e in first if e in sample(examples, 5, seed=0)]  # fewer are a part of more


def test_every_level_measures_every_method(results, small):
    assert results["images"] == {"test": [2, 2]} and results["seed"] == 0
    assert list(results["splits"]["test"]) == LEVELS
    for found in results["splits"]["test"].values():
        assert set(found) == {"verdict", *small.heads}
        for measured in found.values():
            assert 0 <= measured["auroc_95"][0] <= measured["auroc"] <= measured["auroc_95"][1] <= 1
        assert 0 <= found["verdict"]["coverage"] <= 1


def test_scores_are_those_of_the_changed_pixels(small, data):
    examples = [Example(path, 0, "s") for path in sorted((data / "test" / "synthetic").iterdir())]
    pixels = [cv2.cvtColor(cv2.imread(str(example.path)), cv2.COLOR_BGR2RGB) for example in examples]
    for variant in (AS_IS, blur(2), jpeg(40)):
        expected = small.logits(small.evidence([variant.apply(image) for image in pixels]))
        found = scores(small, examples, variant)
        assert found["physical"] == pytest.approx(expected["physical"], abs=1e-4)
        assert found["verdict"] == pytest.approx(small.fusion.fuse(expected), abs=1e-4)


def test_tables_hold_the_measures(results):
    level = results["splits"]["test"]["JPEG 40"]
    text, card, short = robustness_report(results), method_robustness(results, "verdict"), robustness_summary(results)
    assert "| test | verdict | physical | linear_probe |" in text and "2 real and 2 synthetic images of test" in text
    assert f"| JPEG 40 | {level['verdict']['auroc']:.3f} (" in text and f"{level['physical']['auroc']:.3f}" in text
    assert len([line for line in card.splitlines() if line.startswith("| ")]) == 2 * (len(LEVELS) + 1)
    assert "| image | test, AUROC (95 %) |" in card and "physical" not in card and "What the verdict decides" in card
    assert short == f"A fixed random draw (seed 0): 2 real and 2 synthetic images of test. {worst_sentences(results)}"


def test_the_worst_changes_are_named():
    def at(auroc, false, missed):
        return {"verdict": {"auroc": auroc, "real_called_synthetic": false, "synthetic_called_real": missed}}

    levels = {"as it is": at(0.9, 0.1, 0.05), "JPEG 50": at(0.7, 0.0, 0.6), "blur 2 px": at(0.8, 0.75, 0.0)}
    assert worst_sentences({"splits": {"test": levels}}) == (
        'On test the verdict\'s AUROC is 0.900 as it is and lowest for "JPEG 50" (0.700); it calls real images synthetic most often '
        'for "blur 2 px" (75%, as it is 10%), synthetic ones real for "JPEG 50" (60%, as it is 5%).'
    )


def test_without_a_verdict_the_methods_are_still_measured(small, data):
    heads = {"physical": small.heads["physical"]}
    found = robustness(Suite(small.backbone, heads, {}, None), [data], images=2)
    assert set(found["splits"]["test"]["as it is"]) == {"physical"}
    assert "What the verdict decides" not in method_robustness(found, "physical") and "verdict" not in robustness_summary(found)
    assert method_robustness(found, "verdict") == "Not measured."


def test_an_image_that_no_format_holds_is_refused_in_a_sentence(small, tmp_path):
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((2, 70_000, 3), np.uint8))
    with pytest.raises(DataError, match="too long to be saved as JPEG 40"):
        scores(small, [Example(tmp_path / "long.png", 0, "s")], jpeg(40))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="unusable image"):
        scores(small, [Example(tmp_path / "broken.png", 0, "s")], AS_IS)
