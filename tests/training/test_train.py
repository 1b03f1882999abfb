"""Training, the verdict and evaluation end to end on a small random backbone and made-up images."""

import json

import numpy as np
import pytest
from tiny import write_tiny

from detector.cli.main import main
from detector.methods.registry import METHODS
from detector.suite import Suite
from detector.training.train import caption_rows


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    backbone = write_tiny(tmp_path_factory.mktemp("backbone") / "tiny", decoder=False)
    cache = tmp_path_factory.mktemp("cache")
    arguments = ["--data", str(data), "--backbone", str(backbone), "--cache", str(cache)]
    assert (
        main(
            [
                "train",
                "all",
                *arguments,
                "--copies",
                "1",
                "--out",
                str(backbone / "heads"),
                "--epochs",
                "2",
                "--checkpoints",
                str(cache / "checkpoints"),
            ]
        )
        == 0
    )
    return backbone, arguments


def test_all_heads_are_written_and_used(trained, data):
    backbone, _ = trained
    suite = Suite.load(str(backbone))
    assert set(suite.heads) == set(METHODS) and set(suite.fusion.methods) == set(METHODS)
    assert all(suite.cards[method].details["recipe"] for method in METHODS)  # how each was trained stands in its header
    assert set(suite.parts.unit_names) == {"names", "text_span", "chance", "named"}  # and not in the JSON object
    paths = sorted((data / "test").rglob("*.png"))
    logits = {a.file: a.verdict.logit for a in suite.analyze_files(paths)}
    synthetic, real = ([v for f, v in logits.items() if ("grid" in f) == wanted] for wanted in (True, False))
    assert min(synthetic) > max(real)  # the planted pattern is easy


def test_evaluation_of_those_heads(trained, tmp_path, capsys):
    _, arguments = trained
    out, page = tmp_path / "results.json", tmp_path / "page.md"
    page.write_text("<!-- evaluation -->\n<!-- end evaluation -->\n")
    assert main(["evaluate", *arguments, "--out", str(out), "--write", str(page)]) == 0
    results = json.loads(out.read_text())
    assert set(results["measured_on"]["heads"]) == {*METHODS, "verdict"}
    results = results["splits"]
    assert set(results) == {"test"} and results["test"]["verdict"]["overall"]["auroc"] == 1
    assert set(results["test"]["verdict"]["sources"]) == {"grid"}
    assert "| test | verdict | 1.000" in page.read_text() and "1.000" in capsys.readouterr().out


def test_windows_are_scored_once(trained, monkeypatch):
    from detector.methods.sdd.head import SddHead

    def never(self, pixels):
        raise AssertionError("scored again")

    _, arguments = trained
    assert main(["evaluate", *arguments]) == 0
    monkeypatch.setattr(SddHead, "unscaled", never)
    assert main(["evaluate", *arguments]) == 0


def test_what_cannot_be_measured_says_so(trained, data, tmp_path, capsys):
    _, arguments = trained
    assert main(["evaluate", *arguments, "--split", "nope"]) == 1
    assert "needs images of both classes" in capsys.readouterr().err
    assert main(["evaluate", *arguments, "--write", str(tmp_path / "missing.md")]) == 1
    for label in ("real", "synthetic"):
        (tmp_path / "broken" / label).mkdir(parents=True)
        (tmp_path / "broken" / label / "z.jpg").write_bytes(b"no picture")
    broken = [str(tmp_path / "broken") if word == str(data) else word for word in arguments]
    assert broken != arguments and main(["evaluate", *broken]) == 1
    assert "z.jpg" in capsys.readouterr().err


def test_heads_of_another_training_are_refused(trained, tmp_path, capsys):
    import shutil

    other = write_tiny(tmp_path / "other", seed=5, decoder=False)
    shutil.copytree(trained[0] / "heads", other / "heads")
    assert main(["heads", "--backbone", str(other)]) == 0
    (tmp_path / "x.png").write_bytes(b"")
    assert main(["score", str(tmp_path / "x.png"), "--backbone", str(other)]) == 1
    assert "other weights" in capsys.readouterr().err


def test_the_captions_of_the_reference_are_drawn_at_random_half_of_each_class():
    labels, usable = np.repeat([0, 1], [30, 20]), np.ones(50, bool)
    usable[:4] = False
    rows = caption_rows(labels, usable, 20, seed=0)
    assert labels[rows].tolist() == [0] * 10 + [1] * 10 and usable[rows].all() and len(set(rows.tolist())) == 20
    np.testing.assert_array_equal(rows, caption_rows(labels, usable, 20, seed=0))
    assert caption_rows(labels, usable, 20, seed=1).tolist() != rows.tolist()
    assert rows.max() >= 40 and not np.array_equal(rows[:10], np.arange(4, 14))  # not the first ones
    assert len(caption_rows(labels, usable & (labels == 0) | (np.arange(50) == 30), 20, seed=0)) == 2
