"""Checkpoints of a training: files that a crash cannot spoil, and that another training cannot take for its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Checkpoint:
    """The file that a training writes after every epoch.

    identity: text of all settings that must be the same for a training to continue from the file. resume: whether to continue from
    it. restart: what happens to a file of another identity; True: the training starts from its first epoch, False: ValueError.
    """

    path: Path
    identity: str = ""
    resume: bool = False
    restart: bool = False

    def load(self) -> dict[str, Any] | None:
        """The contents of the file, on the CPU; None where the training starts from its first epoch."""
        if not self.resume or not self.path.is_file():
            return None
        contents = torch.load(self.path, map_location="cpu", weights_only=True)
        if contents.get("identity") == self.identity:
            return contents
        if self.restart:
            return None
        raise ValueError(f"The checkpoint {self.path} was made with other settings; leave out --resume or name another folder.")

    def save(self, contents: dict[str, Any]) -> None:
        """Write to a second file and rename it, so that an interrupted write never replaces a good checkpoint."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(contents | {"identity": self.identity}, partial)
        os.replace(partial, self.path)
