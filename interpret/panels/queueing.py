"""The page's queue: Gradio's own, with a fair share of its places for each visitor, and with work that ends when nobody waits for it.

What it relies on in Gradio 6.31 (`tests/e2e/test_work.py` holds it to that):

* A closed connection: Gradio sets `Event.alive` of the visitor's running events to False (`clean_events`) and lets them run on.
* A cancel: Gradio cancels the asyncio task in `process_events`, which frees the place in the line; the thread behind it runs on.
* A refusal: an HTTPException raised by `push` is the answer to the request; the page shows its `detail`.
* `process_events` hands its context variables to the thread in which the action runs.
"""

from __future__ import annotations

import sys
import threading
import time

import gradio as gr
from fastapi import HTTPException, Request
from gradio.queueing import Event, Queue
from gradio.utils import LRUCache

from detector.steps import Cancelled, stoppable

# Choices. The page itself sends an action again only when the last one is answered or was cancelled a moment ago, so it never has
# more than two of one waiting; nobody presses eight different buttons while a server hangs.
OF_ONE_ACTION, IN_ALL = 2, 8  # waiting jobs of one visitor
UNREAD = 200  # sessions whose answers are held until they are fetched, three times the places in the queue
MANY_OF_ONE = f"{OF_ONE_ACTION} of your jobs of this kind are waiting already; send the next one when one of them is done."
MANY_IN_ALL = f"{IN_ALL} of your jobs are waiting already; send the next one when one of them is done."
MANY_OF_ADDRESS = "Visitors from your network address hold half of the queue already; try again in a minute."


_closing = threading.Event()  # set while the server ends


class FairQueue(Queue):
    """See the module. A visitor is a session, or an address where a client names no session.

    Behind a proxy all visitors have the proxy's address, unless the operator lets uvicorn trust it (`FORWARDED_ALLOW_IPS`).
    """

    def __init__(self, *settings):
        super().__init__(*settings)
        self.pending_messages_per_session = LRUCache(UNREAD)
        self.pending_event_ids_session = LRUCache(UNREAD)
        self.ANALYTICS_MAX_EVENTS = 1  # Gradio would keep who asked for what, ten thousand times, for a page that is switched off

    def compute_analytics_summary(self, records):
        """Nothing: Gradio would make a table of all past events after each one."""
        return self.cached_event_analytics_summary

    async def push(self, body, request: Request, username: str | None):
        """Put a job into its line, or answer 429 with one sentence where its sender has too many waiting already."""
        if refusal := self._refusal(body.session_hash, body.fn_index, request):
            raise HTTPException(429, refusal)
        return await super().push(body, request, username)

    def _refusal(self, session: str | None, action: int | None, request: Request) -> str | None:
        waiting = [event for line in self.event_queue_per_concurrency_id.values() for event in line.queue]
        visitor = ("session", session) if session else ("address", _address(request))
        jobs = [event for event in waiting if _visitor(event) == visitor]
        if sum(event.fn._id == action for event in jobs) >= OF_ONE_ACTION:
            return MANY_OF_ONE
        if len(jobs) >= IN_ALL:
            return MANY_IN_ALL
        of_address = sum(_address(event.request) == _address(request) for event in waiting)
        return MANY_OF_ADDRESS if self.max_size and of_address >= self.max_size // 2 else None

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn) -> None:
        """Run a job that can be stopped between its steps, and forget the values that the page shows."""
        ended = False
        with stoppable(lambda: not (ended or _closing.is_set()) and any(event.alive for event in events)):
            try:
                await super().process_events(events, batch, begin_time, fn)
            except Cancelled:
                pass  # nobody waits for an answer
            finally:
                ended = True
                for event in events:
                    self._forget_values(event.session_hash)

    def _forget_values(self, session: str) -> None:
        """Gradio holds a copy of all that a session's page shows, charts and pictures, for links that this page does not offer."""
        if self.server_app is None or (state := self.server_app.state_holder.session_data.get(session)) is None:
            return
        for config in state.config_values.values():
            config.get("props", {}).pop("value", None)

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        """A connection was closed: what waits for it leaves the line, what runs is told, and answers are not held for it."""
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        if session_hash is not None:
            self.pending_messages_per_session.pop(session_hash, None)
            self.pending_event_ids_session.pop(session_hash, None)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _visitor(event: Event) -> tuple[str, str]:
    """Gradio gives an event without a session its own id for one."""
    return ("address", _address(event.request)) if event.session_hash == event._id else ("session", event.session_hash)


def open_queue(demo: gr.Blocks, **settings) -> gr.Blocks:
    """`demo.queue(**settings)`, with this queue in place of Gradio's."""
    plain = demo.queue(**settings)._queue
    demo._queue = FairQueue(
        plain.live_updates, plain.max_thread_count, plain.update_intervals, plain.max_size, demo, plain.default_concurrency_limit
    )
    return demo


def finish_jobs(seconds: float = 30.0) -> None:
    """Tell all jobs to end at their next step, and wait for that. The server's threads die with the interpreter, and one that dies inside
    torch takes the process down with an abort. seconds: waited at most."""
    _closing.set()
    end = time.monotonic() + seconds
    while _working() and time.monotonic() < end:
        time.sleep(0.1)
    _closing.clear()


def _working() -> bool:
    """Whether a thread that runs jobs is anywhere but at the line where it waits for the next one."""
    frames = sys._current_frames()
    threads = [thread for thread in threading.enumerate() if thread.name == "AnyIO worker thread"]
    return any(frame.f_code.co_filename != threading.__file__ for t in threads if (frame := frames.get(t.ident or 0)) is not None)
