"""A few hundred broken files, and proof that the harness notices what it is there to notice."""

import os
import time

import pytest

from detector.data.images import load_photo

from . import workers
from .mutations import fuzzed
from .run import run
from .seeds import sound_files
from .workers import Worker, complaint

pytestmark = pytest.mark.slow

COUNT = 400


def test_every_broken_file_gives_a_photo_or_one_sentence():
    report = run(COUNT, seed=20)
    assert not report.offending
    assert sum(report.counts.values()) == COUNT and min(report.counts["ok"], report.counts["refused"]) > COUNT // 20


@pytest.mark.parametrize("name, data", sound_files().items())
def test_the_files_to_start_from_are_sound(name, data):
    if name.startswith("eps"):
        pytest.skip("refused by design; its bytes are for crossings")
    assert load_photo(data).pixels.size


def test_an_input_is_a_function_of_seed_and_number():
    files = sound_files()
    inputs = [fuzzed(files, 3, number) for number in range(40)]
    assert inputs == [fuzzed(files, 3, number) for number in range(40)]
    assert len({data for _, data in inputs}) > 35 and inputs != [fuzzed(files, 4, number) for number in range(40)]


FAULTS = {
    b"sleep": ("time-out", lambda: time.sleep(100)),
    b"exit": ("crash", lambda: os._exit(3)),
    b"raise": ("other exception", lambda: 1 / 0),
    b"write": ("output on stderr", lambda: os.write(2, b"a line from C")),
    b"memory": ("other exception", lambda: bytearray(2 * workers.MEMORY)),
}


def faulty(data: bytes):
    """In the place of `load_photo`: does what the input names."""
    return FAULTS[data][1]() or load_photo(sound_files()["png L"])


def serve_faulty(pipe) -> None:
    workers.load_photo = faulty
    serve(pipe)


serve = workers._serve


def test_every_kind_of_fault_is_noticed_and_the_worker_replaced(monkeypatch):
    monkeypatch.setattr(workers, "_serve", serve_faulty)
    worker = Worker(seconds=5)
    try:
        for data, (expected, _) in FAULTS.items():
            assert worker.read(data).kind == expected
        assert worker.read(b"write").words == "a line from C"
    finally:
        worker.close()


@pytest.mark.parametrize(
    "sentence, expected",
    [
        ("The file is damaged; save it again as PNG.", "refused"),
        ("The file is damaged", "bad sentence"),
        ("The file\nis damaged.", "bad sentence"),
        ("The file is damaged, see /usr/lib/x.py.", "bad sentence"),
        ("x" * 300 + ".", "bad sentence"),
        ("The file needs more memory than is free here; make it smaller and try again.", "memory"),
    ],
)
def test_a_sentence_is_judged(sentence, expected):
    assert complaint(sentence) == expected
