"""Time to score one image with the shipped SDD head: its four windows in one batch against one after the other.

    python tests/bench/bench_sdd.py [--repeats 10]

One thread, a made-up picture of 1024 × 768 pixels; processor time, the least of all repeats.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector.backbone import Backbone  # noqa: E402
from detector.registry import find_heads, read_head  # noqa: E402
from detector.windows import cut  # noqa: E402


def least(task: Callable[[], object], repeats: int) -> float:
    """Processor time of one call in milliseconds, the least of all repeats."""
    task()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=10)
    repeats = options.parse_args().repeats
    torch.set_num_threads(1)
    backbone = Backbone.load("embedded")
    head, _ = read_head(find_heads("embedded")["sdd"], backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    windows = [cut(pixels, box, head.size) for box in head.boxes(pixels)]
    print(f"{len(windows)} windows of {head.size} pixels, one thread:")
    print(f"  in one batch        {least(lambda: head.unscaled([pixels]), repeats):.0f} ms")
    print(f"  one after the other {least(lambda: [head.window_logits([w]) for w in windows], repeats):.0f} ms")


if __name__ == "__main__":
    main()
