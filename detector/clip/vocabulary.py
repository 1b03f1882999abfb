"""The project's own concept vocabulary: antonym pairs about how a picture looks, in our wording."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache

from detector.assets import ASSETS

CONCEPTS = ASSETS / "vocabulary" / "concepts.csv"


@dataclass(frozen=True)
class Concept:
    """An antonym pair with the two prompts that define its direction; `operation` names the edit that induces it."""

    name: str
    category: str
    positive: str
    negative: str
    positive_prompt: str
    negative_prompt: str
    explanation: str
    operation: str


@lru_cache(maxsize=1)
def vocabulary() -> tuple[Concept, ...]:
    """All concepts, in file order."""
    with open(CONCEPTS, newline="", encoding="utf-8") as rows:
        return tuple(Concept(**row) for row in csv.DictReader(rows))
