"""Small pictures in folders, and a small backbone of random weights, on which a picture takes milliseconds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import write_tiny

COUNT = 24
UNREADABLE = 7  # place of the file that is no picture


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("backbone") / "tiny"))


def write_pictures(folder: Path, count: int = COUNT) -> Path:
    """`count` JPEG files of 72 × 64 pixels in folders real and synthetic, one of them no picture."""
    generator = np.random.default_rng(0)
    for place in range(count):
        path = folder / ("real", "synthetic")[place % 2] / f"source-{place % 3}" / f"{place:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8), (72, 64))
        cv2.imwrite(str(path), cv2.add(pixels, generator.integers(0, 20, pixels.shape, dtype=np.uint8)))
        if place == UNREADABLE:
            path.write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "set")
