"""The spread over seeds: two heads on a small folder, from the command line's own parts."""

import json

import cv2
import numpy as np
import pytest
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.evaluation.studies import STUDIES, seeds


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 8)):
        for index in range(count):
            path = tmp_path / "data" / split / ("real", "synthetic")[index % 2] / f"{split}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), generator.integers(0, 256, (40, 48, 3)).astype(np.uint8))
    return tmp_path / "data"


def test_seeds_change_what_starts_at_random_and_nothing_else(data, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "DRAWN", ("linear_probe", "orthogonal"))
    study, backbone = STUDIES["seeds"], Backbone.load(str(write_tiny(tmp_path / "tiny")))
    result = study.run([study.load(backbone, data, tmp_path / "cache")], backbone, 2)
    assert set(result["rows"]) == {"linear_probe", "orthogonal"} and result["seeds"] == 2
    spread = result["rows"]["orthogonal"]["test"]
    assert 0 <= spread["low"] <= spread["mean"] <= spread["high"] <= 1
    again = study.run([study.load(backbone, data, tmp_path / "cache")], backbone, 2)
    assert again == result
    text = study.report(json.loads(json.dumps(result)))
    assert "over 2 seeds" in text and "| orthogonal | " in text
