"""A progress bar for long work on the command line, by tqdm (which open_clip brings)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int | None = None, title: str = "") -> Iterator[Item]:
    """Iterate and draw a bar on standard error; nothing is drawn where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, disable=None, leave=False)
