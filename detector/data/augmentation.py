"""Random copies of an image, the same for real and synthetic ones, so that size, blur and compression tell nothing."""

from __future__ import annotations

import cv2
import numpy as np

VERSION = "copies-2"  # of what one seed gives; part of the key of cached features


LONG_SIDES = (240, 1024)  # pixels: of a whole picture that was shrunk, drawn log-uniformly (choice)
LARGEST_ASPECT = np.log(4 / 3)  # of a copy that is cut to an aspect: from 3:4 to 4:3, log-uniform (choice)


def augment(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A copy as the web makes them: each step is taken with a probability of its own.

    (H, W, 3) uint8 → (h, w, 3) uint8. The whole picture is shrunk; a crop keeps half to all of the area, as in arXiv 2602.12381's training;
    the crop is cut to a random aspect, so that the shape of a copy does not give its class away; it is mirrored, scaled by 0.5 to 1.6,
    blurred by up to 2 pixels, and saved as JPEG or WebP with a quality of 35 to 100 (the paper: 65 to 100). All but the crop is choice:
    after milder copies the low-level methods gave one label to every image that was blurred or saved once more.
    """
    image = _shrink(pixels, generator) if generator.random() < 0.5 else pixels
    if generator.random() < 0.7:
        image = _crop(image, generator)
    if generator.random() < 0.5:
        image = _cut_to_aspect(image, float(np.exp(generator.uniform(-LARGEST_ASPECT, LARGEST_ASPECT))), generator)
    if generator.random() < 0.5:
        image = image[:, ::-1]
    if generator.random() < 0.5:
        image = _scale(image, float(np.exp(generator.uniform(np.log(0.5), np.log(1.6)))), generator)
    if generator.random() < 0.3:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), generator.uniform(0.3, 2.0))
    if generator.random() < 0.75:
        image = recompress(image, ".webp" if generator.random() < 0.25 else ".jpg", int(generator.integers(35, 101)))
    return np.ascontiguousarray(image)


def _shrink(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    long_side = np.exp(generator.uniform(*np.log(LONG_SIDES)))
    factor = float(long_side / max(image.shape[:2]))
    return _scale(image, factor, generator) if factor < 1 else image


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
    return _cut(image, max(1, round(height * side)), max(1, round(width * side)), generator)


def _cut_to_aspect(image: np.ndarray, aspect: float, generator: np.random.Generator) -> np.ndarray:
    """The largest part of that aspect, width over height, at a random place."""
    height, width = image.shape[:2]
    h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
    return _cut(image, max(1, h), max(1, w), generator)


def _cut(image: np.ndarray, h: int, w: int, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
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
