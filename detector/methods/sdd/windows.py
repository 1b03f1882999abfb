"""Random windows that SDD is trained on: drawn once, so that the blocks of the tower that training leaves alone read them once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from detector.data.augmentation import augment
from detector.data.datasets import Example, Pictures
from detector.data.sources import source_weights
from detector.data.windows import crop_window
from detector.methods.sdd.head import SddHead
from detector.methods.sdd.recipe import SddRecipe
from detector.progress import progress

CHUNK = 16  # pictures whose windows are made and read together
WORKERS = min(8, os.cpu_count() or 1)  # threads that make windows; OpenCV lets go of the interpreter


def random_window(pixels: np.ndarray, size: int, generator: np.random.Generator, plain: float = 0.0) -> np.ndarray:
    """(H, W, 3) uint8 → a (size, size, 3) window at a random place, mirrored or not: with probability `plain` of the picture as it
    is, else of a random copy of it (`augment`)."""
    view = pixels if generator.random() < plain else augment(pixels, generator)
    y, x = (int(generator.integers(max(1, side - size + 1))) for side in view.shape[:2])
    window = crop_window(view, (x, y, min(x + size, view.shape[1]), min(y + size, view.shape[0])), size)
    return np.ascontiguousarray(window[:, ::-1] if generator.random() < 0.5 else window)


@dataclass(frozen=True)
class LabelledPictures:
    """pixels: N images (H, W, 3) uint8, decoded at each access; labels: (N,), 1 synthetic; sources: (N,) names."""

    pixels: Sequence[np.ndarray]
    labels: np.ndarray
    sources: np.ndarray

    @classmethod
    def of(cls, examples: Sequence[Example]) -> LabelledPictures:
        return cls(Pictures(examples), np.array([e.label for e in examples]), np.array([e.source for e in examples]))


@dataclass(frozen=True)
class WindowPool:
    """`each` windows of each of N pictures, in temporary files. pixels: (N · each, S, S, 3) uint8; labels: (N,); weights: (N,)
    probabilities of the pictures. tokens: (N · each, 1 + T, D) float16, of the tower before its adapted blocks; None where training
    moves the whole tower."""

    pixels: np.ndarray
    tokens: np.ndarray | None
    labels: np.ndarray
    weights: np.ndarray

    def batches(self, recipe: SddRecipe, seed: tuple[int, int]) -> Iterator[WindowBatch]:
        """The batches of an epoch; the same for the same seed."""
        generator, each = np.random.default_rng(seed), len(self.pixels) // len(self.labels)
        for _ in range(steps_of(len(self.labels), recipe)):
            pictures = generator.choice(len(self.labels), recipe.batch, p=self.weights)
            rows = pictures * each + generator.integers(0, each, recipe.batch)
            tokens = None if self.tokens is None else self.tokens[rows]
            yield WindowBatch(self.pixels[rows], tokens, self.labels[pictures])


@dataclass(frozen=True)
class WindowBatch:
    """pixels: (B, S, S, 3) uint8; tokens: (B, 1 + T, D) float16 or None, as in `WindowPool`; labels: (B,)."""

    pixels: np.ndarray
    tokens: np.ndarray | None
    labels: np.ndarray


def steps_of(pictures: int, recipe: SddRecipe) -> int:
    """Batches in an epoch over so many pictures."""
    return max(1, pictures * recipe.epoch_windows // recipe.batch)


def draw_pool(pictures: LabelledPictures, head: SddHead, recipe: SddRecipe, seed: int) -> WindowPool:
    """Draw `recipe.windows` windows of every picture, and run the frozen blocks of the head's tower on them once."""
    count, each = len(pictures.labels), recipe.windows
    pixels = _on_disk(np.uint8, (count * each, head.size, head.size, 3))
    tokens = None

    def windows_of(index: int) -> np.ndarray:
        generator, picture = np.random.default_rng((seed, index)), pictures.pixels[index]
        return np.stack([random_window(picture, head.size, generator, recipe.plain) for _ in range(each)])

    for start in progress(range(0, count, CHUNK), title="sdd: windows"):
        indices = range(start, min(start + CHUNK, count))
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            drawn = np.concatenate(list(pool.map(windows_of, indices)))
        rows = slice(start * each, start * each + len(drawn))
        pixels[rows] = drawn
        if not head.model.config.biases:  # which are trained in every block
            frozen = head.frozen_tokens(drawn)
            tokens = _on_disk(np.float16, (count * each, *frozen.shape[1:])) if tokens is None else tokens
            tokens[rows] = frozen
    weights = source_weights(pictures.labels, pictures.sources, recipe.power)
    return WindowPool(pixels, tokens, pictures.labels, weights / weights.sum())


def _on_disk(kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """An array in a file that has no name, so that nothing is left of it when the process ends, however it ends."""
    return np.memmap(tempfile.TemporaryFile(), np.dtype(kind), "w+", shape=shape)
