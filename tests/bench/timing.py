"""How the benchmarks take a time."""

import time
from collections.abc import Callable
from typing import NamedTuple


def least(function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Least time of one call in seconds, by default wall time; the first call, which warms up, does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


class Cost(NamedTuple):
    """Seconds of one call. wall: as a clock on the wall shows them. processor: of all threads, which other work disturbs less."""

    wall: float
    processor: float


def cost(function: Callable[[], object], repeats: int) -> Cost:
    """Least wall time and least processor time of the same calls; the first call, which warms up, does not count."""
    function()
    costs = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        costs.append(Cost(time.perf_counter() - wall, time.process_time() - processor))
    return Cost(min(one.wall for one in costs), min(one.processor for one in costs))
