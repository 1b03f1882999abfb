"""How the benchmarks take a time."""

import time
from collections.abc import Callable


def least(function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Least time of one call in seconds, by default wall time; the first call, which warms up, does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)
