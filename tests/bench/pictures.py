"""The picture that the benchmarks measure on."""

import cv2
import numpy as np


def picture(megapixels: float) -> np.ndarray:
    """A 4:3 photograph-like picture: coloured texture at six scales, hard edges and grain; the same every time."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    generator = np.random.default_rng(0)
    planes = np.full((height, width, 3), 120, np.float32)
    for cells in (4, 12, 36, 108, 324, 972):
        coarse = generator.normal(0, 30 * (4 / cells) ** 0.5, (cells, cells, 3)).astype(np.float32)
        planes += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        top, left = (int(generator.integers(0, side)) for side in (height, width))
        planes[top : top + height // 6, left : left + width // 9] += generator.normal(0, 40, 3).astype(np.float32)
    planes += generator.normal(0, 5, planes.shape).astype(np.float32)
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)
