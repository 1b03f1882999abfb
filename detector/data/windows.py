"""Overlapping square windows over an image at its own resolution, for methods whose traces a resize would wipe out."""

from __future__ import annotations

from math import ceil

import numpy as np

VERSION = "windows-1"  # of where they lie; part of the key under which features are kept
Box = tuple[int, int, int, int]  # x0, y0, x1, y1


def _starts(length: int, size: int, count: int) -> list[int]:
    """`count` evenly spaced starts; mirrored, they are the same ones (but for a middle one that has no exact middle)."""
    if length <= size or count == 1:
        return [max(0, length - size) // 2]
    left = [int(i * (length - size) / (count - 1)) for i in range(count // 2)]
    middle = [(length - size) // 2] if count % 2 else []
    return left + middle + [length - size - start for start in reversed(left)]


def _counts(width: int, height: int, size: int, overlap: float, most: int | None) -> tuple[int, int]:
    """Windows across and down: as many as cover the image with the overlap, or proportionally fewer."""
    step = size * (1 - overlap)
    across, down = (1 if length <= size else ceil((length - size) / step) + 1 for length in (width, height))
    while most and across * down > most:
        across, down = (across - 1, down) if across >= down else (across, down - 1)
    return across, down


def window_boxes(width: int, height: int, size: int, overlap: float = 0.25, most: int | None = None) -> list[Box]:
    """Boxes of size × size pixels that cover the image and overlap by at least `overlap` of a side, row by row.

    `most`: at most so many, evenly spaced, which then may leave gaps. On a side shorter than `size` a box ends at the image's
    edge. overlap: 0 up to below 1.
    """
    across, down = _counts(width, height, size, overlap, most)
    return [(x, y, min(x + size, width), min(y + size, height)) for y in _starts(height, size, down) for x in _starts(width, size, across)]


def cut(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """(size, size, 3) the pixels of a box; one that is smaller is continued to the right and below by its mirror image."""
    x0, y0, x1, y1 = box
    window = pixels[y0:y1, x0:x1]
    missing = size - window.shape[0], size - window.shape[1]
    return np.pad(window, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric") if max(missing) > 0 else window
