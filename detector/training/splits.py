"""The tables that methods are trained on, validated with and fused by."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.registry import CAPTIONED, METHODS
from detector.methods.table import Table


@dataclass(frozen=True)
class Splits:
    """Tables of `train` and `val`, both with random copies; `train` may hold re-syntheses.

    captioned: of `train` with captions; None where no method learns from them. photographs: more real pictures, with CLIP's features
    alone; None where there are none."""

    train: Table
    val: Table
    captioned: Table | None
    photographs: Table | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Images of `train` and of `val`, re-syntheses left out."""
        return int(((self.train.copy == 0) & (self.train.origins == "")).sum()), int((self.val.copy == 0).sum())

    def of_train(self, method: str) -> Table:
        """The table of `train` with all that a method reads."""
        return self.captioned if method in CAPTIONED and self.captioned is not None else self.train

    def photographs_of(self, method: str) -> Table | None:
        """The photographs, for a method that reads CLIP's features alone."""
        return self.photographs if method in METHODS and METHODS[method].evidence == ("clip",) else None

    def photographs_in_words(self, method: str) -> str:
        """How many photographs a method learns from, to follow on the number of training images; "" where it learns from none."""
        table = self.photographs_of(method)
        return f" and {(table.copy == 0).sum()} more photographs of {len(set(table.sources))} collections" if table else ""

    def training_table(self, method: str) -> Table:
        """What a method is trained on: its table of `train`, and its photographs."""
        table, photographs = self.of_train(method), self.photographs_of(method)
        return table.with_photographs(photographs) if photographs else table
