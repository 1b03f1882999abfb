"""`select-descriptors`: table, JSON and plot."""

import json

import numpy as np
from PIL import Image

from detector.cli.main import main
from detector.methods.physical.features import NAMES


def test_select_descriptors_writes_table_json_and_plot(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name, spread in (("real", 20), ("synthetic", 90)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            noise = generator.normal(128, spread, (64, 64, 1)).clip(0, 255).astype(np.uint8)
            Image.fromarray(np.repeat(noise, 3, axis=2)).save(tmp_path / "data" / name / f"{name}{i}.png")
    out, plot = tmp_path / "found.json", tmp_path / "found.html"
    assert main(["select-descriptors", "--data", str(tmp_path / "data"), "--out", str(out), "--plot", str(plot)]) == 0
    found = json.loads(out.read_text())
    assert found["relation"]["synthetic"][NAMES.index("residual_variance")] == 1.0 and len(found["chosen"]) == 5
    assert "residual_variance" in capsys.readouterr().out and "plotly" in plot.read_text(encoding="utf-8")
