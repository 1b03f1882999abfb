"""What holds for all commands: exit codes, and one sentence for what cannot be done."""

import subprocess
import sys

import pytest
from paths import ROOT

from detector.cli.main import main


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["score", "nowhere.jpg"], "could not be read"),
        (["score", ".", "--backbone", "nonsense"], "is no backbone"),
        (["train", "nothing", "--data", "."], "no method 'nothing'"),
        (["evaluate", "--data", "nowhere"], "no data folder"),
        (["score", ""], "empty path"),
        (["heads", "--backbone", "nope/x"], "is no backbone"),
    ],
)
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


def test_help_explains_itself_without_loading_anything_heavy():
    code = (
        "import sys, detector.cli.main as m\n"
        "try: m.main(['score', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'gradio', 'cv2', 'sklearn'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--batch-size" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["heads", "--fetch", "nonsense"], "no published head"),
        (["heads", "--fetch", "all"], "No head has been released"),
        (["study", "nonsense", "--data", "."], "no study"),
        (["prepare", "nonsense", "--out", "x"], "no data set"),
        (["prepare", "genimage", "--out", "x"], "no place on the hub"),
        (["select-descriptors", "--data", "nowhere"], "no data folder"),
    ],
)
def test_new_commands_refuse_in_one_sentence(arguments, words, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "Traceback" not in error
