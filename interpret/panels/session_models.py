"""Detectors that visitors trained or calibrated on this page: in memory alone, known by a random key, the oldest leaves first.

A detector's choice (`MARK` and its key) goes where the name of a backbone or detector goes, so that every panel works with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from detector.detectors.names import DetectorName
from interpret.panels.store import new_key

if TYPE_CHECKING:
    from detector import Suite
    from detector.methods.base import HeadCard
    from detector.verdict.fusion import Fusion

MARK = "session/"
MOST = 32  # detectors, for all visitors together (choice); the largest head of these methods has about 1 MB
ORIGIN = "yours"
GONE = "That detector is no longer on the server; train it again, or choose another under Model."


@dataclass(frozen=True, eq=False)
class SessionModel:
    """choice: of the backbone that it was made on. head, card: of the method; None where only the verdict was fitted anew. fusion: the
    verdict that leads."""

    choice: str
    method: str
    head: Any
    card: HeadCard | None
    fusion: Fusion

    def applied(self, suite: Suite) -> Suite:
        """The suite of the backbone, led by this detector."""
        from detector.verdict.files import FusedVerdict

        verdict = FusedVerdict(self.fusion, suite.cards.get("verdict"))
        if self.head is None or self.card is None:
            return replace(suite, verdict=verdict, leader=DetectorName(suite.backbone.name, self.method))
        return replace(
            suite,
            heads={**suite.heads, self.method: self.head},
            cards={**suite.cards, self.method: self.card},
            verdict=verdict,
            leader=DetectorName(suite.backbone.name, self.method, ORIGIN),
            origins={**suite.origins, self.method: ORIGIN},
        )


class SessionModels:
    """At most `MOST` models by key. Safe to share between threads."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._models: OrderedDict[str, SessionModel] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, model: SessionModel) -> str:
        """Remember the model; its choice."""
        choice = MARK + new_key()
        with self._lock:
            self._models[choice] = model
            while len(self._models) > self._most:
                self._models.popitem(last=False)
        return choice

    def get(self, choice: object) -> SessionModel | None:
        """The model of a choice; None for a choice that is none of these, or no more."""
        with self._lock:
            if not isinstance(choice, str) or choice not in self._models:
                return None
            self._models.move_to_end(choice)
            return self._models[choice]


MODELS = SessionModels()
