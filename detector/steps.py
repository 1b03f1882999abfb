"""Long work can be stopped between its steps: it asks at each one whether somebody still waits for the result.

Who starts the work says how to know that (`stoppable`); the work itself only calls `checkpoint()` before each of its steps, such as
one batch through a model. Where nobody has said anything, as on the command line, `checkpoint()` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("wanted", default=None)


class Cancelled(BaseException):
    """Nobody waits for the result any more. No Exception, as in asyncio, so that code that recovers from errors lets it pass."""


@contextmanager
def stoppable(wanted: Callable[[], bool]) -> Iterator[None]:
    """Work inside this context, also in threads that copy it, ends with Cancelled at its next step once `wanted()` is False."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def checkpoint() -> None:
    """Called before each step of work that takes longer than about a second. Raises Cancelled."""
    wanted = _wanted.get()
    if wanted is not None and not wanted():
        raise Cancelled
