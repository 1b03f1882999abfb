"""Batches of all visitors: in memory, under random keys that a browser keeps for its tab, few, and forgotten when nobody asks for them."""

from __future__ import annotations

import threading
import time

import gradio as gr

from detector.data.datasets import DataError
from interpret.batch import Batch
from interpret.panels.store import new_key

MOST = 16  # batches at once (choice): of 2,000 images each takes about 40 MB
IDLE, CROWDED = 3600.0, 600.0  # seconds after which a batch that nobody asks for is forgotten, and where there is no room for another
FULL = "The server holds as many batches as it may; try again later."
GONE = "This batch is no longer on the server; start it again."


class Jobs:
    """Batches by key. Safe to share between threads."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._batches: dict[str, tuple[Batch, float]] = {}
        self._lock = threading.Lock()

    def put(self, batch: Batch) -> str:
        """Remember the batch; its key, 128 random bits. DataError, one sentence, where there is no room."""
        with self._lock:
            self._forget(IDLE)
            if len(self._batches) >= self._most:
                self._forget(CROWDED)
            if len(self._batches) >= self._most:
                raise DataError(FULL)
            key = new_key()
            self._batches[key] = batch, time.monotonic()
            return key

    def get(self, key: object) -> Batch:
        """The batch under the key. DataError, one sentence, where there is none."""
        with self._lock:
            self._forget(IDLE)
            if not isinstance(key, str) or key not in self._batches:
                raise DataError(GONE)
            batch = self._batches[key][0]
            self._batches[key] = batch, time.monotonic()
            return batch

    def drop(self, key: object) -> None:
        """Forget the batch, so that there is room for another."""
        with self._lock:
            if isinstance(key, str):
                self._batches.pop(key, None)

    def _forget(self, idle: float) -> None:
        limit = time.monotonic() - idle
        self._batches = {key: entry for key, entry in self._batches.items() if entry[1] >= limit}


JOBS = Jobs()


def batch_of(key: str) -> Batch:
    """The batch under a key. gr.Error, one sentence, where there is none."""
    try:
        return JOBS.get(key)
    except DataError as error:
        raise gr.Error(str(error), print_exception=False) from error
