"""A job on a local Ray cluster whose workers and whose driver are killed: are the rows those of an undisturbed job?

    python tests/bench/kill_job.py [--count 10000] [--actors 2] [--cores 3]

Small pictures and a small backbone of random weights, so that ten thousand take minutes. The driver is started, two of its workers are
killed with SIGKILL at a fifth and at two fifths of the rows, the driver itself at three fifths; then the job goes on with --resume. Only
processes that the driver started are killed. The second job runs in one process and undisturbed. Exit code 1 if a row differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from scale_pictures import write_pictures  # noqa: E402
from tiny import write_tiny  # noqa: E402

LIMIT = 3600  # seconds that a step may take


def job(folder: Path, out: Path, *options: str) -> list[str]:
    """The command that scores the pictures of `folder`."""
    command = [sys.executable, "-m", "detector", "score", str(folder / "pictures"), "--backbone", str(folder / "tiny")]
    return [*command, "--format", "parquet", "--batch-size", "8", "--out", str(out), *options]


def descendants(pid: int) -> dict[int, str]:
    """Process id → command line of all processes that a process has started."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [(int(number), int(parent), words) for number, parent, words in (line.split(None, 2) for line in lines)]
    inside: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        children = {number: words for number, parent, words in rows if parent in frontier}
        inside |= children
        frontier = set(children)
    return inside


def worker(driver: int) -> int | None:
    """An actor of the driver's cluster that holds a model; None while there is none."""
    return next((number for number, words in descendants(driver).items() if words.startswith("ray::MapWorker")), None)


def written(out: Path) -> int:
    """Rows in the parts that are there."""
    return sum(pq.ParquetFile(path).metadata.num_rows for path in out.glob("part-*.parquet"))


def wait(driver: subprocess.Popen, condition: Callable[[], bool]) -> bool:
    """Wait for a condition; False where the driver ended before."""
    end = time.monotonic() + LIMIT
    while not condition():
        if driver.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def disturbed(folder: Path, out: Path, count: int, options: list[str]) -> int:
    """Run the job, kill two workers and the driver, and go on. Returns how many processes were killed."""
    killed = 0
    driver = subprocess.Popen(job(folder, out, "--engine", "ray", *options), cwd=ROOT)
    for share in (0.2, 0.4):
        if wait(driver, lambda share=share: written(out) >= share * count and worker(driver.pid) is not None):
            os.kill(worker(driver.pid), signal.SIGKILL)
            killed += 1
    if wait(driver, lambda: written(out) >= 0.6 * count):
        driver.kill()
        killed += 1
    driver.wait()
    print(f"{killed} processes killed; {written(out)} rows written before --resume", flush=True)
    subprocess.run(job(folder, out, "--engine", "ray", "--resume", *options), cwd=ROOT, check=False)
    return killed


def rows(out: Path) -> pa.Table:
    """All rows, by key."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))).sort_by("key")


def differences(first: pa.Table, second: pa.Table) -> list[str]:
    """What differs between two tables of rows, in words."""
    keys = first["key"].to_pylist()
    if len(set(keys)) != len(keys) or keys != second["key"].to_pylist():
        return [f"{len(keys)} rows with {len(set(keys))} keys against {len(second)} rows"]
    return [name for name in first.column_names if repr(first[name].to_pylist()) != repr(second[name].to_pylist())]


def compare(folder: Path, count: int, options: list[str]) -> tuple[int, list[str]]:
    """Both jobs; how many processes were killed, and what differs."""
    write_tiny(folder / "tiny")
    write_pictures(folder / "pictures", count)
    started = time.monotonic()
    killed = disturbed(folder, folder / "disturbed", count, options)
    middle = time.monotonic()
    subprocess.run(job(folder, folder / "undisturbed"), cwd=ROOT, check=False)
    print(f"disturbed {middle - started:.0f} s, undisturbed in one process {time.monotonic() - middle:.0f} s", flush=True)
    return killed, differences(rows(folder / "disturbed"), rows(folder / "undisturbed"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--cores", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cuescope-kill-"))
    os.environ["OMP_NUM_THREADS"] = "1"  # of both jobs, so that sums are taken in one order
    try:
        rows = max(8, arguments.count // 50)
        options = ["--actors", str(arguments.actors), "--cores", str(arguments.cores), "--part-rows", str(rows)]
        killed, different = compare(folder, arguments.count, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{arguments.count} pictures, {killed} processes killed; " + (f"different: {different}" if different else "the rows are the same")
    )
    return 1 if different or killed < 3 else 0


if __name__ == "__main__":
    sys.exit(main())
