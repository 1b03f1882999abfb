"""A progress bar for long work on the command line, by tqdm (which open_clip brings)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int | None = None, title: str = "") -> Iterator[Item]:
    """Iterate and draw a bar on standard error; nothing is drawn where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, disable=None, leave=False)


@contextmanager
def byte_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (bytes so far, bytes in all) that draws a bar from its first call on."""
    from tqdm import tqdm

    with tqdm(desc=title, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
