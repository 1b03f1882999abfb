"""Densely overlapping windows of one picture, with the logit of each: what the map of `residual` is made of.

The windows that the method's score rests on stand among them, so that the score is read off the map: of a head with `pooling: windows` it
is the mean of these windows' logits, each the head's own logit of that window. A head that pools the image's numbers first has no
logit of a window; there a window's value is its exact share, see `shares_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.data.windows import Box, window_boxes
from detector.methods.residual.features import FIRST_CELL, WINDOW, features, padded, pool_windows, scored_boxes, window_features
from detector.methods.residual.head import CLIP, ResidualHead
from detector.methods.residual.window_rows import WindowRows
from detector.steps import checkpoint

STRIDE = 32  # pixels between two windows, at most (choice: a quarter of a window)
LIMIT = 1024  # windows read at most (choice: 4 s); a picture of more than 1,100 pixels has wider steps


@dataclass(frozen=True)
class DenseWindows:
    """boxes: x0, y0, x1, y1 of each window in the padded picture. logits: (K,), higher speaks for synthetic. scored: how many of them, the
    first ones, the score rests on; the mean of their logits is the method's logit."""

    boxes: list[Box]
    logits: np.ndarray
    scored: int

    @property
    def logit(self) -> float:
        """The method's logit for the picture."""
        return float(self.logits[: self.scored].mean())


def dense_windows(head: ResidualHead, pixels: np.ndarray, limit: int = LIMIT) -> DenseWindows:
    """Windows of an (H, W, 3) uint8 picture: those of its score, then others every `STRIDE` pixels or, to stay within `limit`, fewer."""
    picture = padded(pixels)
    height, width = picture.shape[:2]
    scored = scored_boxes(height, width)
    boxes = list(dict.fromkeys([*scored, *window_boxes(width, height, WINDOW, 1 - STRIDE / WINDOW, limit)]))
    rows = np.stack([_features(picture, box) for box in boxes])
    if head.pooling == "windows":
        rows = WindowRows.join([rows]).values.astype(np.float32)  # in the precision in which the score reads them
        return DenseWindows(boxes, head.logits(rows).astype(np.float64), len(scored))
    return DenseWindows(boxes, shares_of(head, rows, len(scored)), len(scored))


def _features(picture: np.ndarray, box: Box) -> np.ndarray:
    checkpoint()
    x0, y0, x1, y1 = box
    return features(picture[y0:y1, x0:x1])


def shares_of(head: ResidualHead, rows: np.ndarray, scored: int) -> np.ndarray:
    """(K, F) features of windows, of which the first `scored` make the image's -> (K,) logits whose mean over these is the image's logit.

    The image's histogram is the mean of the windows', and its feature the root of that, so a window's share of the feature is its own
    histogram over that root. Where the head clips a feature, all windows' shares are cut in proportion.
    """
    pooled = pool_windows(rows[:scored]).astype(np.float64)
    standard = (pooled - head.mean) / head.scale
    slopes = head.weight / head.scale * np.minimum(1.0, CLIP / np.maximum(np.abs(standard), 1e-9))
    parts = rows.astype(np.float64)
    roots = pooled[FIRST_CELL:]
    parts[:, FIRST_CELL:] = np.divide(parts[:, FIRST_CELL:] ** 2, roots, out=np.zeros_like(parts[:, FIRST_CELL:]), where=roots > 0)
    return (parts - head.mean) @ slopes + float(head.bias)


def picture_logits(head: ResidualHead, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(B,) logits of (H, W, 3) uint8 pictures, as the method scores them."""
    if head.pooling == "windows":
        return head.logits(WindowRows.join([window_features(pixels) for pixels in pictures]))
    return head.logits(np.stack([features(pixels) for pixels in pictures]))
