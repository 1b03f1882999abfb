"""A progress bar for long work on the command line, by tqdm (which open_clip brings)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int | None = None, title: str = "") -> Iterator[Item]:
    """Iterate and draw a bar on standard error; nothing is drawn where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, disable=None, leave=False)


def byte_progress(title: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Gives a function of (bytes so far, bytes in all) that draws a bar from its first call on."""
    return count_progress(title, unit="B", unit_scale=True)


@contextmanager
def count_progress(title: str, **options: Any) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (done, in all) that draws a bar from its first call on. options: tqdm's."""
    from tqdm import tqdm

    with tqdm(desc=title, disable=None, leave=False, **options) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
