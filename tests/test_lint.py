"""The code passes the linter, the formatter and the type checker as pyproject.toml sets them up."""

import subprocess
import sys

import pytest
from paths import ROOT

SIGNATURES = ["ruff", "check", "--no-cache", "--select", "PLR0913", "--config", "lint.pylint.max-args = 6"]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "."],
        [*SIGNATURES, "app.py", "interpret", "detector"],
        ["mypy"],
    ],
    ids=["lint", "format", "at most six arguments", "types"],
)
def test_the_tool_has_no_complaint(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
