"""Random windows that SDD is trained on: drawn one after another, cut, blurred and compressed by threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from detector.data.augmentation import recompress
from detector.data.windows import crop_window
from detector.methods.sdd.recipe import SddRecipe

WORKERS = min(8, os.cpu_count() or 1)  # threads that make windows; OpenCV lets go of the interpreter
AHEAD = 4  # batches that are made before they are asked for


@dataclass(frozen=True)
class Draw:
    """All that chance decides about a window: scale and its filter, place, whether it is mirrored, blur, JPEG quality."""

    place: tuple[int, int]  # x, y in the scaled picture
    mirrored: bool
    factor: float = 1.0
    kernel: int = cv2.INTER_AREA
    blur: float = 0.0
    quality: int = 0  # 0: not compressed


def draw_window(shape: tuple[int, ...], size: int, generator: np.random.Generator, plain: float = 0.0) -> Draw:
    """A window of a picture of `shape`, mirrored or not; but for a share `plain` of them also scaled by 0.7 to 1.4, sometimes blurred,
    often compressed once more. Drawn apart from `window_of`, so that threads can share that work and chance stays in order."""
    factor, kernel, blur, quality = 1.0, cv2.INTER_AREA, 0.0, 0
    changed = generator.random() >= plain
    if changed and generator.random() < 0.5:
        factor = generator.uniform(0.7, 1.4)
        kernel = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[generator.integers(3)]
    sides = (round(side * factor) for side in shape[:2])  # as OpenCV rounds
    y, x = (int(generator.integers(max(1, side - size + 1))) for side in sides)
    mirrored = bool(generator.random() < 0.5)
    if changed:
        blur = generator.uniform(0.3, 1.5) if generator.random() < 0.15 else 0.0
        quality = int(generator.integers(50, 101)) if generator.random() < 0.5 else 0
    return Draw((x, y), mirrored, factor, kernel, blur, quality)


def window_of(pixels: np.ndarray, size: int, draw: Draw) -> np.ndarray:
    """(H, W, 3) uint8 → the (size, size, 3) window that was drawn."""
    if draw.factor != 1.0:
        pixels = cv2.resize(pixels, None, fx=draw.factor, fy=draw.factor, interpolation=draw.kernel)
    x, y = draw.place
    window = crop_window(pixels, (x, y, min(x + size, pixels.shape[1]), min(y + size, pixels.shape[0])), size)
    window = np.ascontiguousarray(window[:, ::-1] if draw.mirrored else window)
    window = cv2.GaussianBlur(window, (0, 0), draw.blur) if draw.blur else window
    return recompress(window, ".jpg", draw.quality) if draw.quality else window


def random_window(pixels: np.ndarray, size: int, generator: np.random.Generator, plain: float = 0.0) -> np.ndarray:
    """A window as `draw_window` draws it."""
    return window_of(pixels, size, draw_window(pixels.shape, size, generator, plain))


def batches(pictures: Sequence[np.ndarray], labels: np.ndarray, size: int, recipe: SddRecipe, seed: tuple[int, int]) -> Iterator:
    """(windows (B, S, S, 3), labels (B,)) with as many real as synthetic ones, one epoch of the smaller class twice over.

    Threads make the windows a few batches ahead; what is drawn does not depend on their number.
    """
    generator = np.random.default_rng(seed)
    half = recipe.batch // 2
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    steps = max(1, len(labels) // recipe.batch)
    orders = [np.concatenate([generator.permutation(g) for _ in range(-(-steps * half // len(g)))]) for g in groups]

    def submit(step: int) -> tuple[list[Future], np.ndarray]:
        rows = np.concatenate([d[step * half : (step + 1) * half] for d in orders])
        draws = [draw_window(pictures[i].shape, size, generator, recipe.plain) for i in rows]
        return [pool.submit(window_of, pictures[i], size, draw) for i, draw in zip(rows, draws, strict=True)], labels[rows]

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        waiting = deque(map(submit, range(min(AHEAD, steps))))
        for step in range(steps):
            windows, targets = waiting.popleft()
            if step + AHEAD < steps:
                waiting.append(submit(step + AHEAD))
            yield np.stack([window.result() for window in windows]), targets
