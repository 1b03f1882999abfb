"""Twenty clients at once against the page on loopback, good files and hostile ones: `python tests/bench/load.py --seconds 300`.

The model is loaded before the clock starts. Ends with code 1 if an answer belongs to another file, an error was not an intended
one, or memory grew. Not part of the tests: pin it to as many cores as are to be measured, for instance with `taskset -c 0,1`.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

LONGEST, MOST_CLIENTS = 300, 40  # seconds; clients
GROWTH = 150.0  # MB of resident memory between the second quarter of the run and its last: more is called a leak
HOSTILE_SHARE = 0.3


@dataclass
class Log:
    """What the clients saw, in the order in which it came."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    outcomes: Counter = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)  # MB, once a second
    lock: threading.Lock = field(default_factory=threading.Lock)


# --- files ---------------------------------------------------------------------------------------------------------


def good_files(folder: Path, count: int = 16) -> list[Path]:
    """Different crops of scikit-learn's photographs in four formats."""
    from sklearn.datasets import load_sample_images

    generator, paths = np.random.default_rng(0), []
    for index in range(count):
        image = load_sample_images().images[index % 2]
        top, left = generator.integers(0, image.shape[0] - 300), generator.integers(0, image.shape[1] - 400)
        path = folder / f"good{index}.{('jpg', 'png', 'webp', 'tiff')[index % 4]}"
        Image.fromarray(image[top : top + 300, left : left + 400]).save(path)
        paths.append(path)
    return paths


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hostile_files(folder: Path, good: Path) -> list[Path]:
    """Cut, empty, mislabelled, huge when unpacked, and made to keep a parser busy."""
    signature, header = b"\x89PNG\r\n\x1a\n", struct.Struct(">IIBBBBB")
    tags = b"".join(struct.pack("<HHII", 40_000 + i, 1, 2**20, 8) for i in range(500))
    contents = {
        "cut.jpg": good.read_bytes()[:3000], "empty.png": b"", "text.jpg": b"hello " * 50, "page.jpg": b"<html></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "bomb.png": signature + _chunk(b"IHDR", header.pack(30_000, 30_000, 8, 2, 0, 0, 0)) + _chunk(b"IDAT", zlib.compress(bytes(9))),
        "chunks.png": signature + _chunk(b"IHDR", header.pack(8, 8, 8, 0, 0, 0, 0)) + _chunk(b"prVt") * 60_000,
        "comment.gif": b"GIF89a\1\0\1\0\0\0\0!\xfe" + (b"\xff" + b"a" * 255) * 4000 + b"\0;",
        "tags.tiff": b"II*\0\x08\0\0\0" + struct.pack("<H", 500) + tags + bytes(4),
        "noise.webp": np.random.default_rng(1).bytes(20_000),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


# --- server --------------------------------------------------------------------------------------------------------


def start_server(folder: Path) -> tuple[subprocess.Popen, str]:
    """`python app.py` on a free port, its uploads below `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | own, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 180
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}"
        time.sleep(0.2)
    server.kill()
    raise SystemExit("The page did not start.")


def resident(pid: int) -> float:
    """Resident memory of a process in MB (Linux)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# --- clients -------------------------------------------------------------------------------------------------------


def judge(record: dict, path: Path, expected: dict) -> str | None:
    """What is wrong with an answer; None where it is the right one for this file."""
    if record["file"] != path.name:
        return f"{path.name} got the answer of {record['file']}"
    if path.name not in expected:
        error = record["error"]
        return None if error and error.endswith(".") and "\n" not in error else f"{path.name} was not refused in a sentence"
    if record["error"]:
        return f"{path.name} was refused: {record['error']}"
    own = expected[path.name]
    same = np.allclose([record["physical"][name] for name in own["physical"]], list(own["physical"].values()), rtol=1e-5)
    near = abs(record["verdict"]["logit"] - own["verdict"]["logit"]) < 1e-3
    return None if same and near else f"{path.name} got other numbers than its own"


def ask_until(end: float, url: str, files: list[list[Path]], expected: dict, log: Log, seed: int) -> None:
    """One client: good and hostile files in its own order, one after another."""
    from gradio_client import Client, handle_file

    draw, client = random.Random(seed), Client(url, verbose=False)
    while time.monotonic() < end:
        path = draw.choice(files[draw.random() < HOSTILE_SHARE])
        start = time.monotonic()
        try:
            wrong = judge(client.predict(handle_file(str(path)), api_name="/analyze"), path, expected)
        except Exception as error:  # every failure counts, of whatever kind
            wrong = f"{path.name}, {end - time.monotonic():.0f} s before the end: {type(error).__name__}: {error}"
        with log.lock:
            log.seconds.append(time.monotonic() - start)
            log.outcomes["wrong" if wrong else "answered" if path.name in expected else "refused"] += 1
            log.wrong += [wrong] if wrong else []
    client.close()


def run(seconds: int, clients: int) -> Log:
    """The whole run: files, their expected answers, server, clients, memory."""
    from detector import Suite

    log = Log()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = good_files(folder)
        files = [good, hostile_files(folder, good[0])]
        suite = Suite.load()
        expected = {path.name: suite.analyze(path).to_dict() for path in good}
        server, url = start_server(folder)
        try:
            ask_until(time.monotonic() + 1, url, files, expected, Log(), 0)
            end = time.monotonic() + seconds
            threads = [threading.Thread(target=ask_until, args=(end, url, files, expected, log, seed)) for seed in range(clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads) and time.monotonic() < end + 120:
                log.memory.append(resident(server.pid))
                time.sleep(1)
        finally:
            server.kill()
            server.wait()
    return log


def report(log: Log, seconds: int, clients: int) -> bool:
    """Print the figures; whether all is well."""
    quarter = max(1, len(log.memory) // 4)
    early, late = float(np.median(log.memory[quarter : 2 * quarter])), float(np.median(log.memory[-quarter:]))
    print(f"{clients} clients, {seconds} s, {len(os.sched_getaffinity(0))} cores (server and clients together)")
    print(f"requests: {len(log.seconds)} ({len(log.seconds) / seconds:.2f} a second); {dict(log.outcomes)}")
    print(f"latency: median {np.median(log.seconds):.2f} s, 95 % below {np.quantile(log.seconds, 0.95):.2f} s")
    print(f"memory: start {log.memory[0]:.0f} MB, second quarter {early:.0f} MB, last quarter {late:.0f} MB, most {max(log.memory):.0f} MB")
    for wrong, count in Counter(log.wrong).most_common(20):
        print(f"WRONG {count}×: {wrong}")
    return not log.wrong and late - early < GROWTH and log.outcomes["answered"] > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help=f"length of the run, at most {LONGEST} (default: 60)")
    parser.add_argument("--clients", type=int, default=20, help=f"clients at once, at most {MOST_CLIENTS} (default: 20)")
    arguments = parser.parse_args()
    seconds, clients = min(arguments.seconds, LONGEST), min(arguments.clients, MOST_CLIENTS)
    sys.exit(0 if report(run(seconds, clients), seconds, clients) else 1)


if __name__ == "__main__":
    main()
