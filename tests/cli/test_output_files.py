"""Files that commands write: refused before the work where they cannot be written, and never a picture."""

import csv
import shutil

import pytest

from detector.cli.main import main, parser, sentence


def message(capsys) -> str:
    text = capsys.readouterr().err.strip()
    assert "Errno" not in text and "Traceback" not in text
    return text.splitlines()[-1]


def test_scores_are_never_written_over_a_picture(picture, tmp_path, capsys, monkeypatch):
    own = tmp_path / "own.jpg"
    shutil.copy(picture, own)
    before = own.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert main(["score", str(own), "--out", "own.jpg"]) == 1
    assert "is one of the images" in message(capsys) and own.read_bytes() == before


@pytest.fixture
def places(tmp_path):
    """A folder, and a file where a folder is needed."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("[1]")
    return tmp_path


COMMANDS = {
    "score": lambda picture: ["score", picture],
    "study": lambda picture: ["study", "units", "--data", "x"],
    "select-descriptors": lambda picture: ["select-descriptors", "--data", "x"],
    "evaluate": lambda picture: ["evaluate", "--data", "x"],
    "report": lambda picture: ["report", "x"],
    "generate": lambda picture: ["generate", "a dog"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_out_that_cannot_be_written_is_refused_before_the_work(command, picture, places, capsys, monkeypatch):
    monkeypatch.setattr("detector.suite.Suite.load", lambda *a, **k: pytest.fail("work began"))
    monkeypatch.setattr("detector.clip.backbone.Backbone.load", lambda *a, **k: pytest.fail("work began"))
    suffix = ".png" if command == "generate" else ".json"
    below = places / "file" / f"out{suffix}"
    assert main([*COMMANDS[command](picture), "--out", str(below)]) == 1
    assert "is needed." in message(capsys)
    (places / f"folder{suffix}").mkdir()
    assert main([*COMMANDS[command](picture), "--out", str(places / f"folder{suffix}")]) == 1
    assert "is a folder; name a file." in message(capsys)


def test_a_study_is_not_added_to_a_file_of_something_else(places, capsys):
    assert main(["study", "units", "--data", "x", "--out", str(places / "file")]) == 1
    assert "holds no figures of studies" in message(capsys) and (places / "file").read_text() == "[1]"


def test_a_drawing_needs_the_ending_of_a_picture(tmp_path, capsys):
    assert main(["generate", "a dog", "--out", str(tmp_path / "dog.xyz")]) == 1 and "as in drawing.png" in message(capsys)


@pytest.mark.parametrize("command", [["audit"], ["evaluate"], ["calibrate", "--out", "x"], ["measure-maps"], ["study", "seeds"]])
def test_data_folders_add_up_however_they_are_given(command):
    for given in (["--data", "a", "b"], ["--data", "a", "--data", "b"]):
        assert list(map(str, parser().parse_args([*command, *given]).data)) == ["a", "b"]


def test_detectors_add_up_however_they_are_given():
    given = ["--detectors", "pixels/residual", "--detectors", "pixels/physical"]
    assert parser().parse_args(["score", "a.jpg", *given]).detectors == ["pixels/residual", "pixels/physical"]


def test_errors_of_the_system_are_sentences(tmp_path):
    with pytest.raises(OSError) as caught:
        open(tmp_path / "missing" / "file")
    assert sentence(caught.value) == f"'{tmp_path / 'missing' / 'file'}' was not found."
    assert sentence(OSError(28, "No space left on device", "out")) == "'out': No space left on device."
    assert sentence(ValueError("A sentence.")) == "A sentence." and sentence(ValueError()) == "ValueError"


def test_a_damaged_archive_of_pairs_is_named(tmp_path, capsys):
    with open(tmp_path / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "source", "caption"], ["a.webp", "train", "x", "a dog"]])
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.tar").write_text("no archive")
    assert main(["pretrain", "--pairs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "is no tar archive" in message(capsys)
