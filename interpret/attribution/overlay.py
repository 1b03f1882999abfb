"""A heatmap on its picture, in numbers and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from detector.data.windows import Box
from interpret.attribution.cam import DEFAULT_LAYER, Heatmap

OUTLINE_LIMIT = 12  # windows outlined one by one where some of the picture was not read; of more only the border around all
STRIP = 256  # rows blended at once


def _rgb(colour: str) -> np.ndarray:
    """ "rgb(0,114,178)" → three float32 numbers."""
    return np.array([int(part) for part in colour[4:-1].split(",")], np.float32)


def overlay(pixels: np.ndarray, heatmap: Heatmap, scale: float, opacity: float = 0.6) -> Image.Image:
    """The image in grey under its map: orange for synthetic, blue for real, violet for an unsigned map, clear at 0 and at NaN.

    In grey, so that every colour is evidence and none belongs to the picture.
    scale: the value at which the colour reaches `opacity` (0 to 1), from `reference_scales`; never from this image.
    The windows are outlined: as a whole where they cover the picture, else one by one.
    """
    from interpret.render.figures import INK, REAL, SYNTHETIC  # plotly is slow to import, and a map needs none of it

    above, below = _rgb(SYNTHETIC if heatmap.signed else INK), _rgb(REAL)
    blended = np.empty_like(pixels)
    for start in range(0, len(pixels), STRIP):  # a large photograph in float would not fit a small server's memory
        rows_ = slice(start, start + STRIP)
        share = np.clip(np.nan_to_num(heatmap.values[rows_]) / scale, -1, 1)[..., None]
        alpha = opacity * np.abs(share)
        grey = cv2.cvtColor(pixels[rows_], cv2.COLOR_RGB2GRAY)[..., None]
        blended[rows_] = np.rint(grey * (1 - alpha) + alpha * np.where(share > 0, above, below))
    image = Image.fromarray(blended)
    _outline(image, heatmap.boxes, whole=bool(np.isfinite(heatmap.values).all()))
    return image


def _outline(image: Image.Image, boxes: Sequence[Box], whole: bool) -> None:
    if boxes and (whole or len(boxes) > OUTLINE_LIMIT):  # a grid over the whole picture would hide it
        left, top, right, bottom = zip(*boxes, strict=True)
        boxes = [(min(left), min(top), max(right), max(bottom))]
    draw, width = ImageDraw.Draw(image), max(1, max(image.size) // 600)
    for x0, y0, x1, y1 in boxes:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 255, 255), width=2 * width)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(40, 40, 40), width=width)


def rows(heatmap: Heatmap, scale: float) -> list[list[str]]:
    """The map in nine rows: region, mean evidence, and the side that it speaks for ("little" below a tenth of the scale)."""
    table = []
    for vertical, band in zip(("top", "middle", "bottom"), np.array_split(heatmap.values, 3, axis=0), strict=True):
        for horizontal, region in zip(("left", "centre", "right"), np.array_split(band, 3, axis=1), strict=True):
            table.append([f"{vertical} {horizontal}", *_reading(region, scale, heatmap.signed)])
    return table


def _reading(region: np.ndarray, scale: float, signed: bool) -> tuple[str, str]:
    finite = region[np.isfinite(region)]
    if not finite.size:
        return "", "not read"
    mean = float(finite.mean())
    if abs(mean) < scale / 10:
        return f"{mean:+.2f}", "little"
    return f"{mean:+.2f}", ("synthetic" if mean > 0 else "real") if signed else "much"


def write(
    heatmaps: Mapping[str, Heatmap], folder: Path, pixels: np.ndarray, scales: Mapping[str, float], default: str = DEFAULT_LAYER
) -> list[Path]:
    """`<layer>.npy` (float32, H×W) and `<layer>.png` (overlay) for each map; the default layer's are named `sdd`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for layer, heatmap in heatmaps.items():
        path = folder / f"{'sdd' if layer == default else layer}.npy"
        np.save(path, heatmap.values)
        overlay(pixels, heatmap, scales[layer]).save(path.with_suffix(".png"))
        paths += [path, path.with_suffix(".png")]
    return paths
