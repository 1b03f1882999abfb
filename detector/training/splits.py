"""The tables that methods are trained on, validated with and fused by."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.registry import CAPTIONED
from detector.methods.table import Table


@dataclass(frozen=True)
class Splits:
    """Tables of `train` and `val`, both with random copies; `train` may hold re-syntheses.

    captioned: of `train` with captions; None where no method learns from them."""

    train: Table
    val: Table
    captioned: Table | None

    @property
    def counts(self) -> tuple[int, int]:
        """Images of `train` and of `val`, re-syntheses left out."""
        return int(((self.train.copy == 0) & (self.train.origins == "")).sum()), int((self.val.copy == 0).sum())

    def training_table(self, method: str) -> Table:
        """The table that a method is trained on."""
        return self.captioned if method in CAPTIONED and self.captioned is not None else self.train
