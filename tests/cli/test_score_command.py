"""`score`: order, formats, exit code."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from detector.cli.main import main
from detector.methods.registry import METHODS


def test_score_a_folder(folder, tmp_path):
    out = tmp_path / "deep" / "out.jsonl"
    assert main(["score", str(folder), "--out", str(out)]) == 1  # one file cannot be read
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(r["file"]).name for r in records] == ["a.jpg", "b.jpg", "c.png"]
    assert [r["error"] is None for r in records] == [True, True, False]
    assert records[0]["verdict"]["logit"] == pytest.approx(records[1]["verdict"]["logit"], abs=1e-5)


def test_a_file_name_that_is_no_text_costs_nothing(picture, tmp_path):
    odd = os.fsencode(tmp_path) + b"/odd\xff.jpg"
    shutil.copy(picture, odd)
    out = tmp_path / "out.jsonl"
    assert main(["score", os.fsdecode(odd), picture, "--out", str(out)]) == 0
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 2


def test_score_as_csv(folder, capsys):
    assert main(["score", str(folder / "b.jpg"), str(folder / "a.jpg"), "--format", "csv", "--batch-size", "1"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [Path(r["file"]).name for r in rows] == ["b.jpg", "a.jpg"]
    assert all(0 <= float(rows[0][f"{method}_probability"]) <= 1 for method in METHODS)
    assert float(rows[0]["laplacian_variance"]) > 0 and rows[0]["label"]
