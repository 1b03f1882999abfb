"""Changes that pictures undergo on their way through the net: saved again, resized, blurred, cropped, mirrored.

One table of changes serves two uses: how stable the verdict on one image is (`interpret/stability.py`) and how robust the methods
are on a labelled folder (`detector/evaluation/robustness.py`). All kinds and levels are choices. Pixels are (H, W, 3) uint8 RGB
everywhere, and no change touches its input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from detector.data.augmentation import recompress

JPEG_SIDE, WEBP_SIDE = 65_500, 16_383  # pixels: the longest side that the encoders take


@dataclass(frozen=True)
class Variant:
    """One change. name: for a chart or a table. words: follows "when the image is". apply: (H, W, 3) → (h, w, 3) uint8.

    longest: the longest side in pixels that the change can be made of, None without a limit.
    """

    name: str
    words: str
    apply: Callable[[np.ndarray], np.ndarray]
    longest: int | None = None

    def fits(self, pixels: np.ndarray) -> bool:
        """Whether the change can be made of an image of this size."""
        return self.longest is None or max(pixels.shape[:2]) <= self.longest


# --- the kinds of change -------------------------------------------------------------------------------------------


def jpeg(quality: int) -> Variant:
    """Saved as JPEG of a quality of 1 to 100, colours at half the resolution, and read back."""
    return Variant(f"JPEG {quality}", f"saved as JPEG {quality}", lambda image: recompress(image, ".jpg", quality), JPEG_SIDE)


def webp(quality: int) -> Variant:
    """Saved as lossy WebP of a quality of 1 to 100 and read back."""
    return Variant(f"WebP {quality}", f"saved as WebP {quality}", lambda image: recompress(image, ".webp", quality), WEBP_SIDE)


def resize(factor: float) -> Variant:
    """Both sides times `factor`, at least 1 pixel: averaged over areas to shrink, bicubic to enlarge."""
    percent = f"{100 * factor:.0f} %"
    return Variant(f"size {percent}", f"resized to {percent}", lambda image: _resize(image, factor))


def blur(sigma: float) -> Variant:
    """A Gaussian blur; sigma in pixels."""
    return Variant(f"blur {sigma:g} px", f"blurred by {sigma:g} px", lambda image: cv2.GaussianBlur(image, (0, 0), sigma))


def crop(share: float) -> Variant:
    """The middle part with `share` of each side, at least 1 pixel."""
    percent = f"{100 * share:.0f} %"
    return Variant(f"middle {percent}", f"cropped to the middle {percent} of its sides", lambda image: _middle(image, share))


def mirror() -> Variant:
    """Left and right exchanged."""
    return Variant("mirrored", "mirrored", lambda image: np.ascontiguousarray(image[:, ::-1]))


def _scaled_shape(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Height and width times `factor`, rounded, at least 1."""
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = _scaled_shape(image.shape, factor)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _middle(image: np.ndarray, share: float) -> np.ndarray:
    height, width = _scaled_shape(image.shape, share)
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[y : y + height, x : x + width])


# --- the tables of changes -----------------------------------------------------------------------------------------

AS_IS = Variant("as it is", "left as it is", lambda image: image)
VARIANTS = (
    AS_IS,
    jpeg(95),
    jpeg(85),
    jpeg(70),
    jpeg(50),
    webp(80),
    resize(0.5),
    resize(0.75),
    resize(1.5),
    blur(1),
    crop(0.8),
    mirror(),
)
CURVES = {  # kind of change → its levels, mildest first
    "JPEG": (jpeg(95), jpeg(85), jpeg(70), jpeg(50), jpeg(40)),
    "WebP": (webp(95), webp(80), webp(50)),
    "resize": (resize(1.5), resize(0.75), resize(0.5)),
    "blur": (blur(0.5), blur(1), blur(2)),
}


def shrink_to(pixels: np.ndarray, max_pixels: int) -> np.ndarray:
    """The image itself where it has at most `max_pixels` pixels, else a copy shrunk to that by averaging over areas."""
    count = pixels.shape[0] * pixels.shape[1]
    if count <= max_pixels:
        return pixels
    height, width = _scaled_shape(pixels.shape, np.sqrt(max_pixels / count))
    height = max(1, min(height, max_pixels // width))  # rounding, and sides that cannot fall below 1, may leave too many
    return cv2.resize(pixels, (min(width, max_pixels // height), height), interpolation=cv2.INTER_AREA)
