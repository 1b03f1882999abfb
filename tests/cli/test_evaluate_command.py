"""`evaluate` with --robustness: where the curves go."""

import json

import numpy as np
from PIL import Image

from detector.cli.main import main
from detector.data.perturbations import jpeg
from detector.methods.registry import METHODS


def test_evaluate_writes_robustness_beside_the_rest_or_by_itself(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("detector.evaluation.robustness.CURVES", {"JPEG": (jpeg(50),)})  # one level is enough here
    generator = np.random.default_rng(0)
    for name in ("real", "synthetic"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            noise = generator.integers(0, 256, (66, 66, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "data" / name / f"{name}{i}.png")
    card, out, curves = (tmp_path / name for name in ("card.md", "found.json", "curves.json"))
    card.write_text("<!-- evaluation -->\n<!-- end evaluation -->\n<!-- robustness -->\n<!-- end robustness -->\n")
    common = [
        "evaluate",
        "--data",
        str(tmp_path / "data"),
        "--cache",
        str(tmp_path / "cache"),
        "--out",
        str(out),
        "--robustness-images",
        "1",
    ]
    assert main([*common, "--robustness", str(curves), "--write", str(card)]) == 0
    assert set(json.loads(out.read_text())["splits"]) == {"all"}
    measured = json.loads(curves.read_text())
    assert set(measured.pop("measured_on")["heads"]) == {*METHODS, "verdict"}
    assert measured["images"] == {"all": [1, 1]} and "| JPEG 50 |" in card.read_text() and "| all | verdict |" in card.read_text()
    assert main([*common, "--robustness"]) == 0
    assert json.loads(out.read_text())["robustness"] == measured
    assert "JPEG 50" in capsys.readouterr().out
