"""Compare and What if: what differs, what moves, and sweeps."""

import json

import cv2
import gradio as gr
import numpy as np
import pytest

from detector.data.images import load_photo
from interpret import compare, what_if
from interpret.panels import service
from interpret.tabs import compare as tab
from interpret.tabs import what_if as live


@pytest.fixture(autouse=True)
def loaded(suite, monkeypatch, tmp_path):
    monkeypatch.setitem(service._suites, "embedded", suite)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()


def test_an_image_does_not_differ_from_itself(picture):
    values = tab.compare_images(picture, picture)
    assert all(row[-1] == 0 for row in values.table) and "No descriptor and no concept differs by much" in values.sentence


def test_what_differs_between_an_image_and_its_blurred_copy(picture):
    edited = tab.edit_image(picture, "blur", 0.8)
    values = tab.compare_images(picture, edited)
    sizes = [row[-1] for row in values.table]
    assert sizes == sorted(sizes, reverse=True)
    sharpness = next(row for row in values.table if row[0] == "laplacian variance")
    assert sharpness[1] == "descriptor" and sharpness[3] < sharpness[2] and sharpness[5] > 0.1
    assert {row[1] for row in values.table} == {"probability", "descriptor", "concept, logits"}
    assert values.first_card and values.second_card and len(values.currents) == 2


def test_sizes_by_hand():
    def record(probability, value, percentile, contributions):
        return {
            "verdict": {"label": "real", "probability": probability},
            "detectors": {},
            "physical": {"saturation": value},
            "physical_percentiles": {"saturation": {"real": percentile}},
            "concepts": [{"name": name, "contribution": number} for name, number in contributions.items()],
        }

    rows = compare.differences(record(0.2, 1.0, 10.0, {"a": 1.0, "b": 0.0}), record(0.5, 2.0, 60.0, {"a": 0.0, "b": 3.0}))
    assert {row.name: row.size for row in rows} == pytest.approx({"Verdict": 0.3, "saturation": 0.5, "a": 0.25, "b": 0.75})
    assert [row.name for row in rows] == ["b", "saturation", "Verdict", "a"]


def test_rounding_is_no_difference():
    def record(shift):
        return {"concepts": [{"name": "a", "contribution": 0.5 + shift}, {"name": "b", "contribution": 0.25}]}

    assert max(row.size for row in compare.differences(record(0.0), record(1e-7))) < 0.001
    assert "no concept differs" in compare.sentence(record(0.0), record(1e-7))


def test_bad_input_gets_one_sentence(picture, tmp_path):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no")
    assert tab.compare_images(picture, None).sentence == tab.BOTH
    assert "cannot be analysed" in tab.compare_images(picture, str(broken)).sentence
    with pytest.raises(gr.Error, match="There is no operation"):
        tab.edit_image(picture, "<b>")
    with pytest.raises(gr.Error, match="Compare two images first"):
        tab.compare_maps(None)
    assert "not an image" in live.change_image(str(broken)).sentence
    for settings, sentence in (
        ("[]", "JSON object"),
        ("{", "no JSON object"),
        ('{"jpeg": 5}', "between 10 and 100"),
        ('{"jpeg": "a"}', "must be a number"),
        ('{"jpeg": NaN}', "between 10 and 100"),
        ('{"left": 0.9}', "crop box"),
        ('{"operation": "x"}', "no operation of that name"),
        (json.dumps({"caption": "x" * 501}), "longer than 500"),
    ):
        assert sentence in live.change_image(picture, settings).sentence
    assert "no operation" in live.sweep_image(picture, "x").sweep_reading


def test_a_detector_without_an_answer_is_one_sentence(picture, suite, monkeypatch):
    monkeypatch.setattr(what_if, "LEVELS", 2)
    with pytest.raises(what_if.SettingsError, match="no answer"):
        what_if.sweep(suite, load_photo(picture), [], "scale", "nothing")


def test_settings_that_change_nothing_change_no_pixel(photographs):
    assert np.array_equal(what_if.applied(photographs[0], what_if.Settings()), photographs[0])
    assert what_if.parse(what_if.Settings(jpeg=50).to_json()) == what_if.Settings(jpeg=50)


def test_operations_are_applied(photographs):
    pixels = photographs[0]
    height, width = pixels.shape[:2]
    assert what_if.applied(pixels, what_if.Settings(scale=0.5)).shape == (round(height / 2), round(width / 2), 3)
    assert np.array_equal(what_if.applied(pixels, what_if.Settings(left=0.5)), pixels[:, round(width / 2) :])
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    error = what_if.applied(pixels, what_if.Settings(jpeg=30)).astype(int) - cv2.imdecode(encoded, 1)[..., ::-1]
    assert np.abs(error).mean() < 3


def test_the_verdict_s_path_grows_with_each_setting(picture, suite):
    first = live.change_image(picture, "{}")
    assert first.path.points[0].logit == pytest.approx(first.path.points[1].logit, abs=1e-4)
    second = live.change_image(picture, '{"blur": 2}', path=first.path)
    photo = what_if.changed_photo(load_photo(picture), what_if.Settings(blur=2))
    assert len(second.path.points) == 3 and second.path.points[2].words == "blur 2"
    assert second.path.points[2].logit == pytest.approx(suite.analyze_photos([photo])[0].verdict.logit, abs=1e-3)
    assert second.path.current is first.path.current  # the image as it is was analysed once


def test_a_sweep_goes_over_the_whole_range_against_reference_photographs(picture, photographs, suite, monkeypatch):
    monkeypatch.setattr(what_if, "LEVELS", 3)
    result = what_if.sweep(suite, load_photo(picture), [load_photo(photographs[1])], "JPEG quality", "verdict")
    assert result.levels == [100, 55, 10] and result.count == 1 and result.low == pytest.approx(result.high)
    assert result.logits[0] == pytest.approx(suite.analyze(picture).verdict.logit, abs=1e-4)
    photo = what_if.changed_photo(load_photo(photographs[1]), what_if.Settings(jpeg=10))
    assert result.low[2] == pytest.approx(suite.analyze_photos([photo])[0].verdict.logit, abs=1e-3)
    assert "Over the whole range of JPEG quality" in what_if.sweep_sentence(result)
