"""Twenty visitors at once against the page on loopback: `python tests/bench/load.py --seconds 1800 --csv memory.csv`.

Each visit is a session of its own: an image, good or hostile, then some of the page's actions on it; some jobs are cancelled and some
connections dropped. Every answer is checked against the visitor's own file. The model is loaded before the clock starts. The
figures are printed in Markdown. Ends with code 1 if an answer belongs to another file, an error was not an intended one, or
memory grew by more than GROWTH. Not part of the tests: pin it to as many cores as are to be measured, for instance with
`taskset -c 0,1`.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

LONGEST, MOST_CLIENTS = 1800, 40  # seconds; clients
GROWTH = 50.0  # MB of resident memory between the third quarter of the run, when store and sessions are full, and its last
HOSTILE_SHARE, CANCELLED_SHARE, DROPPED_SHARE = 0.25, 0.1, 0.1  # of visits, of actions, of visits
MOST_ACTIONS = 3  # after an analysis
PHRASE, OPPOSITE = "a red temple", "a yellow flower"


@dataclass
class Log:
    """What the clients met, in the order in which it came. outcomes: of requests, by action and how it ended."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    outcomes: Counter = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)  # MB, once a second
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, action: str, outcome: str, start: float, wrong: str | None = None) -> None:
        """One request that began at `start`. wrong: what is wrong with its answer."""
        with self.lock:
            self.seconds.setdefault(action, []).append(time.monotonic() - start)
            self.outcomes[action, "wrong" if wrong else outcome] += 1
            self.wrong += [wrong] if wrong else []


# --- files ---------------------------------------------------------------------------------------------------------


def good_files(folder: Path, count: int = 16) -> list[Path]:
    """Crops of scikit-learn's photographs in four formats, each of a size of its own, by which its maps are told from others'."""
    from sklearn.datasets import load_sample_images

    generator, paths = np.random.default_rng(0), []
    for index in range(count):
        image = load_sample_images().images[index % 2]
        height, width = 300, 400 + 8 * index
        top, left = (int(generator.integers(0, whole - part)) for whole, part in zip(image.shape, (height, width), strict=False))
        path = folder / f"good{index}.{('jpg', 'png', 'webp', 'tiff')[index % 4]}"
        Image.fromarray(image[top : top + height, left : left + width]).save(path)
        paths.append(path)
    return paths


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hostile_files(folder: Path, good: Path) -> list[Path]:
    """Cut, empty, mislabelled, huge when unpacked, and made to keep a parser busy."""
    signature, header = b"\x89PNG\r\n\x1a\n", struct.Struct(">IIBBBBB")
    tags = b"".join(struct.pack("<HHII", 40_000 + i, 1, 2**20, 8) for i in range(500))
    contents = {
        "cut.jpg": good.read_bytes()[:3000],
        "empty.png": b"",
        "text.jpg": b"hello " * 50,
        "page.jpg": b"<html></html>",
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


# --- what is right -------------------------------------------------------------------------------------------------


def expectations(paths: list[Path]) -> dict[str, dict]:
    """File name → its record, its own probe's activation and its size, computed here."""
    from detector import Suite
    from detector.data.images import load_photo
    from interpret.concepts import probe

    suite, expected = Suite.load(), {}
    for path in paths:
        photo = load_photo(path)
        evidence = suite.evidence([photo])
        record = suite.analyses([photo], evidence)[0].to_dict()
        expected[path.name] = {
            "record": record,
            "size": (photo.width, photo.height),
            "activation": probe(suite, evidence, PHRASE, OPPOSITE).activation,
        }
    return expected


def judge(record: dict, path: Path, expected: dict) -> str | None:
    """What is wrong with an analysis; None where it is the right one for this file."""
    if record["file"] != path.name:
        return f"{path.name} got the answer of {record['file']}"
    if path.name not in expected:
        error = record["error"]
        return None if error and error.endswith(".") and "\n" not in error else f"{path.name} was not refused in a sentence"
    if record["error"]:
        return f"{path.name} was refused: {record['error']}"
    own = expected[path.name]["record"]
    same = np.allclose([record["physical"][name] for name in own["physical"]], list(own["physical"].values()), rtol=1e-5)
    near = abs(record["verdict"]["logit"] - own["verdict"]["logit"]) < 1e-3
    return None if same and near else f"{path.name} got other numbers than its own"


def _own_stability(answer, own: dict) -> bool:
    """The first row is the image as it is: its own verdict."""
    table = answer[2]["value"] if "value" in answer[2] else answer[2]
    percent, verdict = table["data"][0][1].split(" % "), own["record"]["verdict"]
    return abs(int(percent[0]) - 100 * verdict["probability"]) <= 1 and percent[1] == verdict["label"]


def _own_picture(answer, own: dict) -> bool:
    """The picture has the image's own shape."""
    value = answer.get("value", answer) if isinstance(answer, dict) else answer
    with Image.open(value["path"] if isinstance(value, dict) else value) as picture:
        return abs(picture.width / picture.height - own["size"][0] / own["size"][1]) < 0.008


def _own_probe(answer, own: dict) -> bool:
    return abs(float(re.search(r"activation \\?([+−-][\d.]+)", answer[0]).group(1).replace("−", "-")) - own["activation"]) < 2e-3


def _own_switch(answer, own: dict) -> bool:
    logit = float(re.search(r"orthogonal: logit ([+-][\d.]+)", answer).group(1))
    return abs(logit - own["record"]["detectors"]["orthogonal"]["logit"]) < 0.011


ACTIONS = {  # name → arguments, whether the answer is of the visitor's own image
    "stability": ((), _own_stability),
    "heatmap": (("windows", 0.6, "quick"), lambda answer, own: "{} × {}".format(*own["size"]) in answer[0]),
    "caption_view": ((0,), _own_picture),
    "probe": ((PHRASE, OPPOSITE), _own_probe),
    "switch_off": ((["unit 1"], []), _own_switch),
    "json_record": ((), lambda answer, own: f'"width": {own["size"][0]}' in Path(answer).read_text(encoding="utf-8")),
}


# --- visitors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """What a visitor needs to know. files: good and hostile ones. end: of the run, on the monotonic clock."""

    url: str
    files: tuple[list[Path], list[Path]]
    expected: dict
    end: float


def visit(site: Site, draw: random.Random, log: Log) -> None:
    """One session: an analysis, then actions on it."""
    from gradio_client import Client, handle_file

    path = draw.choice(site.files[draw.random() < HOSTILE_SHARE])
    client, start, own = Client(site.url, verbose=False), time.monotonic(), site.expected.get(path.name)
    try:
        wrong = judge(client.predict(handle_file(str(path)), api_name="/analyze"), path, site.expected)
        log.add("analyze", "answered" if own else "refused", start, wrong)
        for _ in range(draw.randint(0, MOST_ACTIONS) if own else 0):
            if time.monotonic() < site.end:
                act(client, draw, path.name, own, log)
    finally:
        client.close()


def act(client, draw: random.Random, name: str, own: dict, log: Log) -> None:
    """One action on the image analysed last; some are cancelled."""
    action = draw.choice(list(ACTIONS))
    (arguments, right), start = ACTIONS[action], time.monotonic()
    job = client.submit(*arguments, api_name=f"/{action}")
    if draw.random() < CANCELLED_SHARE:
        time.sleep(draw.random() * 2)
        job.cancel()
        return log.add(action, "cancelled", start)
    try:
        answer = job.result()
        wrong = None if right(answer, own) else f"{name}: {action} does not speak of it: {str(answer)[:200]}"
    except Exception as error:
        wrong = f"{name}, {action}: {type(error).__name__}: {error}"
    log.add(action, "answered", start, wrong)


def drop(site: Site, draw: random.Random, log: Log) -> None:
    """A visitor who closes the connection while the analysis waits or runs."""
    import httpx

    start, path = time.monotonic(), draw.choice(site.files[0])
    with httpx.Client(base_url=f"{site.url}/gradio_api", timeout=60) as web:
        upload = web.post("/upload", files={"files": (path.name, path.read_bytes())}).json()[0]
        image = {"path": upload, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [image, "embedded", "combined"], "session_hash": uuid.uuid4().hex}
        event = web.post("/call/analyze", json=body).json()["event_id"]
        with web.stream("GET", f"/call/analyze/{event}"):
            time.sleep(draw.random() * 4)
    log.add("analyze", "dropped", start)


def visit_until(site: Site, log: Log, seed: int) -> None:
    """One visitor after another."""
    draw = random.Random(seed)
    while time.monotonic() < site.end:
        start = time.monotonic()
        try:
            (drop if draw.random() < DROPPED_SHARE else visit)(site, draw, log)
        except Exception as error:  # every failure counts, of whatever kind
            log.add("visit", "wrong", start, f"{type(error).__name__}: {error}")


def run(seconds: int, clients: int) -> Log:
    """The whole run: files, their expected answers, server, clients, memory."""
    log = Log()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = good_files(folder)
        hostile, expected = hostile_files(folder, good[0]), expectations(good)
        server, url = start_server(folder)
        try:
            visit(Site(url, (good, hostile), expected, 0.0), random.Random(0), Log())
            site = Site(url, (good, hostile), expected, time.monotonic() + seconds)
            threads = [threading.Thread(target=visit_until, args=(site, log, seed)) for seed in range(clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads) and time.monotonic() < site.end + 120:
                log.memory.append(resident(server.pid))
                time.sleep(1)
        finally:
            server.kill()
            server.wait()
    return log


# --- figures -------------------------------------------------------------------------------------------------------


def slope(memory: list[float]) -> float:
    """MB a minute over the last half, by least squares."""
    late = memory[len(memory) // 2 :]
    return 60 * float(np.polyfit(np.arange(len(late)), late, 1)[0]) if len(late) > 1 else 0.0


def report(log: Log, seconds: int, clients: int) -> bool:
    """Print the figures in Markdown; whether all is well."""
    quarter = max(1, len(log.memory) // 4)
    early, late = float(np.median(log.memory[2 * quarter : 3 * quarter])), float(np.median(log.memory[-quarter:]))
    total = sum(map(len, log.seconds.values()))
    print(
        f"{clients} clients, {seconds} s, {len(os.sched_getaffinity(0))} cores (server and clients together): "
        f"{total} requests, {total / seconds:.2f} a second, {len(log.wrong)} wrong.\n"
    )
    print("| action | requests | how they ended | median s | 95 % below s |\n|---|---|---|---|---|")
    for action, times in sorted(log.seconds.items()):
        ends = ", ".join(f"{count} {end}" for (name, end), count in sorted(log.outcomes.items()) if name == action)
        print(f"| {action} | {len(times)} | {ends} | {np.median(times):.2f} | {np.quantile(times, 0.95):.2f} |")
    print("\n| minute | resident MB, median |\n|---|---|")
    for start in range(0, len(log.memory), 60):
        print(f"| {start // 60 + 1} | {np.median(log.memory[start : start + 60]):.0f} |")
    print(
        f"\nMemory: start {log.memory[0]:.0f} MB, third quarter {early:.0f} MB, last quarter {late:.0f} MB, most "
        f"{max(log.memory):.0f} MB; {slope(log.memory):+.1f} MB a minute over the last half.\nBound on the growth "
        f"between those quarters: {GROWTH:.0f} MB."
    )
    for wrong, count in Counter(log.wrong).most_common(20):
        print(f"WRONG {count}×: {wrong}")
    return not log.wrong and late - early < GROWTH and log.outcomes["analyze", "answered"] > 0


def write_curve(memory: list[float], path: Path) -> None:
    """CSV: second, resident MB."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("second", "resident_mb"), *((i, f"{mb:.1f}") for i, mb in enumerate(memory))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help=f"length of the run, at most {LONGEST} (default: 60)")
    parser.add_argument("--clients", type=int, default=20, help=f"clients at once, at most {MOST_CLIENTS} (default: 20)")
    parser.add_argument("--csv", type=Path, help="also write resident memory, second by second, to this file")
    arguments = parser.parse_args()
    seconds, clients = min(arguments.seconds, LONGEST), min(arguments.clients, MOST_CLIENTS)
    log = run(seconds, clients)
    if arguments.csv:
        write_curve(log.memory, arguments.csv)
    sys.exit(0 if report(log, seconds, clients) else 1)


if __name__ == "__main__":
    main()
