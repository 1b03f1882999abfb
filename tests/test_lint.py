"""The code passes the linter and the formatter as pyproject.toml sets them up."""

import subprocess
import sys

import pytest
from paths import ROOT

SIGNATURES = ["ruff", "check", "--no-cache", "--select", "PLR0913", "--config", "lint.pylint.max-args = 6"]
SUITE = [f"detector/{name}.py" for name in ("suite", "analysis", "assembly", "extraction", "parts", "records", "scoring")]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "."],
        [*SIGNATURES, "app.py", "interpret", "detector/cli", *SUITE],
    ],
    ids=["lint", "format", "at most six arguments"],
)
def test_the_tool_has_no_complaint(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
