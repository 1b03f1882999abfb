"""A heatmap on its picture, in numbers and in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from detector.data.windows import Box
from interpret.attribution.cam import Heatmap, resize_map
from interpret.attribution.region import Region

OUTLINE_LIMIT = 12  # windows outlined one by one where some of the picture was not read; of more only the border around all
STRIP = 256  # rows blended at once


def _rgb(colour: str) -> np.ndarray:
    """ "rgb(0,114,178)" → three float32 numbers."""
    return np.array([int(part) for part in colour[4:-1].split(",")], np.float32)


def overlay(pixels: np.ndarray, heatmap: Heatmap, scale: float, opacity: float = 0.6, region: Region | None = None) -> Image.Image:
    """The (H, W, 3) image in grey under its map of the same size: orange for synthetic, blue for real, violet for an unsigned map, clear
    at 0
    and at NaN.

    In grey, so that every colour is evidence and none belongs to the picture.
    scale: the value at which the colour reaches `opacity` (0 to 1), from `reference_scales`; never from this image.
    The windows are outlined where they leave some of the picture unread; `region`, of the same size, with a double line.
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
    if region is not None:
        _draw_rings(blended, region)
    image = Image.fromarray(blended)
    if not np.isfinite(heatmap.values).all():
        _outline(image, heatmap.boxes)
    return image


def overlay_at(pixels: np.ndarray, heatmap: Heatmap, scale: float, opacity: float, region: Region | None) -> Image.Image:
    """`overlay` of a map of any size over the picture at its full size."""
    values = replace(heatmap, values=heatmap.values.astype(np.float32))
    return overlay(pixels, resize_map(values, pixels.shape[:2]), scale, opacity, region)


def _draw_rings(pixels: np.ndarray, region: Region) -> None:
    """Dark on white, so that the outline shows on any picture; drawn into `pixels`."""
    width = max(1, max(pixels.shape) // 400)
    for colour, thickness in (((255, 255, 255), 3 * width), ((40, 40, 40), width)):
        cv2.polylines(pixels, list(region.rings), True, colour, thickness, cv2.LINE_AA)


def _outline(image: Image.Image, boxes: Sequence[Box]) -> None:
    if len(boxes) > OUTLINE_LIMIT:  # a grid over the whole picture would hide it
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


def write(pixels: np.ndarray, heatmap: Heatmap, scale: float, path: Path, region: Region | None = None) -> list[Path]:
    """`path` with the suffixes .npy (float32, H × W of the picture) and .png (the overlay at the picture's size)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = resize_map(replace(heatmap, values=heatmap.values.astype(np.float32)), pixels.shape[:2])
    np.save(path.with_suffix(".npy"), full.values)
    overlay(pixels, full, scale, region=region).save(path.with_suffix(".png"))
    return [path.with_suffix(".npy"), path.with_suffix(".png")]
