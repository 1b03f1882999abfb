"""Named detectors alone: what they do not read is not computed, and their numbers are those of the whole suite."""

import json

import numpy as np
import pytest
from PIL import Image

from detector.cli.main import main
from detector.clip.backbone import Backbone
from detector.data.images import load_photo
from detector.detectors.names import DetectorError, parse_all
from detector.methods.sdd.head import SddHead
from detector.suite import Suite

LARGE = "ViT-L-14-336-quickgelu/openai"
CONCEPTS, UNITS, LINEAR = (f"vit-l-14-336/{name}@synthclic-combined" for name in ("concepts", "orthogonal", "linear"))
WORK = {
    "descriptors": "detector.methods.physical.features.measure",
    "residual": "detector.methods.residual.features.window_features",
    "captions": "detector.clip.captioning.write",
    "nouns": "detector.clip.captioning.retrieve",
    "alignment": "detector.extraction.align",
}


@pytest.fixture
def work(monkeypatch):
    """What is computed: the names of the steps, one entry a call; "tower NAME" and "tokens NAME" for a forward."""
    calls = []

    def counted(name, function):
        return lambda *given, **named: (calls.append(name), function(*given, **named))[1]

    for name, place in WORK.items():
        module, _, function = place.rpartition(".")
        parent = __import__(module, fromlist=[function])
        monkeypatch.setattr(place, counted(name, getattr(parent, function)))
    window_logits, encode = SddHead.window_logits, Backbone.encode
    monkeypatch.setattr(SddHead, "window_logits", counted("sdd", window_logits))

    def forward(backbone, images, tokens=True):
        calls.append(f"{'tokens' if tokens else 'tower'} {backbone.name}")
        return encode(backbone, images, tokens)

    monkeypatch.setattr(Backbone, "encode", forward)
    return calls


def alone(suite, *names):
    return suite.led_by(parse_all(names)).only(parse_all(names))


@pytest.mark.parametrize(
    "names, expected",
    [
        ([CONCEPTS], {f"tower {LARGE}": 1}),  # the head's preprocessing is the backbone's own
        ([UNITS, LINEAR], {f"tower {LARGE}": 1}),  # bilinear both
        ([CONCEPTS, UNITS], {f"tower {LARGE}": 2}),
        (["pixels/residual"], {"residual": 1}),
        (["pixels/physical"], {"descriptors": 1}),
        (["embedded/sdd"], {"sdd": 1}),
        (["embedded/concepts", "embedded/linear_probe"], {"tower embedded": 1}),
        ([CONCEPTS, "embedded/sdd", "pixels/physical"], {f"tower {LARGE}": 1, "sdd": 1, "descriptors": 1}),
    ],
)
def test_nothing_is_computed_that_no_named_detector_reads(both, picture, work, names, expected):
    photo, selected = load_photo(picture), alone(both, *names)
    record = selected.analyze(photo).to_dict()
    assert {name: work.count(name) for name in work} == expected
    whole = both.led_by(parse_all(names)).analyze(photo).to_dict()
    assert {score["detector"] for score in record["detectors"].values()} == set(names) and record["leader"] == names[0]
    assert record["verdict"]["label"] == whole["verdict"]["label"]
    assert record["verdict"]["logit"] == pytest.approx(whole["verdict"]["logit"], abs=1e-4)
    for name, score in record["detectors"].items():
        assert score["logit"] == pytest.approx(whole["detectors"][name]["logit"], abs=1e-4)
    assert ("physical" in record) == ("descriptors" in expected) and "item" not in record


def test_methods_that_read_captions_get_them_and_the_user_s_words_go_to_nobody_else(both, picture, work):
    record = alone(both, "embedded/item").analyze(picture).to_dict()
    assert record["item"]["caption"] and {"alignment", "captions"} <= set(work) and not {"descriptors", "residual", "sdd"} & set(work)
    work.clear()
    assert "item" not in alone(both, CONCEPTS).analyze(picture, "a photograph of a dog").to_dict()
    assert work == [f"tower {LARGE}"]


def test_a_fusion_brings_what_it_fuses(both, suite, picture, work):
    record = alone(both, "embedded/verdict").analyze(picture).to_dict()
    assert not any(LARGE in call for call in work)
    assert record["verdict"]["logit"] == pytest.approx(suite.analyze(picture).verdict.logit, abs=1e-4)


def test_a_flat_image_gets_no_label_and_its_descriptors_are_not_measured(both, work):
    flat, grain = Image.new("RGB", (300, 200), (90, 120, 60)), np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    selected = alone(both, CONCEPTS)
    assert "flat" in selected.analyze(flat).verdict.reason and not selected.analyze(grain).verdict.reason
    assert "descriptors" not in work


def test_a_suite_of_named_detectors_loads_no_other_backbone(work, picture, monkeypatch):
    loaded, load = [], Backbone.load.__func__
    monkeypatch.setattr(Backbone, "load", classmethod(lambda cls, name, *rest: (loaded.append(name), load(cls, name, *rest))[1]))
    selected = Suite.load_detectors(parse_all(["embedded/concepts", "pixels/residual"]))
    assert loaded == ["embedded"] and set(selected.detectors) == {"concepts", "residual"}
    selected.analyze(picture)
    assert sorted(work) == ["residual", "tower embedded"]
    with pytest.raises(DetectorError, match="not here"):
        selected.led_by(parse_all(["embedded/sdd"]))


def test_the_command_line_scores_with_named_detectors_alone(picture, capsys, work):
    assert main(["score", picture, "--detectors", "embedded/concepts", "pixels/residual"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["detectors"]) == {"concepts", "residual"} and record["leader"] == "embedded/concepts"
    assert sorted(work) == ["residual", "tower embedded"]
    assert main(["score", picture, "--format", "csv", "--detectors", "embedded/concepts"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.endswith("label,probability,concepts_probability,concepts_logit") and row.count(",") == header.count(",")
    assert main(["score", picture, "--backbone", "ViT-B-32/openai", "--detectors", "embedded/concepts"]) == 1
    assert "leave --backbone out" in capsys.readouterr().err
