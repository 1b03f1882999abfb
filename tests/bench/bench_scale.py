"""What a job costs: local engine against the bare loop, Ray against the local engine, memory, and a projection to ten million pictures.

    python tests/bench/bench_scale.py [--images 200] [--side 256] [--actors 1 2 4] [--memory 10000] [--tflops 100] [--price P]

All in one run, printed as ratios, on the embedded model with one thread a process:

* The local engine against the bare loop of decoding and encoding (`load_photo`, `prepare`, the vision tower), in batches of 16. All
  detectors cost more than a forward, so that this ratio is what a picture costs beyond it.
* Ray with 1, 2 and 4 actors against the local engine, from the first row to the last: loading the models and starting the cluster, which
  a long job pays once, do not count. Aims: two actors at least 1.7 times one, one actor at most 10 % slower than the local engine. Both
  need a processor for each actor and one for the tasks.
* Memory of the local engine's process over `--memory` pictures of 64 pixels on a small backbone of random weights: the peak of the second
  half against that of the first. Aim: 1.05.
* Ten million pictures: seconds of one processor from the figures above, and what one GPU would need. The floating-point operations of all
  networks are counted and the time outside them is measured; assumed is `--tflops`, what the GPU sustains (100: a tenth of an H100's
  peak for dense bfloat16), that nothing waits for it, and with `--price` what an hour of it costs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: an actor gets one, too
os.environ.setdefault("RAY_worker_niceness", "0")  # else the actors would yield to everything that the local engine competes with

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from bench_suite import BATCH, batches, write_pictures  # noqa: E402
from scale_pictures import write_pictures as write_small  # noqa: E402
from tiny import write_tiny  # noqa: E402

from detector.clip.backbone import Backbone  # noqa: E402
from detector.data.images import load_photo  # noqa: E402
from detector.scale.engines import Pool, cluster, score_here, score_on_ray  # noqa: E402
from detector.scale.parts import Rows  # noqa: E402
from detector.scale.places import shards  # noqa: E402
from detector.scale.scorer import Scorer, Scoring  # noqa: E402

MANY = 10_000_000


def rate(tables: Iterable[object], each: int) -> float:
    """Pictures a second after the first table. each: pictures in a table; Ray may give several batches at once, which have a length."""
    count, started = 0, 0.0
    for table in tables:
        if started:
            count += len(table) if hasattr(table, "__len__") else each
        else:
            started = time.perf_counter()
    return count / (time.perf_counter() - started)


def bare_loop(backbone: Backbone, paths: list[Path]) -> Iterable[list[Path]]:
    """Decode, prepare and encode, batch by batch."""
    for part in batches(paths):
        backbone.encode(torch.stack([backbone.prepare(load_photo(path)) for path in part]), tokens=False)
        yield list(part)


def compare(paths: list[Path], folder: str, actors: list[int]) -> float:
    """Print rates and ratios; returns the local engine's rate."""
    parts = shards([folder], BATCH * 2)
    scorer = Scorer(Scoring())
    bare = rate(bare_loop(scorer.suite.backbone, paths), BATCH)
    local = rate(score_here(parts, scorer, BATCH, Rows.none()), BATCH)
    print(f"bare decode and encode {bare:.2f} pictures/s; local engine {local:.2f}, {local / bare:.3f} of it", flush=True)
    rates = {}
    for count in actors:
        pool = Pool(actors=count, cores=count + 1)
        with cluster(pool):
            rates[count] = rate(score_on_ray(parts, Scoring(), BATCH, Rows.none(), pool), BATCH)
        print(f"Ray, {count} actors: {rates[count]:.2f} pictures/s, {rates[count] / local:.3f} of the local engine", flush=True)
    if 1 in rates and 2 in rates:
        print(f"two actors against one: {rates[2] / rates[1]:.3f}; aim: 1.7")
    return local


def resident() -> int:
    """Resident memory of this process in KiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def memory(count: int) -> None:
    """Print the memory of the second half of a job against that of the first."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_tiny(Path(folder) / "tiny")
        write_small(Path(folder) / "pictures", count)
        parts = shards([f"{folder}/pictures"], BATCH * 4)
        tables = score_here(parts, Scorer(Scoring(backbone=str(tiny))), BATCH, Rows.none())
        sizes = [resident() for _ in tables]
    half = len(sizes) // 2
    first, second = max(sizes[:half]), max(sizes[half:])
    print(f"memory over {count} pictures: {first / 1024:.0f} MiB, then {second / 1024:.0f} MiB: {second / first:.3f}; aim: 1.05")


@dataclass(frozen=True)
class Work:
    """Of one picture. operations: floating-point, in all networks. outside: seconds of a processor outside of them."""

    operations: float
    outside: float


def work_of_a_picture(folder: str) -> Work:
    """Of a batch, one thread: scored once for its time, once for its operations, once for the time inside torch."""
    scorer, parts = Scorer(Scoring()), shards([folder], BATCH)

    def score() -> float:
        started = time.perf_counter()
        next(iter(score_here(parts, scorer, BATCH, Rows.none())))
        return time.perf_counter() - started

    score()  # what only the first batch pays
    with FlopCounterMode(display=False) as counter:
        score()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        score()
    inside = sum(event.self_cpu_time_total for event in profiler.key_averages()) / 1e6
    return Work(counter.get_total_flops() / BATCH, max(0.0, score() - inside) / BATCH)


def project(local: float, work: Work, tflops: float, price: float | None) -> None:
    """Print what ten million pictures cost."""
    print(f"{MANY:,} pictures of this size at {local:.2f} a second and processor: {MANY / local / 3600:,.0f} processor hours")
    hours = MANY * work.operations / (tflops * 1e12) / 3600
    cost = f", {hours * price:,.0f} at {price:g} an hour" if price else ""
    print(f"one GPU that sustains {tflops:g} TFLOP/s (assumed), {work.operations / 1e9:.1f} GFLOP a picture: {hours:,.1f} hours{cost}")
    processors = work.outside * tflops * 1e12 / work.operations
    print(f"{work.outside * 1000:.0f} ms a picture outside the networks: {processors:,.0f} processors to keep that GPU busy,")
    print(f"or {MANY * work.outside / 3600 / 16:,.0f} hours with 16 of them, whatever the GPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--memory", type=int, default=10_000)
    parser.add_argument("--tflops", type=float, default=100.0)
    parser.add_argument("--price", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.side, options.images)
        print(f"{options.images} JPEG files with a shorter side of about {options.side} pixels, {os.cpu_count()} processors", flush=True)
        local = compare(paths, folder, options.actors)
        work = work_of_a_picture(folder)
    if options.memory:
        memory(options.memory)
    project(local, work, options.tflops, options.price)


if __name__ == "__main__":
    main()
