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
from detector.methods.sdd.splices import splice_windows, token_shares
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
    """`each` windows of each of N pictures, in temporary files. pixels: (N · each, S, S, 3) uint8; shares: (N · each, g, g) float16, the
    synthetic share of each token's square; weights: (N,) probabilities of the pictures. tokens: (N · each, 1 + T, D) float16, of the
    tower before its adapted blocks; None where training moves the whole tower."""

    pixels: np.ndarray
    tokens: np.ndarray | None
    shares: np.ndarray
    weights: np.ndarray

    def batches(self, recipe: SddRecipe, seed: tuple[int, int]) -> Iterator[WindowBatch]:
        """The batches of an epoch; the same for the same seed."""
        generator, each = np.random.default_rng(seed), len(self.pixels) // len(self.weights)
        for _ in range(steps_of(len(self.weights), recipe)):
            pictures = generator.choice(len(self.weights), recipe.batch, p=self.weights)
            rows = pictures * each + generator.integers(0, each, recipe.batch)
            tokens = None if self.tokens is None else self.tokens[rows]
            yield WindowBatch(self.pixels[rows], tokens, self.shares[rows])


@dataclass(frozen=True)
class WindowBatch:
    """pixels: (B, S, S, 3) uint8; tokens: (B, 1 + T, D) float16 or None; shares: (B, g, g) float16; all as in `WindowPool`."""

    pixels: np.ndarray
    tokens: np.ndarray | None
    shares: np.ndarray


def steps_of(pictures: int, recipe: SddRecipe) -> int:
    """Batches in an epoch over so many pictures."""
    return max(1, pictures * recipe.epoch_windows // recipe.batch)


@dataclass(frozen=True)
class WindowDraw:
    """Draws the windows of a picture: each picture's depend on the seed and its place alone."""

    pictures: LabelledPictures
    recipe: SddRecipe
    size: int
    grid: int
    seed: int

    def windows(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`recipe.windows` windows of a picture, (W, S, S, 3) uint8, and the synthetic share of their tokens, (W, g, g) float32."""
        generator, picture = np.random.default_rng((self.seed, index)), self.pictures.pixels[index]
        drawn = [random_window(picture, self.size, generator, self.recipe.plain) for _ in range(self.recipe.windows)]
        shares = [np.full((self.grid, self.grid), self.pictures.labels[index], np.float32) for _ in drawn]
        for i in range(round(self.recipe.splices * self.recipe.windows)):
            drawn[i], shares[i] = self._spliced(drawn[i], self.pictures.labels[index], generator)
        return np.stack(drawn), np.stack(shares)

    def _spliced(self, host: np.ndarray, label: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        donor = int(generator.integers(len(self.pictures.labels)))
        window, share = splice_windows(host, random_window(self.pictures.pixels[donor], self.size, generator, self.recipe.plain), generator)
        return window, token_shares(label + share * (self.pictures.labels[donor] - label), self.grid)


def draw_pool(pictures: LabelledPictures, head: SddHead, recipe: SddRecipe, seed: int) -> WindowPool:
    """Draw `recipe.windows` windows of every picture, and run the frozen blocks of the head's tower on them once."""
    count, each, grid = len(pictures.labels), recipe.windows, head.model.grid
    draw = WindowDraw(pictures, recipe, head.size, grid, seed)
    pixels, shares = _on_disk(np.uint8, (count * each, head.size, head.size, 3)), np.empty((count * each, grid, grid), np.float16)
    tokens = None
    for start in progress(range(0, count, CHUNK), title="sdd: windows"):
        indices = range(start, min(start + CHUNK, count))
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            windows, of_tokens = zip(*pool.map(draw.windows, indices), strict=True)
        drawn = np.concatenate(windows)
        rows = slice(start * each, start * each + len(drawn))
        pixels[rows], shares[rows] = drawn, np.concatenate(of_tokens)
        if not head.model.config.biases:  # which are trained in every block
            frozen = head.frozen_tokens(drawn)
            tokens = _on_disk(np.float16, (count * each, *frozen.shape[1:])) if tokens is None else tokens
            tokens[rows] = frozen
    weights = source_weights(pictures.labels, pictures.sources, recipe.power)
    return WindowPool(pixels, tokens, shares, weights / weights.sum())


def _on_disk(kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """An array in a file that has no name, so that nothing is left of it when the process ends, however it ends."""
    return np.memmap(tempfile.TemporaryFile(), np.dtype(kind), "w+", shape=shape)
