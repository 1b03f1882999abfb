"""What the page remembers of the images that are being looked at: one store for all visitors, bounded by bytes.

A session itself (`gr.State`) holds small keys only. What takes memory lies here; the entry that was used least recently leaves first and
is computed again when it is next asked for. Keys begin with a random part that never leaves the server (`new_key`), so nobody
reaches another visitor's entries by guessing.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import TypeVar, cast

import numpy as np

LIMIT = 400 * 2**20  # bytes, for all visitors together (choice): room for the largest photo that is accepted and what is computed of it
Value = TypeVar("Value")


def new_key() -> str:
    """128 random bits in hexadecimal digits."""
    return uuid.uuid4().hex


class Store:
    """Values by key, at most `limit` bytes in all. Safe to share between threads."""

    def __init__(self, limit: int = LIMIT):
        self.limit, self.size = limit, 0
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value under the key, made now where it is not here (any more). What `make` raises goes to the caller."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return cast(Value, self._entries[key][0])
        return self.put(key, make())  # unlocked: others need not wait; two who make the same value at once do it twice

    def put(self, key: Hashable, value: Value) -> Value:
        """Keep the value if it alone is within the limit, at the cost of those used least recently. Returns it."""
        size = size_of((key, value))
        with self._lock:
            self.size -= self._entries.pop(key, (None, 0))[1]
            if size <= self.limit:
                self._entries[key] = value, size
                self.size += size
            while self.size > self.limit:
                self.size -= self._entries.popitem(last=False)[1][1]
        return value


def size_of(value: object) -> int:
    """Bytes that a value holds: of tensors and arrays the memory behind them, also where they are a view of a larger one."""
    counted: set[int] = set()

    def count(part: object) -> int:
        if id(part) in counted:
            return 0
        counted.add(id(part))
        return _own_bytes(part) + sum(map(count, _parts(part)))

    return count(value)


def _own_bytes(part: object) -> int:
    if hasattr(part, "untyped_storage"):  # a tensor; torch itself is slow to import
        return part.untyped_storage().nbytes()
    return sys.getsizeof(part)  # of an array with its numbers, unless it is a view: then they are one of its parts


def _parts(part: object) -> list:
    if isinstance(part, Mapping):
        return [*part.keys(), *part.values()]
    if isinstance(part, (list, tuple, set, frozenset)):
        return list(part)
    if is_dataclass(part) and not isinstance(part, type):
        return [getattr(part, field.name) for field in fields(part)]
    return [part.base] if isinstance(part, np.ndarray) and part.base is not None else []


STORE = Store()
