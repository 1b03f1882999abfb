"""Inputs to workers, outcomes to a report."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .mutations import fuzzed
from .seeds import sound_files
from .workers import Outcome, Worker


@dataclass
class Report:
    """counts: outcomes by kind; slowest: seconds; peak: MB; offending: name and outcome of each input that went wrong."""

    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_name: str = "none"
    peak: float = 0.0
    offending: list[tuple[str, Outcome]] = field(default_factory=list)

    def add(self, name: str, outcome: Outcome) -> None:
        self.counts[outcome.kind] += 1
        self.peak = max(self.peak, outcome.peak)
        if outcome.seconds > self.slowest:
            self.slowest, self.slowest_name = outcome.seconds, name
        if not outcome.good:
            self.offending.append((name, outcome))


def run(count: int, seed: int, workers: int = 2, seconds: float = 20.0, save: Path | None = None) -> Report:
    """Read `count` inputs, `workers` at a time. save: a folder for those that went wrong."""
    files, report, lock, numbers = sound_files(), Report(), threading.Lock(), iter(range(count))

    def work() -> None:
        worker = Worker(seconds)
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                what, data = fuzzed(files, seed, number)
                outcome = worker.read(data)
                with lock:
                    report.add(f"{number}, {what}", outcome)
                    if save and not outcome.good:
                        save.mkdir(parents=True, exist_ok=True)
                        (save / f"{seed}-{number}.bin").write_bytes(data)
        finally:
            worker.close()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return report
