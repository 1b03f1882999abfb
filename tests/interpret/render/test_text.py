"""interpret/render/text.py: words that follow from the numbers, and nothing of a user's file name is taken for HTML."""

import pytest

from interpret.render import text as report


def analysis(**changes) -> dict:
    base = {
        "file": "x.jpg",
        "error": None,
        "width": 20,
        "height": 10,
        "backbone": "embedded",
        "file_facts": {"format": "JPEG", "jpeg_quality": 90, "has_exif": True, "has_c2pa": False},
        "verdict": {"label": "synthetic", "probability": 0.83, "logit": 1.6, "contributions": {"physical": 0.4}, "bias": 0.1},
        "detectors": {"physical": {"probability": 0.6, "logit": 0.4}, "residual": {"probability": 0.7, "logit": 0.8}},
        "physical_percentiles": {"saturation": {"real": 98.0, "synthetic": 50.0}, "sobel_mean": {"real": 40.0, "synthetic": 9.0}},
        "concepts": [
            {"name": "haze", "positive": "thick haze", "negative": "clear air", "activation": 0.2, "contribution": 0.5},
            {"name": "blur", "positive": "soft blur", "negative": "sharp focus", "activation": -0.2, "contribution": -0.3},
        ],
        "residual": {"spectrum luma": -0.4, "spectrum chroma": 0.2},
        "orthogonal": {
            "contributions": [0.1, -0.7],
            "names": [[], [{"pole": "soft blur", "correlation": 0.5}]],
            "text_span": [[], []],
            "chance": [0.3, 0.2],
            "named": [False, True],
        },
    }
    return base | changes


@pytest.mark.parametrize("label, words", [("synthetic", "AI-generated"), ("real", "real image"), ("inconclusive", "Inconclusive")])
def test_verdict_card(label, words):
    card = report.verdict_card(analysis(verdict=analysis()["verdict"] | {"label": label}))
    assert words in card and "83 %" in card and f'class="card {label}"' in card and "JPEG quality about 90" in card


def test_markup_in_a_file_name_stays_text():
    card = report.verdict_card({"file": "x", "error": "“<img src=x onerror=alert(1)>” is empty."})
    assert "<img" not in card and "&lt;img" in card


def test_readings_follow_the_numbers():
    full = analysis()
    assert "saturation is higher" in report.descriptor_reading(full) and "sobel" not in report.descriptor_reading(full)
    assert report.concept_reading(full) == "For synthetic speak thick haze; for real speak sharp focus."
    assert "spectrum luma" in report.residual_reading(full) and "real" in report.residual_reading(full)
    assert "Unit 2" in report.unit_reading(full) and "soft blur" in report.unit_reading(full)
    calm = analysis(physical_percentiles={"saturation": {"real": 50.0, "synthetic": 50.0}}, concepts=[])
    assert report.descriptor_reading(calm).startswith("All fifteen") and report.concept_reading(calm).startswith("No concept")


def test_summary_and_method_rows():
    text = report.summary(analysis())
    assert "probability of synthetic 0.83" in text and "Physical descriptors: 60 %" in text
    assert report.method_rows(analysis())[1] == ["Pixel residual", "70 %", "none"]
    assert report.summary({"file": "a.png", "error": "It is empty."}) == "a.png: It is empty."


def test_no_verdict_without_heads():
    assert "No verdict" in report.verdict_card(analysis(verdict=None))


def test_the_card_says_who_leads_and_who_does_not_agree():
    assert report.method_name("clip-cues/cm_antonyms_cnnspot") == "SynthCLIC's concept model (released, cnnspot)"
    assert report.method_name("univfd/fc").startswith("UniversalFakeDetect") and report.method_name("physical") == "Physical descriptors"
    assert report.method_name("embedded/sdd") == "Semantic discrepancy (embedded)"
    leader = "vit-l-14-336/concepts@synthclic-combined"
    verdict = {"logit": 2.0, "detector": leader, "calibration": "as published, not calibrated here"}
    record = {"verdict": verdict, "detectors": {"residual": {"logit": -1.0}, "physical": {"logit": 0.5}, "univfd/fc": {"logit": 3.0}}}
    assert report.verdict_basis(record) == (
        f"It is that of {leader} alone, as published, not calibrated here. Not all 3 detectors agree: Pixel residual leans towards real."
    )
    record["detectors"]["residual"]["logit"], verdict["detector"] = 1.0, "embedded/verdict"
    assert report.verdict_basis(record) == ""
