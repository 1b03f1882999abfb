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
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "walk.png"), np.random.default_rng(9).integers(0, 256, (40, 48, 3)).astype(np.uint8))
    monkeypatch.setattr(seeds, "auroc", lambda head, table, backbone: float(head.tensors()["weight"].sum()))
    folder = study.load(backbone, data, tmp_path / "cache")
    with_more, without = (study.run([one], backbone, 1)["rows"] for one in (seeds.with_photographs(folder, tmp_path / "more"), folder))
    assert all(with_more[method] != without[method] for method in without)
    with pytest.raises(ValueError, match="leave out --photographs"):
        seeds.with_photographs("the input of another study", tmp_path)
    text = study.report(json.loads(json.dumps(result)))
    assert "over 2 seeds" in text and "| orthogonal | " in text
