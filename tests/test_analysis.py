"""detector/analysis.py and detector/records.py: the JSON object has the keys and the types that its contract names, no more and no less."""

import json
import re
import types
import typing

import numpy as np
import pytest
from paths import ROOT

from detector.analysis import Analysis
from detector.data.facts import FileFacts
from detector.data.images import load_photo
from detector.records import AnalysisRecord, FactsRecord
from detector.suite import Suite
from detector.verdict.fusion import Verdict

FACTS = FileFacts("PNG", 12, "RGB", 3, 2, 1, 1, None, None, False, True)


def faults(value: object, kind: object, place: str = "record") -> list[str]:
    """Where plain data differs from a type made of TypedDicts, lists, dicts, unions and plain types."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return min((faults(value, option, place) for option in arguments), key=len)
    if origin in (typing.NotRequired, typing.Required):
        return faults(value, arguments[0], place)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        wrong = [f"{place}: {name}" for name in {*kind.__required_keys__} - {*value} | {*value} - {*hints}]
        return wrong + [fault for name in value.keys() & hints.keys() for fault in faults(value[name], hints[name], f"{place}.{name}")]
    if origin is list:
        return [fault for index, item in enumerate(value) for fault in faults(item, arguments[0], f"{place}[{index}]")]
    if origin is dict:
        return [fault for name, item in value.items() for fault in faults(name, arguments[0], place) + faults(item, arguments[1], place)]
    return [] if type(value) is kind else [f"{place}: {type(value).__name__}, not {kind}"]


def test_the_types_are_those_of_the_json_object(suite, picture):
    record = json.loads(json.dumps(suite.analyze(picture).to_dict()))
    assert faults(record, AnalysisRecord) == []
    record["concepts"][3]["activation"] = "0.1"
    record["detectors"]["sdd"].pop("bias")
    record["surplus"] = 1
    assert len(faults(record, AnalysisRecord)) == 3


@pytest.mark.parametrize("caption", ["?!", "a dog near a bus"])
def test_also_where_values_are_missing(suite, caption):
    flat = load_photo(np.full((70, 80, 3), 90, np.uint8))
    for present in (suite, Suite(suite.backbone, {}, {})):
        assert faults(json.loads(json.dumps(present.analyze(flat, caption).to_dict())), AnalysisRecord) == []


def test_the_keys_are_those_of_the_contract_s_table():
    section = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## JSON contract")[2].partition("\n## ")[0]
    table = [re.findall("`([a-z_]+)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")]
    assert [name for names in table for name in names] == [*typing.get_type_hints(AnalysisRecord)]
    first = {*table[0]}
    assert first == AnalysisRecord.__required_keys__


def test_facts_have_the_fields_of_the_file_s_facts():
    assert [*typing.get_type_hints(FactsRecord)] == [*vars(FACTS)]


def test_an_analysis_in_json_digit_by_digit():
    analysis = Analysis(
        "a.png",
        facts=FACTS,
        width=3,
        height=2,
        backbone="embedded",
        verdict=Verdict("real", 0.1, -2.2, {"physical": -2.0}, -0.2),
        detectors={"physical": {"probability": 1 / 3, "logit": -0.7, "bias": 0.1}},
        physical={"sobel_mean": None},
        concepts=[{"name": "fog", "positive": "fog", "negative": "clear", "activation": 0.1 + 0.2, "contribution": 0.0}],
    )
    assert json.dumps(analysis.to_dict()) == (
        '{"file": "a.png", "width": 3, "height": 2, "format": "PNG", "error": null, "backbone": "embedded", "verdict": {"label": "real", '
        '"probability": 0.1, "logit": -2.2, "contributions": {"physical": -2.0}, "bias": -0.2}, "detectors": {"physical": {"probability": '
        '0.3333333333333333, "logit": -0.7, "bias": 0.1}}, "physical": {"sobel_mean": null}, "concepts": [{"name": "fog", "positive": '
        '"fog", "negative": "clear", "activation": 0.30000000000000004, "contribution": 0.0}], "file_facts": {"format": "PNG", '
        '"size_bytes": 12, "mode": "RGB", "stored_width": 3, "stored_height": 2, "orientation": 1, "frames": 1, "jpeg_quality": null, '
        '"chroma_subsampling": null, "has_exif": false, "has_c2pa": true}}'
    )


def test_an_error_leaves_nothing_but_the_first_six_keys():
    assert Analysis("a.png", "Broken.", backbone="embedded").to_dict() == {
        "file": "a.png",
        "width": None,
        "height": None,
        "format": None,
        "error": "Broken.",
        "backbone": "embedded",
    }


def test_scores_hold_all_detectors_and_leave_out_those_without_an_answer(suite):
    evidence = suite.evidence([np.full((70, 80, 3), 90, np.uint8), np.full((90, 80, 3), 10, np.uint8)], ["?!", "a dog"])
    scores = suite.score(evidence)
    assert [*scores.logits] == [*suite.heads] and "item" not in scores.of_image(0) and "item" in scores.of_image(1)
    for method, values in suite.logits(evidence).items():
        np.testing.assert_array_equal(values, scores.logits[method])
        assert scores.of_image(1)[method]["logit"] == values[1]
