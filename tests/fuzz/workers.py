"""Processes that read one input after another; one that hangs or dies is replaced."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection

from detector.data.images import ImageError, load_photo

MEMORY = 4 * 2**30  # bytes of address space; libraries alone take about one GiB of it
_START = 60.0  # seconds for a process to begin
_PATH = re.compile(r"(?:^|[\s“\"'(])(?:/|[A-Za-z]:\\)|site-packages")


@dataclass(frozen=True)
class Outcome:
    """kind: "ok", "refused", or what went wrong. seconds: of the reading; peak: MB that the process has used so far."""

    kind: str
    words: str
    seconds: float = 0.0
    peak: float = 0.0

    @property
    def good(self) -> bool:
        return self.kind in ("ok", "refused")


class Worker:
    """One process. `read` answers within the time limit, whatever the input does to it."""

    def __init__(self, seconds: float):
        self.seconds, self.process = seconds, None

    def read(self, data: bytes) -> Outcome:
        if self.process is None:
            self._start()
        self.pipe.send_bytes(data)
        start = time.monotonic()
        try:
            if self.pipe.poll(self.seconds):
                return self.pipe.recv()
            outcome = Outcome("time-out", f"no answer within {self.seconds:g} s", self.seconds)
        except (EOFError, OSError):
            self.process.join(5)
            outcome = Outcome("crash", f"the process ended with code {self.process.exitcode}", time.monotonic() - start)
        self.close()
        return outcome

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(end,), daemon=True)
        self.process.start()
        end.close()
        if not self.pipe.poll(_START) or self.pipe.recv() != "ready":
            raise RuntimeError("A worker process did not start.")


def _serve(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryFile() as errors:
        os.dup2(errors.fileno(), 2)  # also what C libraries write
        pipe.send("ready")
        while True:
            try:
                data = pipe.recv_bytes()
            except EOFError:
                return
            start = time.perf_counter()
            kind, words = _judged(data)
            seconds = time.perf_counter() - start
            if written := _written(errors.fileno()):
                kind, words = "output on stderr", written
            pipe.send(Outcome(kind, words, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6))


def _judged(data: bytes) -> tuple[str, str]:
    try:
        photo = load_photo(data)
        return ("ok", photo.facts.format or "") if photo.pixels.ndim == 3 else ("bad pixels", str(photo.pixels.shape))
    except ImageError as error:
        return complaint(str(error)), str(error)
    except BaseException:  # whatever else there is, is what is looked for
        return "other exception", traceback.format_exc()


def complaint(sentence: str) -> str:
    """ "refused" for one proper sentence, "memory" where the limit was met, else "bad sentence"."""
    if "more memory than is free" in sentence:
        return "memory"
    proper = sentence.endswith(".") and "\n" not in sentence and len(sentence) <= 300
    return "refused" if proper and "Traceback" not in sentence and not _PATH.search(sentence) else "bad sentence"


def _written(descriptor: int) -> str:
    """What stands in the file of errors, which is empty afterwards."""
    if sys.stderr is not None:
        sys.stderr.flush()
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, min(size, 2000), 0).decode(errors="replace")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text
