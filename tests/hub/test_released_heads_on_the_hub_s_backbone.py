"""The papers' heads on ViT-L/14-336 from a stand-in for the hub: verdict, panels, switching off, calibration, and a new process.

The heads are the released ones; the weights are random. The default suite has the true widths with one layer and large patches;
`CUESCOPE_SLOW=1` adds the true architecture (1.7 GB, many minutes).
"""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import open_clip
import pytest
import torch
from hub_server import serve
from open_clip import factory
from paths import ROOT
from released_files import REFERENCE

from detector.cli.main import main
from detector.data.images import load_photo
from detector.hub import backbones as hub
from detector.methods import published
from detector.methods.registry import METHODS
from detector.suite import Suite
from interpret.concepts import switch_off
from interpret.panels import service, story

MODEL = "ViT-L-14-336-quickgelu"
NAME, CONCEPTS = f"{MODEL}/openai", "vit-l-14-336/concepts@synthclic-combined"
HEADS = REFERENCE / "clip-cues"
SMALL = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 336, "layers": 1, "width": 1024, "patch_size": 84},
    "text_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1},
}
NEW_PROCESS = """
import json, sys
from open_clip import factory
from detector.cli.main import main
name, config, *arguments = sys.argv[1:]
if json.loads(config):
    factory._MODEL_CONFIGS[name] = json.loads(config)
sys.exit(main(arguments))
"""

pytestmark = pytest.mark.skipif(not (HEADS / "cm_antonyms_combined.ckpt").is_file(), reason="the released heads are not on this machine")
slow = pytest.mark.skipif(not os.environ.get("CUESCOPE_SLOW"), reason="slow: set CUESCOPE_SLOW=1")


@pytest.fixture(params=[SMALL, pytest.param(None, marks=[slow, pytest.mark.slow])], ids=["one layer", "true size"])
def config(request, stand_in, tmp_path, monkeypatch):
    """The architecture, None for the true one; its random weights on the hub, and the released heads in the cache."""
    if request.param:
        monkeypatch.setitem(factory._MODEL_CONFIGS, MODEL, request.param)
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    shutil.copytree(HEADS, tmp_path / "cache" / "clip-cues")
    torch.manual_seed(0)
    serve(stand_in, open_clip.create_model(MODEL), hub.hub_files(MODEL, "openai")[0])
    return request.param


@pytest.fixture
def data(tmp_path):
    """A hundred images: soft noise and sharp noise."""
    generator = np.random.default_rng(0)
    for index in range(100):
        sharp = index % 2
        pixels = cv2.GaussianBlur(generator.integers(0, 256, (80, 90, 3)).astype(np.uint8), (0, 0), 0.6 if sharp else 2.0)
        path = tmp_path / "data" / ("synthetic" if sharp else "real") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)
    return tmp_path / "data"


def test_the_papers_head_speaks_and_its_calibration_outlives_the_process(config, data, picture, suite, tmp_path, monkeypatch, capsys):
    large = Suite.load(NAME)
    photo, head = load_photo(picture), published.load("clip-cues/cm_antonyms_combined")
    record = large.analyze(photo).to_dict()
    features = large.backbone.encode(torch.stack([large.backbone.prepare(photo)])).projected
    assert record["leader"] == CONCEPTS and record["verdict"]["logit"] == pytest.approx(float(head.logits(features)[0]), abs=1e-4)
    assert record["verdict"]["calibration"] == "as published, not calibrated here"
    check_panels(large, record, picture, suite, monkeypatch)
    strongest = record["concepts"][0]
    switched = switch_off(large, record, [], [strongest["name"]]).probabilities[1]
    assert switched == pytest.approx(1 / (1 + np.exp(strongest["contribution"] - record["verdict"]["logit"])), abs=1e-4)
    assert abs(switched - record["verdict"]["probability"]) > 1e-4
    assert main(["calibrate", "--data", str(data), "--backbone", NAME, "--cache", str(tmp_path / "features")]) == 0
    capsys.readouterr()
    arguments = ["score", picture, "--backbone", NAME]
    assert main(arguments) == 0
    calibrated = json.loads(capsys.readouterr().out)
    assert (calibrated["leader"], calibrated["verdict"]["calibration"]) == ("vit-l-14-336/verdict", "calibrated")
    assert calibrated["detectors"]["clip-cues/cm_antonyms_combined"]["logit"] == pytest.approx(record["verdict"]["logit"], abs=1e-4)
    command = [sys.executable, "-W", "ignore", "-c", NEW_PROCESS, MODEL, json.dumps(config), *arguments]
    again = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=True)
    assert_same(json.loads(again.stdout), calibrated)


def check_panels(large, record, picture, suite, monkeypatch):
    """Every panel is filled, and each says which backbone speaks."""
    detectors = record["detectors"]
    speaks = {method: detectors[record["heads"].get(method, method)]["backbone"] for method in METHODS if method != "linear_probe"}
    embedded = dict.fromkeys(("item", "physical_clip", "sdd"), "embedded")
    assert speaks == {"physical": "pixels", "residual": "pixels", "orthogonal": NAME, "concepts": NAME} | embedded
    monkeypatch.setattr(service, "_suites", {"embedded": suite, NAME: large})
    current = service.analyze(picture, NAME)[1]
    source = service.PanelSource(current, service.suite_of(current), load_photo(picture))
    values = {panel.key: panel.show(source) for panel in story.PANELS}
    charts = {
        "concepts": CONCEPTS,
        "orthogonal": "vit-l-14-336/orthogonal@synthclic-combined",
        "residual": "pixels/residual",
        "physical": "pixels/physical",
    }
    for title, name in charts.items():
        assert values[title].chart is not None and len(values[title].table) > 3 and f"{name} speaks here" in values[title].trust
    words = values["item"]
    assert words.words == record["item"]["caption"] and "embedded/item speaks here" in words.null_reading
    assert values["sdd"].body.visible and CONCEPTS in values["methods"].trust


def assert_same(record, expected):
    """The same numbers, up to the rounding of another process."""
    assert record["leader"] == expected["leader"] and record["verdict"]["label"] == expected["verdict"]["label"]
    assert record["verdict"]["logit"] == pytest.approx(expected["verdict"]["logit"], abs=1e-4)
    assert record["detectors"].keys() == expected["detectors"].keys()
    for name, score in expected["detectors"].items():
        assert record["detectors"][name]["logit"] == pytest.approx(score["logit"], abs=1e-4)
