"""The command line as a user runs it: exit codes, order, formats, one sentence for what cannot be done."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from detector.__main__ import main
from detector.data.perturbations import jpeg
from detector.methods.physical.features import NAMES
from detector.methods.registry import METHODS


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture):
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(picture, folder / "b.jpg")
    shutil.copy(picture, folder / "a.jpg")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("left alone")
    return folder


def test_score_a_folder(folder, tmp_path):
    out = tmp_path / "deep" / "out.jsonl"
    assert main(["score", str(folder), "--out", str(out)]) == 1  # one file cannot be read
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(r["file"]).name for r in records] == ["a.jpg", "b.jpg", "c.png"]
    assert [r["error"] is None for r in records] == [True, True, False]
    assert records[0]["verdict"]["logit"] == pytest.approx(records[1]["verdict"]["logit"], abs=1e-5)


def test_a_file_name_that_is_no_text_costs_nothing(picture, tmp_path):
    import os

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


@pytest.mark.parametrize("arguments, words", [
    (["score", "nowhere.jpg"], "could not be read"),
    (["score", ".", "--backbone", "nonsense"], "is no backbone"),
    (["train", "nothing", "--data", "."], "no method 'nothing'"),
    (["evaluate", "--data", "nowhere"], "no data folder"),
    (["score", ""], "empty path"),
    (["heads", "--backbone", "nope/x"], "is no backbone"),
])
def test_what_cannot_be_done_gets_a_sentence_and_one(arguments, words, capsys, monkeypatch, folder):
    monkeypatch.chdir(folder)
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert words in shown.err and "Traceback" not in shown.err


@pytest.mark.parametrize("arguments", [["score"], ["score", "x", "--batch-size", "0"], ["nothing"], ["score", "x", "--format", "xml"]])
def test_unusable_options_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_heads_are_listed(capsys, monkeypatch, tmp_path):
    from detector.methods.published import NAMES

    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path))
    assert main(["heads"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [*METHODS, "verdict", *NAMES] and {len(row) for row in rows} == {6}
    assert [row[5] for row in rows] == ["present"] * (len(METHODS) + 1) + ["not downloaded"] * len(NAMES)


def test_help_explains_itself_without_loading_anything_heavy():
    code = ("import sys, detector.__main__ as m\n"
            "try: m.main(['score', '--help'])\nexcept SystemExit: pass\n"
            "assert not {'torch', 'gradio', 'cv2', 'sklearn'} & set(sys.modules), 'heavy import'")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--batch-size" in done.stdout


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


@pytest.mark.parametrize("arguments, words", [
    (["heads", "--fetch", "nonsense"], "no published head"), (["heads", "--fetch", "all"], "No head has been released"),
    (["study", "nonsense", "--data", "."], "no study"), (["prepare", "nonsense", "--out", "x"], "no data set"),
    (["prepare", "genimage", "--out", "x"], "no place on the hub"), (["select-descriptors", "--data", "nowhere"], "no data folder"),
])
def test_new_commands_refuse_in_one_sentence(arguments, words, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "Traceback" not in error


def test_prepare_writes_a_folder_that_train_understands(folder, tmp_path, capsys):
    for name in ("0_real", "1_fake"):
        (tmp_path / "set" / name).mkdir(parents=True)
    shutil.copy(folder / "a.jpg", tmp_path / "set" / "0_real")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(tmp_path / "set" / "1_fake" / "b.png")
    assert main(["prepare", "univfd", "--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    assert "2 images" in capsys.readouterr().out and (tmp_path / "out" / "manifest.csv").is_file()


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
    common = ["evaluate", "--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"), "--out", str(out),
              "--robustness-images", "1"]
    assert main([*common, "--robustness", str(curves), "--write", str(card)]) == 0
    assert set(json.loads(out.read_text())["splits"]) == {"all"}
    measured = json.loads(curves.read_text())
    assert set(measured.pop("measured_on")["heads"]) == {*METHODS, "verdict"}
    assert measured["images"] == {"all": [1, 1]} and "| JPEG 50 |" in card.read_text() and "| all | verdict |" in card.read_text()
    assert main([*common, "--robustness"]) == 0
    assert json.loads(out.read_text())["robustness"] == measured
    assert "JPEG 50" in capsys.readouterr().out
