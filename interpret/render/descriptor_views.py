"""What the paper's core descriptors measure, as pictures: people would rather look than read.

Each view shows the 256-pixel square that the descriptors were measured on, on one fixed scale for all images: a calm picture
looks calm. Scales are choices, set so that a typical photograph neither vanishes nor saturates.
"""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np
import scipy.fft

from detector.methods.physical.features import SCALE, fixed_scale

LAPLACIAN_REACH = 0.6  # luminance steps that become black and white around middle grey
SOBEL_REACH = 1.6  # gradient magnitude that becomes white; the largest possible is 5.7
RESIDUAL_REACH = 0.08
SPECTRUM_RANGE = (-4.0, 4.0)  # log10 of the power that becomes black and white

CAPTIONS = {
    "laplacian": "Laplacian: grey is smooth, black and white are abrupt changes (laplacian variance)",
    "sobel": "Sobel: the brighter, the steeper the edge (sobel mean and standard deviation)",
    "residual": "Residual: what a median filter removes: grain, noise, fine texture (residual variance)",
    "spectrum": "Spectrum: coarse shapes in the middle, fine detail towards the border; regular dots or a grid betray upsampling "
    "(high frequency ratio)",
}


def luminance(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → (256, 256) float32 in [0, 1]: Y of the square that `physical.measure` describes."""
    return (fixed_scale(pixels) @ np.array([0.299, 0.587, 0.114])).astype(np.float32) / 255


def _signed(values: np.ndarray, reach: float) -> np.ndarray:
    """Zero becomes middle grey, ±reach white and black."""
    return np.clip(127.5 + 127.5 * values / reach, 0, 255).round().astype(np.uint8)


def views(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Name → (256, 256) uint8 for "laplacian", "sobel", "residual" and "spectrum"; any image that `load_photo` gives."""
    y = luminance(pixels)
    laplacian = cv2.Laplacian(y, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT_101)
    across, down = (cv2.Sobel(y, cv2.CV_32F, dx, dy, ksize=3, borderType=cv2.BORDER_REFLECT_101) for dx, dy in ((1, 0), (0, 1)))
    residual = y - cv2.medianBlur(cv2.copyMakeBorder(y, 1, 1, 1, 1, cv2.BORDER_REFLECT_101), 3)[1:-1, 1:-1]
    return {
        "laplacian": _signed(laplacian, LAPLACIAN_REACH),
        "sobel": np.clip(255 * np.hypot(across, down) / SOBEL_REACH, 0, 255).round().astype(np.uint8),
        "residual": _signed(residual, RESIDUAL_REACH),
        "spectrum": _spectrum(y),
    }


def _spectrum(y: np.ndarray) -> np.ndarray:
    """Log power of the Hann-windowed luminance, zero frequency in the middle."""
    window = np.outer(np.hanning(SCALE), np.hanning(SCALE))
    power = np.abs(scipy.fft.fftshift(scipy.fft.fft2((y - y.mean()) * window))) ** 2
    low, high = SPECTRUM_RANGE
    return np.clip(255 * (np.log10(power + 1e-12) - low) / (high - low), 0, 255).round().astype(np.uint8)


def gallery(pixels: np.ndarray) -> str:
    """HTML: the views beside one another, each with its caption, which is its alternative text too."""
    pictures = views(pixels)
    figures = (
        f'<figure><img src="{data_url(pictures[name])}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for name, caption in CAPTIONS.items()
    )
    return f'<div class="views">{"".join(figures)}</div>'


def data_url(image: np.ndarray) -> str:
    """A picture, grey or RGB, as a PNG that stands in the page itself."""
    _, png = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
