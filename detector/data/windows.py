"""Overlapping square windows over an image at its own resolution, for methods whose traces a resize would wipe out."""

from __future__ import annotations

from math import ceil

import numpy as np

VERSION = "windows-1"  # of where they lie; part of the key of cached features
Box = tuple[int, int, int, int]  # x0, y0, x1, y1


def _starts(length: int, size: int, count: int) -> list[int]:
    """`count` evenly spaced starts; mirrored, they are the same ones (but for a middle one that has no exact middle)."""
    if length <= size or count == 1:
        return [max(0, length - size) // 2]
    first = [int(i * (length - size) / (count - 1)) for i in range(count // 2)]
    middle = [(length - size) // 2] if count % 2 else []
    return first + middle + [length - size - start for start in reversed(first)]


def _counts(width: int, height: int, size: int, overlap: float, limit: int | None) -> tuple[int, int]:
    """Windows across and down: as many as cover the image with the overlap, or proportionally fewer."""
    step = size * (1 - overlap)
    across, down = (1 if length <= size else ceil((length - size) / step) + 1 for length in (width, height))
    while limit and across * down > limit:
        across, down = (across - 1, down) if across >= down else (across, down - 1)
    return across, down


def window_boxes(width: int, height: int, size: int, overlap: float = 0.25, limit: int | None = None) -> list[Box]:
    """Boxes of size × size pixels that cover the image and overlap by at least `overlap` of a side, row by row.

    limit: at most so many boxes, evenly spaced, which may leave gaps; None for as many as it takes. overlap: 0 up to below 1.
    On a side shorter than `size` a box ends at the image's edge.
    """
    across, down = _counts(width, height, size, overlap, limit)
    return [(x, y, min(x + size, width), min(y + size, height)) for y in _starts(height, size, down) for x in _starts(width, size, across)]


def crop_window(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """(size, size, 3) uint8, the pixels of a box. A smaller box is continued to the right and below by its mirror image."""
    x0, y0, x1, y1 = box
    window = pixels[y0:y1, x0:x1]
    padding = size - window.shape[0], size - window.shape[1]
    return np.pad(window, ((0, padding[0]), (0, padding[1]), (0, 0)), mode="symmetric") if max(padding) > 0 else window
