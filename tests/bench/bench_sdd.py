"""Time to score one image with the shipped SDD head: its four windows in one batch against one after the other.

    python tests/bench/bench_sdd.py [--repeats 10]

One thread, a made-up picture of 1024 × 768 pixels; processor time, the least of all repeats.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from timing import least

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector.clip.backbone import Backbone  # noqa: E402
from detector.data.windows import crop_window  # noqa: E402
from detector.methods.registry import find_heads, read_head  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=10)
    repeats = options.parse_args().repeats
    torch.set_num_threads(1)
    backbone = Backbone.load("embedded")
    head, _ = read_head(find_heads("embedded")["sdd"], "sdd", backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    windows = [crop_window(pixels, box, head.size) for box in head.boxes(pixels)]
    single = lambda: [head.window_logits([window]) for window in windows]  # noqa: E731
    print(f"{len(windows)} windows of {head.size} pixels, one thread:")
    print(f"  in one batch        {1000 * least(lambda: head.unscaled([pixels]), repeats, time.process_time):.0f} ms")
    print(f"  one after the other {1000 * least(single, repeats, time.process_time):.0f} ms")


if __name__ == "__main__":
    main()
