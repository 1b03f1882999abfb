"""The residual's numbers of single windows, for heads whose logit is a mean over an image's windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 16_384  # rows that are widened to float32 at a time


@dataclass(frozen=True)
class WindowRows:
    """values: (R, F) float16, the windows of all images one after another; counts: (B,) how many of them each image has, 1 or more."""

    values: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def join(cls, images: Sequence[np.ndarray]) -> WindowRows:
        """Of the (W, F) windows of each image. Half precision: it moves a number by less than a thousandth of itself."""
        return cls(np.concatenate(images).astype(np.float16), np.array([len(rows) for rows in images]))

    def rows(self, mask: np.ndarray) -> WindowRows:
        """The images of a boolean mask (B,)."""
        mask = np.asarray(mask, bool)
        return WindowRows(self.values[np.repeat(mask, self.counts)], self.counts[mask])

    def shared(self, weights: np.ndarray) -> np.ndarray:
        """(B,) weights of images → (R,): each window has its share of its image's weight."""
        return np.repeat(weights / self.counts, self.counts)

    def means(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(B, K): the mean over each image's windows of `function`, which maps (r, F) float32 to (r, K)."""
        chunks = range(0, len(self.values), _CHUNK)
        values = np.concatenate([function(self.values[start : start + _CHUNK].astype(np.float32)) for start in chunks])
        starts = np.cumsum(self.counts) - self.counts
        return np.add.reduceat(values, starts, axis=0) / self.counts[:, None]
