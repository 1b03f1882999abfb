"""Checkpoints of training that a crash cannot spoil."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def write_whole(path: Path, parts: dict) -> None:
    """Write beside the target and rename, so that an interrupted write never replaces a good checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(parts, temporary)
    os.replace(temporary, path)
