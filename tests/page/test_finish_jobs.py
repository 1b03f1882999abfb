"""The end of the server: jobs are told to end, and waited for."""

import threading
import time

from detector import steps
from interpret.panels import queueing


def test_running_work_ends_at_its_next_step_and_is_waited_for():
    log, started = [], threading.Event()

    def work() -> None:
        with steps.stoppable(lambda: not queueing._closing.is_set()):
            started.set()
            try:
                while True:
                    sum(range(10_000))  # not in `threading`, as a job would be
                    steps.checkpoint()
            except steps.Cancelled:
                log.append("ended")

    thread = threading.Thread(target=work, name="AnyIO worker thread", daemon=True)
    thread.start()
    started.wait(10)
    queueing.finish_jobs(10)
    assert log == ["ended"] and not thread.is_alive()


def test_idle_threads_are_not_waited_for():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="AnyIO worker thread", daemon=True)
    thread.start()
    before = time.monotonic()
    queueing.finish_jobs(10)
    assert time.monotonic() - before < 5
    stop.set()
