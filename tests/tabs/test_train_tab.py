"""Train: two sets → a detector of the session, its figures, its warning, its file; and Analyze led by it."""

from pathlib import Path

import gradio as gr
import pytest
from sets import jpeg, pictures, two_archives

from detector.methods.registry import read_head
from interpret.panels import service, session_models
from interpret.tabs import train


@pytest.fixture(autouse=True)
def loaded(suite, monkeypatch, tmp_path):
    monkeypatch.setitem(service._suites, "embedded", suite)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()


def trained(paths, method="linear_probe"):
    return train.train_detector([str(paths[0])], [str(paths[1])], "", method, "embedded")


def test_classes_that_differ_only_in_jpeg_quality_get_a_warning(tmp_path):
    result = trained(two_archives(tmp_path, 150, qualities=(92, 70)))
    assert "Warning" in result.card and "JPEG quality 1.00" in result.card and "AUROC" in result.card
    assert result.facts[0] == ["JPEG quality", "1.00"]


def test_classes_saved_alike_get_no_warning_and_a_detector_that_tells_them_apart(tmp_path, suite):
    result = trained(two_archives(tmp_path, 40, blurred=True))
    model = session_models.MODELS.get(result.trained)
    assert model.card.metrics["auroc_cross_validated"] > 0.9 and model.card.metrics["auroc_95"][0] > 0.5
    assert len(result.concepts) == 12


@pytest.mark.parametrize("method", ["linear_probe", "orthogonal", "concepts"])
def test_the_detector_leads_and_is_taken_away(tmp_path, suite, method):
    paths = two_archives(tmp_path, 25, blurred=True)
    choice = trained(paths, method).trained
    assert train.lead_with(choice)[0] == choice and f"embedded/{method}@yours leads" in train.lead_with(choice)[1]
    verdicts = []
    for label, pixels in enumerate([pictures(1, seed=9)[0], pictures(1, seed=9)[0] // 3 + 150]):
        image = tmp_path / f"{label}.jpg"
        image.write_bytes(jpeg(pixels.astype("uint8")))
        record, _ = service.analyze(str(image), choice)
        assert record["error"] is None and record["leader"] == f"embedded/{method}@yours"
        verdicts.append(record["verdict"]["logit"])
    assert verdicts[0] < verdicts[1]
    head, card = read_head(Path(train.make_weights(choice)), method, suite.backbone)
    assert card.metrics["auroc_cross_validated"] > 0.5 and "a visitor's 25 real" in card.training_data
    assert "AUROC of file facts alone" in Path(train.make_card(choice)).read_text()


def test_the_verdict_is_calibrated_on_two_sets(tmp_path):
    paths = two_archives(tmp_path, 20, blurred=True)
    result = train.calibrate_verdict([str(paths[0])], [str(paths[1])], "", "embedded")
    assert "fitted on 20 real and 20 synthetic images" in result.card
    suite = service.get_suite(result.trained)
    assert len(suite.fusion.labels) == 40 and suite.roster.leading.name == "embedded/verdict"
    with pytest.raises(gr.Error, match="kept for this session alone"):
        train.make_weights(result.trained)


def test_bad_input_gets_one_sentence(tmp_path, monkeypatch):
    few = trained(two_archives(tmp_path, 5))
    assert "5 real and 5 synthetic images, and 20 of each are needed" in few.card and few.trained is None
    assert "There is no head of that name" in trained(two_archives(tmp_path, 5), "<b>").card
    assert "Both sets are needed" in train.train_detector(None, None).card
    assert "open to visitors" in train.train_detector(None, None, "etc").card
    assert "not offered here" in train.train_detector([str(tmp_path / "real.zip")], [str(tmp_path / "real.zip")], "", in_use="x").card
    for action in (train.lead_with, train.make_weights, train.make_card):
        with pytest.raises(gr.Error, match="Train a detector first"):
            action(None)
        with pytest.raises(gr.Error, match="no longer on the server"):
            action("session/none")


def test_a_folder_of_the_server_is_used_by_its_name(tmp_path, monkeypatch):
    for label, name in enumerate(("real", "synthetic")):
        (tmp_path / "lesson" / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(20, seed=label)):
            (tmp_path / "lesson" / name / f"{i}.jpg").write_bytes(jpeg(pixels, (90, 60)[label]))
    monkeypatch.setenv("CUESCOPE_FOLDERS", str(tmp_path / "lesson"))
    result = train.train_detector(None, None, "lesson")
    assert "20 real and 20 synthetic" in result.card and str(tmp_path) not in result.card


def test_the_oldest_detector_leaves_first():
    models = session_models.SessionModels(most=2)
    choices = [models.put(object()) for _ in range(3)]
    assert models.get(choices[0]) is None and all(models.get(choice) for choice in choices[1:])
    assert models.get({"a": 1}) is None
