"""Random copies of an image, the same for real and synthetic ones, so that size, blur and compression tell nothing."""

from __future__ import annotations

import cv2
import numpy as np

VERSION = "copies-1"  # of what one seed gives; part of the key of cached features


def augment(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random crop of half to all of the area, scaled by 0.5 to 1.6, perhaps mirrored, blurred and saved as JPEG or WebP.

    (H, W, 3) uint8 → (h, w, 3) uint8. The crop's area follows arXiv 2602.12381's training. Scale, a blur of up to 2 pixels, and
    qualities of 35 to 100 (the paper: 65 to 100) are choices: after milder copies the low-level methods gave one label to every
    image that was blurred or saved once more.
    """
    image = _crop(pixels, generator)
    if generator.random() < 0.5:
        image = image[:, ::-1]
    if generator.random() < 0.6:
        image = _scale(image, float(np.exp(generator.uniform(np.log(0.5), np.log(1.6)))), generator)
    if generator.random() < 0.3:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), generator.uniform(0.3, 2.0))
    if generator.random() < 0.7:
        image = recompress(image, ".webp" if generator.random() < 0.25 else ".jpg", int(generator.integers(35, 101)))
    return np.ascontiguousarray(image)


def paper_copy(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The training copy of arXiv 2602.12381 (released transforms): a crop of half to all of the area at 3:4 to 4:3 of its aspect, scaled
    to 512 pixels square, mirrored half of the time, saved as JPEG of quality 65 to 100.

    (H, W, 3) uint8 → (512, 512, 3) uint8.
    """
    height, width = pixels.shape[:2]
    side, stretch = np.sqrt(generator.uniform(0.5, 1.0)), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    h, w = (max(1, min(length, round(length * factor))) for length, factor in ((height, side / stretch), (width, side * stretch)))
    y, x = generator.integers(height - h + 1), generator.integers(width - w + 1)
    shrinks = min(h, w) > 512
    image = cv2.resize(pixels[y : y + h, x : x + w], (512, 512), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    image = image[:, ::-1] if generator.random() < 0.5 else image
    return recompress(np.ascontiguousarray(image), ".jpg", int(generator.integers(65, 101)))


def _crop(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    side = np.sqrt(generator.uniform(0.5, 1.0))
    h, w = max(1, round(height * side)), max(1, round(width * side))
    y, x = generator.integers(height - h + 1), generator.integers(width - w + 1)
    return image[y : y + h, x : x + w]


def _scale(image: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    filters = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    return cv2.resize(image, size, interpolation=filters[generator.integers(len(filters))])


def recompress(image: np.ndarray, suffix: str, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, saved as `.jpg` or `.webp` at a quality of 1 to 100 and read back: the same shape.

    ValueError if the encoder refuses the image, as for a side beyond `perturbations.JPEG_SIDE` or `WEBP_SIDE`.
    """
    flag = cv2.IMWRITE_WEBP_QUALITY if suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    success, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [flag, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if success else None
    if decoded is None:
        raise ValueError(f"An image of {image.shape[1]} × {image.shape[0]} pixels cannot be saved as {suffix}.")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
