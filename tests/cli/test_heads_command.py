"""`heads` lists every method and every released head."""

from detector.cli.main import main
from detector.detectors.names import RELEASED
from detector.detectors.table import AUTHORS, HEADERS, detector_table
from detector.methods.registry import METHODS


def test_every_detector_is_listed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path))
    assert main(["heads"]) == 0
    first, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert first == [*HEADERS] and rows == [list(row) for row in detector_table("embedded")]  # the page lists the same
    pixels = {"physical", "residual"}
    ours = [f"{'pixels' if method in pixels else 'embedded'}/{method}" for method in (*METHODS, "verdict")]
    assert [row[0] for row in rows] == [*ours, *map(str, RELEASED.values())]
    assert {row[-1] for row in rows[: len(ours)]} == {"present"} and all("AUROC" in row[4] for row in rows[: len(ours)])
    assert all(row[-1].startswith("to be fetched: the head") and row[4] == AUTHORS for row in rows[len(ours) :])
