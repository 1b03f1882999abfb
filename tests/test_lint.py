"""The code passes the linter as pyproject.toml sets it up."""

import subprocess
import sys

from paths import ROOT


def test_ruff_has_no_complaint():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
