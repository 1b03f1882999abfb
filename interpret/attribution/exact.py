"""Maps that are the method's logit, place by place, without a gradient: `residual` by windows, `sdd` by tokens.

* `residual` (`RESIDUAL_LAYER`): the logits of densely overlapping windows, merged with weights that fade towards a window's edge. The
  windows that the score rests on stand first among `Heatmap.boxes`, and the mean of their `logits` is the method's logit.
* tokens of SDD (`TOKEN_LAYER`): the logit of each token of the windows that the score rests on, the mean where windows overlap. The mean of
  the map, each place weighted by the number of windows over it (`coverage`), is the method's logit. Only heads whose windows' logit is
  a mean over tokens have it.
* both together (`COMBINED_LAYER`): the mean of these two, smoothed. Smoothing moves evidence between places, so that it is no longer exact.

Any map has a second form, `standing_out`: how far a place differs from the rest of its own picture. It forgets what the detector says of
the picture as a whole and asks only which part is unlike the others. Choices, not from a paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from detector.data.windows import Box, crop_window
from detector.methods.residual.dense import LIMIT, dense_windows
from detector.methods.residual.features import WINDOW
from detector.methods.residual.head import ResidualHead
from interpret.attribution import cam
from interpret.attribution.cam import Heatmap, Progress, WindowHead

RESIDUAL_LAYER = "residual"
TOKEN_LAYER = "token_logits"
COMBINED_LAYER = "combined"
NATIVE = (TOKEN_LAYER, RESIDUAL_LAYER, COMBINED_LAYER)  # read what the scores read: the picture's own resolution
SMOOTHING = 16.0  # pixels, standard deviation of the combined map's (choice, on 160 splices of validation images)
LEAST_WEIGHT = 0.05  # share of a place's smoothed neighbourhood that must have been read
STANDING_OUT_SCALE = 3.0  # robust standard deviations at full colour (choice: what 0.3 % of normally distributed places exceed)
NORMAL_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
SAMPLE = 4  # pixels between the places by which a picture's spread is measured


@dataclass(frozen=True)
class MapHeads:
    """The heads whose evidence has places. residual: None where there is none."""

    sdd: WindowHead
    residual: ResidualHead | None = None

    def layers(self) -> list[str]:
        """All maps that `maps` makes, the exact ones and their combination before those by gradients."""
        windows, *gradients = cam.layers_of(self.sdd)
        has = {TOKEN_LAYER: getattr(self.sdd, "has_token_logits", False), RESIDUAL_LAYER: self.residual is not None}
        has[COMBINED_LAYER] = all(has.values())
        return [windows, *(layer for layer in NATIVE if has[layer]), *gradients]


@dataclass(frozen=True)
class Reading:
    """How a picture is read. window_limit: windows of SDD at most, on a reduced copy of a larger picture; None: no limit. dense_limit:
    windows of `residual` at most. progress: called with (windows of SDD done, in all)."""

    window_limit: int | None = None
    dense_limit: int = LIMIT
    progress: Progress | None = None


def maps(heads: MapHeads, pixels: np.ndarray, layers: Sequence[str] | None = None, reading: Reading = Reading()) -> dict[str, Heatmap]:
    """Layer → map of an (H, W, 3) uint8 picture, (H, W) each; layers None: all, in the order of `MapHeads.layers`."""
    layers = heads.layers() if layers is None else list(layers)
    by_gradient = [layer for layer in layers if layer not in NATIVE]
    results = cam.heatmaps(heads.sdd, pixels, by_gradient, reading.window_limit, progress=reading.progress) if by_gradient else {}
    if {TOKEN_LAYER, COMBINED_LAYER} & set(layers):
        results[TOKEN_LAYER] = token_map(heads.sdd, pixels)
    if {RESIDUAL_LAYER, COMBINED_LAYER} & set(layers) and heads.residual is not None:
        results[RESIDUAL_LAYER] = residual_map(heads.residual, pixels, reading.dense_limit)
    if COMBINED_LAYER in layers:
        results[COMBINED_LAYER] = combined_map(results[TOKEN_LAYER], results[RESIDUAL_LAYER])
    return {layer: results[layer] for layer in layers}


def combined_map(tokens: Heatmap, residual: Heatmap) -> Heatmap:
    """The mean of both maps, smoothed by `SMOOTHING` pixels over the places that both have read; its logit is the mean of both logits.
    NaN where neither token nor window lies near."""
    values = (tokens.values.astype(np.float32) + residual.values) / 2
    known = np.isfinite(values)
    total, weight = (_smoothed(part) for part in (np.where(known, values, 0), known))
    smooth = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > LEAST_WEIGHT)
    return Heatmap(smooth, COMBINED_LAYER, tokens.boxes, tokens.logits, (tokens.logit + residual.logit) / 2)


def _smoothed(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), SMOOTHING, borderType=cv2.BORDER_REFLECT)


def residual_map(head: ResidualHead, pixels: np.ndarray, limit: int = LIMIT) -> Heatmap:
    """The map of windows of `residual`; `boxes` are cut at the picture's edges. limit: windows read at most."""
    height, width = pixels.shape[:2]
    dense = dense_windows(head, pixels, limit)
    boxes = [(x0, y0, min(x1, width), min(y1, height)) for x0, y0, x1, y1 in dense.boxes]
    values = cam.merged(pixels.shape[:2], boxes, dense.logits, WINDOW)
    return Heatmap(values, RESIDUAL_LAYER, tuple(boxes[: dense.scored]), dense.logits[: dense.scored], dense.logit)


def token_map(head: Any, pixels: np.ndarray) -> Heatmap:
    """The map of the tokens' logits over the windows that the score rests on; NaN where none of them lies.

    Of a picture smaller than a window the mirrored part counts where its pixels come from. HeadError where the head has no such logits.
    """
    boxes = head.boxes(pixels)
    tokens = head.token_logits([crop_window(pixels, box, head.size) for box in boxes])
    total, count = np.zeros(pixels.shape[:2], np.float32), coverage_counts(pixels.shape[:2], boxes, head.size)
    for box, grid in zip(boxes, tokens, strict=True):
        cell = head.size // grid.shape[0]
        _add_folded(total, box, np.kron(grid, np.ones((cell, cell))))
    values = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    logits = tokens.mean((1, 2))
    return Heatmap(values, TOKEN_LAYER, tuple(boxes), logits, float(head.pool(logits)))


def coverage(shape: tuple[int, int], boxes: Sequence[Box], size: int) -> np.ndarray:
    """(H, W) float64 that sums to 1: each place's weight in the mean of a `token_map` that is the logit."""
    count = coverage_counts(shape, boxes, size)
    return count / count.sum(dtype=np.float64)


def coverage_counts(shape: tuple[int, int], boxes: Sequence[Box], size: int) -> np.ndarray:
    """(H, W): how often the windows at `boxes` read each pixel, with the mirrored part of a window that is larger than the picture."""
    count = np.zeros(shape, np.float32)
    for box in boxes:
        _add_folded(count, box, np.ones((size, size)))
    return count


def _add_folded(canvas: np.ndarray, box: Box, values: np.ndarray) -> None:
    """Add a window's values where its pixels come from: the inverse of `crop_window`."""
    x0, y0, x1, y1 = box
    rows, columns = (np.pad(np.arange(*ends), (0, len(values) - (ends[1] - ends[0])), mode="symmetric") for ends in ((y0, y1), (x0, x1)))
    np.add.at(canvas, np.ix_(rows, columns), values)


def standing_out(heatmap: Heatmap) -> Heatmap:
    """The same map as robust z-scores against its own picture: (value − median) / (1.4826 · median absolute deviation).

    Above 0: speaks more for synthetic than the rest of the picture. Zero everywhere where more than half of the places are equal.
    """
    sample = heatmap.values[::SAMPLE, ::SAMPLE].astype(np.float32)
    values = robust_scores(heatmap.values, sample[np.isfinite(sample)])
    return replace(heatmap, values=values.astype(heatmap.values.dtype))


def robust_scores(values: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """(value − median) / (1.4826 · median absolute deviation), both of the `sample`; NaN stays."""
    if not sample.size:
        return values
    centre = np.median(sample)
    spread = NORMAL_MAD * np.median(np.abs(sample - centre))
    return (values - centre) / spread if spread > 0 else np.where(np.isfinite(values), 0.0, np.nan)
