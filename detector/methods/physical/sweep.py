"""One sweep over the pixels: the sums from which `features` makes the descriptors, band by band.

Luminance is kept as whole numbers, 255000 for white: every filter below then stays under 2²⁴ and is exact in float32.
The image's rounded mean is subtracted, which changes no filter and keeps the sums of squares free of cancellation.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np

WHITE = 255_000.0  # luminance of white in the whole numbers below
_WEIGHTS = (299.0, 587.0, 114.0)
_EDGE = 0.1 * 4 * 2**0.5 * WHITE  # a tenth of √(gx² + gy²) with both Sobel responses at their largest, 4 (choice)
BAND = 2**17  # pixels handled at once, so that a band stays in the processor's cache
SINGLE = 2**20  # pixels above which the spectrum is computed in float32: its rounding then averages out


def sweep(pixels: np.ndarray) -> tuple[Counter, np.ndarray]:
    """All sums that the descriptors need, gathered in bands of rows, and Y · Hann window for the spectrum."""
    height, width = pixels.shape[:2]
    mean = round(float(np.dot(cv2.mean(pixels)[:3], _WEIGHTS)))
    windowed = np.empty((height, width), np.float32 if height * width > SINGLE else np.float64)
    across = (np.hanning(width) / WHITE).astype(windowed.dtype)
    down = np.hanning(height)[:, None].astype(windowed.dtype)
    sums: Counter = Counter(_border_sums(pixels, mean))
    step = max(8, BAND // width)
    for first in range(0, height, step):
        last = min(first + step, height)
        band = pixels[_mirrored(first - 1, last + 1, height)]
        padded = cv2.copyMakeBorder(_luminance(band, mean), 0, 0, 1, 1, cv2.BORDER_REFLECT_101)
        inside = padded[1:-1, 1:-1]
        np.multiply(inside + np.float32(mean), across, out=windowed[first:last])
        windowed[first:last] *= down[first:last]
        sums.update(_edge_sums(padded))
        sums.update(_residual_sums(padded))
        sums.update(_noise_sums(padded[first == 0 : len(padded) - (last == height), 1:-1]))
        sums.update(_level_sums(inside, mean))
        sums.update(_neighbour_sums(padded[1 : len(padded) - (last == height), 1:-1], last - first))
        sums.update(_colour_sums(band[1:-1]))
    return sums, windowed


def _mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Row numbers start…stop−1, mirrored at both ends of the image without repeating the edge row."""
    rows = np.abs(np.arange(start, stop))
    return np.clip(np.minimum(rows, 2 * (length - 1) - rows), 0, None)


def _luminance(pixels: np.ndarray, mean: int) -> np.ndarray:
    """Whole-number luminance less the whole number `mean`, (H, W) float32."""
    height, width = pixels.shape[:2]
    return cv2.transform(pixels.astype(np.float32), np.array([[*_WEIGHTS, -mean]])).reshape(height, width)


def _edge_sums(padded: np.ndarray) -> dict:
    """Laplacian, and G, the magnitude of the Sobel gradient."""
    laplacian = cv2.Laplacian(padded, cv2.CV_32F)[1:-1, 1:-1]
    across, down = cv2.Sobel(padded, cv2.CV_32F, 1, 0), cv2.Sobel(padded, cv2.CV_32F, 0, 1)
    sobel = cv2.magnitude(across, down)[1:-1, 1:-1]
    return {
        "laplacian": cv2.sumElems(laplacian)[0],
        "laplacian²": cv2.norm(laplacian, cv2.NORM_L2SQR),
        "sobel": cv2.sumElems(sobel)[0],
        "sobel²": cv2.norm(sobel, cv2.NORM_L2SQR),
        # The margin keeps float32 rounding from lifting a magnitude of exactly a tenth above the threshold.
        "edges": np.count_nonzero(sobel > _EDGE * (1 + 4e-7)),
    }


def _residual_sums(padded: np.ndarray) -> dict:
    """First four powers of what a 3×3 median takes away."""
    residual = (padded - cv2.medianBlur(padded, 3))[1:-1, 1:-1]
    squared = residual * residual
    return {
        "residual": cv2.sumElems(residual)[0],
        "residual²": cv2.norm(residual, cv2.NORM_L2SQR),
        "residual³": cv2.sumElems(residual * squared)[0],
        "residual⁴": cv2.norm(squared, cv2.NORM_L2SQR),
    }


def _noise_sums(rows: np.ndarray) -> dict:
    """Immerkær's mask where it lies wholly inside the image."""
    if min(rows.shape) < 3:
        return {}
    second = np.array([1.0, -2.0, 1.0])
    return {"noise": cv2.norm(cv2.sepFilter2D(rows, cv2.CV_32F, second, second)[1:-1, 1:-1], cv2.NORM_L1)}


def _level_sums(inside: np.ndarray, mean: int) -> dict:
    # The extra quarter of a thousandth settles halves upwards, whatever float32 makes of them.
    levels = cv2.convertScaleAbs(inside, alpha=1e-3, beta=(mean + 0.25) / 1000)
    return {
        "sum": cv2.sumElems(inside)[0],
        "square": cv2.norm(inside, cv2.NORM_L2SQR),
        "histogram": cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel().astype(np.float64),
    }


def _neighbour_sums(rows: np.ndarray, height: int) -> dict:
    """Squared differences of neighbours: across in the first `height` rows, down wherever a next row is given."""
    return {
        "across": _squared_difference(rows[:height, :-1], rows[:height, 1:]),
        "down": _squared_difference(rows[:-1], rows[1:]),
    }


def _squared_difference(one: np.ndarray, other: np.ndarray) -> float:
    return cv2.norm(one, other, cv2.NORM_L2SQR) if one.size else 0.0


def _border_sums(pixels: np.ndarray, mean: int) -> dict:
    """Sum and sum of squares of the four border lines, which neighbour pairs count once, not twice."""
    lines = {"left": pixels[:, :1], "right": pixels[:, -1:], "top": pixels[:1], "bottom": pixels[-1:]}
    sums: dict[str, Any] = {}
    for name, line in lines.items():
        values = _luminance(line, mean).astype(np.float64)
        sums |= {name: values.sum(), name + "²": np.square(values).sum()}
    return sums


def _colour_sums(pixels: np.ndarray) -> dict:
    red, green, blue = cv2.split(pixels)
    high, low = cv2.max(red, cv2.max(green, blue)), cv2.min(red, cv2.min(green, blue))
    return {
        "saturation": cv2.sumElems(cv2.divide(high - low, np.maximum(high, 1), dtype=cv2.CV_32F))[0],
        "red": cv2.sumElems(red)[0],
        "green": cv2.sumElems(green)[0],
        "blue": cv2.sumElems(blue)[0],
        "red-green": cv2.norm(red, green, cv2.NORM_L2SQR),
        "red-blue": cv2.norm(red, blue, cv2.NORM_L2SQR),
        "green-blue": cv2.norm(green, blue, cv2.NORM_L2SQR),
    }
