"""detector/evaluation/tables.py: tables by source, written between marks and never stale."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from detector.assets import MODELS
from detector.data.images import load_photo
from detector.evaluation.metrics import measures
from detector.evaluation.tables import report, source_marks, sources_table, write_sources

CARDS = [MODELS / "embedded" / "heads" / "README.md", MODELS / "pixels" / "README.md"]
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
    assert source_marks(card) == marks
    write_sources(card, RESULTS)
    once = card.read_text()
    assert "old" not in once and once.count("words") == 2 and once.startswith("# Card\n") and "0.750 | 0.500" in once
    write_sources(card, RESULTS)
    assert card.read_text() == once


def test_a_card_without_marks_is_said_so(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("nothing")
    with pytest.raises(ValueError, match="card.md has no marks"):
        source_marks(card)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_no_card_is_stale(card: Path):
    results = json.loads((MODELS / "embedded" / "evaluation.json").read_text(encoding="utf-8"))["splits"]
    text = card.read_text(encoding="utf-8")
    for mark in source_marks(card):
        assert f"<!-- {mark} -->\n{sources_table(results, mark.split()[1:])}\n<!-- end {mark} -->" in text


@pytest.mark.parametrize("card", [*CARDS, MODELS / "embedded" / "README.md"], ids=lambda card: card.parent.name)
def test_every_card_says_what_it_is_for_and_what_not(card: Path):
    text = card.read_text(encoding="utf-8")
    assert all(f"**{part}" in text for part in ("Intended use.", "Not for.", "Training data", "Measured", "Known failures."))


def test_the_pictures_of_failures_are_ours_and_judged_as_the_card_says(suite):
    from interpret.render.drawings import DRAWINGS

    card = MODELS / "embedded" / "heads" / "README.md"
    rows = re.findall(r"\(pictures/(\S+)\) \| (.+?) \| (\w+) \| (\d+) % \|", card.read_text(encoding="utf-8"))
    assert [(file, what) for file, what, _, _ in rows] == [(file, what) for file, (what, _) in DRAWINGS.items()]
    for file, _, label, percent in rows:
        shipped = load_photo(card.parent / "pictures" / file)
        assert np.abs(shipped.pixels.astype(int) - DRAWINGS[file][1]()).mean() < 6  # fonts differ between versions of OpenCV
        verdict = suite.analyze(card.parent / "pictures" / file).verdict
        assert verdict.label == label and verdict.probability == pytest.approx(int(percent) / 100, abs=0.02), file


@pytest.mark.parametrize("example, label, side", [("flower-smooth.jpg", "synthetic", 1), ("flower-grain.jpg", "real", 0)])
def test_the_failures_that_the_cards_describe_are_there(suite, tmp_path, example, label, side):
    from PIL import Image

    from interpret.examples import EXAMPLES

    Image.fromarray(EXAMPLES[example][1]()).save(tmp_path / example, quality=92)
    record = suite.analyze(tmp_path / example).to_dict()
    assert record["verdict"]["label"] == label
    assert record["detectors"]["residual"]["probability"] == pytest.approx(side, abs=0.12)


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
