"""detector/evaluation/tables.py: tables by source, written between marks and never stale."""

import re
from pathlib import Path

import numpy as np
import pytest

from detector.assets import MODELS
from detector.data.images import load_photo
from detector.evaluation.metrics import measures
from detector.evaluation.tables import evaluation_summary, marks_of, method_report, report, sources_table, write_figures, write_sources
from detector.methods.registry import PIXEL_METHODS

HEADS = MODELS / "embedded" / "heads"
CARDS = [MODELS / "embedded" / "README.md", *HEADS.glob("*.md"), *(MODELS / "pixels" / f"{method}.md" for method in PIXEL_METHODS)]
RESULTS = {
    "test": {
        "a": {
            "sources": {"gan": {"images": [10, 4], "auroc": 0.75}},
            "real_sources": {"camera": {"images": 10, "false_positive_rate": 0.2}},
        },
        "b": {
            "sources": {"gan": {"images": [10, 4], "auroc": 0.5}},
            "real_sources": {"camera": {"images": 10, "false_positive_rate": 0.0}},
        },
    }
}


def test_the_table_by_hand():
    lines = sources_table(RESULTS, ["b", "a", "absent"]).splitlines()
    assert "| test | gan | 4 | 0.500 | 0.750 | – |" in lines and "| test | camera | 10 | 0% | 20% | – |" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_every_mark_of_a_card_is_filled_and_the_rest_stays(tmp_path):
    card = tmp_path / "card.md"
    marks = ["sources a", "sources a b"]
    card.write_text("# Card\n" + "".join(f"<!-- {mark} -->\nold\n<!-- end {mark} -->\nwords\n" for mark in marks))
    assert marks_of(card, "sources") == marks
    write_sources(card, RESULTS)
    once = card.read_text()
    assert "old" not in once and once.count("words") == 2 and once.startswith("# Card\n") and "0.750 | 0.500" in once
    write_sources(card, RESULTS)
    assert card.read_text() == once


def test_a_card_without_marks_is_said_so(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("nothing")
    with pytest.raises(ValueError, match="card.md has no marks"):
        marks_of(card, "sources")


def test_marks_of_one_method_and_of_the_summary_are_filled(tmp_path):
    results = {
        "seen": {"verdict": measured() | {"real_sources": {"camera": {"images": 7, "false_positive_rate": 0.25}}}, "probe": measured()}
    }
    for methods in results.values():
        methods["verdict"]["overall"] |= dict.fromkeys(
            ("coverage", "error_of_labelled", "real_called_synthetic", "synthetic_called_real"), 0.5
        )
    card, marks = tmp_path / "card.md", ["evaluation summary", "evaluation verdict", "evaluation absent", "robustness verdict"]
    card.write_text("".join(f"<!-- {mark} -->\nold\n<!-- end {mark} -->\n" for mark in marks))
    write_figures(card, {"evaluation": results})
    parts = card.read_text().split("<!-- end")
    assert evaluation_summary(results) in parts[0] and "| probe | 1.000 (1.000–1.000) |" in parts[0]
    assert method_report(results, "verdict") in parts[1] and "| seen | camera | 7 | 25% |" in parts[1] and "probe" not in parts[1]
    assert "Not measured." in parts[2] and "old" in parts[3]  # no curves were given


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.parent.name}-{card.stem}")
def test_every_card_says_what_it_is_for_and_what_not(card: Path):
    text = card.read_text(encoding="utf-8")
    assert all(f"**{part}" in text for part in ("Intended use.", "Not for.", "Training data", "Measured", "Known failures."))


def test_the_pictures_of_failures_are_ours_and_judged_as_the_card_says(suite):
    from interpret.render.drawings import DRAWINGS

    card = HEADS / "README.md"
    rows = re.findall(r"\(pictures/(\S+)\) \| (.+?) \| (\w+) \| (\d+) % \|", card.read_text(encoding="utf-8"))
    assert [(file, what) for file, what, _, _ in rows] == [(file, what) for file, (what, _) in DRAWINGS.items()]
    for file, _, label, percent in rows:
        shipped = load_photo(card.parent / "pictures" / file)
        assert np.abs(shipped.pixels.astype(int) - DRAWINGS[file][1]()).mean() < 6  # fonts differ between versions of OpenCV
        verdict = suite.analyze(card.parent / "pictures" / file).verdict
        assert verdict.label == label and verdict.probability == pytest.approx(int(percent) / 100, abs=0.02), file


@pytest.mark.parametrize("example, label, side", [("flower-smooth.jpg", "inconclusive", 1), ("flower-grain.jpg", "real", 0)])
def test_the_failures_that_the_cards_describe_are_there(suite, tmp_path, example, label, side):
    from PIL import Image

    from interpret.examples import EXAMPLES

    Image.fromarray(EXAMPLES[example][1]()).save(tmp_path / example, quality=92)
    record = suite.analyze(tmp_path / example).to_dict()
    assert record["verdict"]["label"] == label
    assert record["detectors"]["residual"]["probability"] == pytest.approx(side, abs=0.2)


def measured(**changes) -> dict:
    """Measures of one method, as `evaluate` gives them; a change to None takes a measure away."""
    overall = measures(np.arange(20) % 2, np.where(np.arange(20) % 2, 1.0, -1.0)) | {"mean_ap_over_sources": 0.75} | changes
    return {"overall": {name: value for name, value in overall.items() if value is not None}, "sources": {}, "real_sources": {}}


def test_the_papers_measures_stand_in_a_table_of_their_own():
    text = report({"seen": {"probe": measured(), "units": measured(f1=0.5)}, "unseen": {"probe": measured(accuracy=0.25)}})
    assert "| method | seen mAP over sources | seen accuracy | seen F1 | unseen mAP over sources | unseen accuracy | unseen F1 |" in text
    assert "| probe | 0.750 | 1.000 | 1.000 | 0.750 | 0.250 | 1.000 |" in text
    assert "| units | 0.750 | 1.000 | 0.500 | – | – | – |" in text  # a method that one split lacks
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (8, 10) for line in lines)


def test_results_measured_before_accuracy_was_taken_can_still_be_shown():
    text = report({"seen": {"probe": measured(accuracy=None, f1=None)}})
    assert "| seen | probe | 1.000" in text and "accuracy and F1" not in text
