"""A data folder on which every head has something to learn."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Real: soft noise. Synthetic: the same with a faint checkerboard. Splits train, val and test."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    grid = (np.indices((96, 96)).sum(0) % 2 * 24).astype(np.int64)[..., None]
    for split, count in (("train", 16), ("val", 12), ("test", 12)):
        for index in range(count):
            label = index % 2
            image = cv2.GaussianBlur(generator.integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 2) + label * grid
            path = folder / split / ("synthetic/grid" if label else "real") / f"{split}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return folder
