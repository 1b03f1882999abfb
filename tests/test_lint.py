"""The code passes the linter, the formatter and the type checker as pyproject.toml sets them up."""

import subprocess
import sys

import pytest
from paths import ROOT

TYPED = (  # folders and modules in which the type checker may have no complaint; to become all of them
    "detector/data/",
    "detector/hub/",
    "detector/evaluation/",
    "detector/clip/attributes.py",
    "detector/clip/autoencoder.py",
    "detector/clip/backbone.py",
    "detector/clip/captioning.py",
    "detector/clip/tokenizer.py",
    "detector/clip/vocabulary.py",
)


def run_tool(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "command", [["ruff", "check", "--no-cache", "."], ["ruff", "format", "--no-cache", "--check", "."]], ids=["lint", "format"]
)
def test_the_tool_has_no_complaint(command):
    done = run_tool(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_type_checker_has_no_complaint():
    done = run_tool("mypy")
    assert done.returncode < 2, done.stdout + done.stderr  # 1: complaints, also where none are forbidden yet
    complaints = [line for line in done.stdout.splitlines() if line.startswith(TYPED) and ": error: " in line]
    assert not complaints, "\n".join(complaints)
    assert all((ROOT / name).exists() for name in TYPED)
