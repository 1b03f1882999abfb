"""Where the repository lies, for tests that start its programs or read its documents."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
