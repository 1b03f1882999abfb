"""Freed memory goes back to the system."""

import subprocess
import sys

import pytest

from interpret.panels import memory

CODE = """
import threading
import numpy as np
from interpret.panels.memory import give_back_freed_memory
if {set_up} and not give_back_freed_memory():
    raise SystemExit(3)
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
def work():
    large = np.ones(30 * 2**20, np.uint8)
    del large  # glibc now keeps blocks of up to this size for later
    blocks = [np.ones(2 * 2**20, np.uint8) for _ in range(100)]
    pins = []
    while blocks:
        blocks.pop()
        pins.append(np.ones(2000, np.uint8))
    left.append(pins)
left, before = [], resident()
for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(resident() - before)
"""


def growth(set_up: bool) -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(set_up=set_up)], capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("this C library has no such settings")
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_threads_free_is_given_back():
    assert growth(True) < 30 < growth(False)


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.give_back_freed_memory() is False
