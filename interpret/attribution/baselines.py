"""Maps that know nothing of a detector, or only what an old forensic trick knows: what a map must beat.

None has a direction of its own: what is odd may be the synthetic part or the real one. `interpret/attribution/bench.py` therefore gives
each
the reading that suits it best.
"""

from __future__ import annotations

import cv2
import numpy as np

from detector.data.augmentation import recompress

QUALITIES = tuple(range(50, 100, 5))  # at which `jpeg_ghost` saves the picture again (choice; the paper: 30 to 90 or 100)
SMOOTHING = 8.0  # pixels: standard deviation over which a quantity of single pixels is averaged, so that it is as coarse as a map (choice)
NOISE_BLOCK = 8  # coefficients, 16 pixels
MAD_OF_NORMAL = 0.6745  # median absolute deviation of a normal distribution over its standard deviation


def centre_prior(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32, 1 in the middle and falling to the corners: what knows nothing but that things are in the middle."""
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in pixels.shape[:2])
    return np.exp(-(y[:, None] ** 2 + x[None] ** 2))


def noise(pixels: np.ndarray, seed: int = 0, cell: int = 16) -> np.ndarray:
    """(H, W) float32: a map of a map's coarseness that means nothing, with both signs."""
    height, width = pixels.shape[:2]
    small = np.random.default_rng(seed).standard_normal((max(2, -(-height // cell)), max(2, -(-width // cell))))
    return cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)


def edges(pixels: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """(H, W) float32: Sobel magnitude of luminance, in grey levels, smoothed to a map's coarseness."""
    grey = _grey(pixels)
    magnitude = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return cv2.GaussianBlur(magnitude, (0, 0), smoothing)


def local_variance(pixels: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """(H, W) float32: logarithm of the variance of luminance (grey levels squared, 1 added) around each pixel."""
    grey = _grey(pixels)
    mean, square = (cv2.GaussianBlur(plane, (0, 0), smoothing) for plane in (grey, grey * grey))
    return np.log(np.maximum(square - mean * mean, 0) + 1)


def jpeg_ghost(pixels: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """(H, W) float32: where the picture was once saved at another JPEG quality (Farid, Exposing Digital Forgeries from JPEG Ghosts, 2009).

    The picture is saved again at each of `QUALITIES`. The squared difference to it is least at the quality at which a part was saved
    before, so a part of another origin dips at another quality than the rest. Each quality's difference is divided by the place's mean
    over all, and the quality whose map varies most over the picture gives the map; high: dips there. Smoothing and choice of the quality:
    choice; the paper leaves both to the eye.
    """
    picture = pixels.astype(np.float32)
    squares = [np.square(recompress(pixels, ".jpg", quality).astype(np.float32) - picture).mean(2) for quality in QUALITIES]
    differences = np.stack([cv2.GaussianBlur(square, (0, 0), smoothing) for square in squares])
    relative = differences / (differences.mean(0) + 0.1)
    return -relative[int(np.argmax(relative.std((1, 2))))]


def noise_level(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: standard deviation of noise in grey levels, by blocks: median |diagonal Haar coefficient| / 0.6745, (Donoho and
    Johnstone 1994), as in Mahdian and Saic, Using noise inconsistencies for blind image forensics, 2009."""
    grey = _grey(pixels)
    height, width = (length // 2 * 2 for length in grey.shape)
    a, b, c, d = (grey[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1))
    detail = np.abs(a - b - c + d) / 2
    rows, columns = (max(1, round(length / NOISE_BLOCK)) for length in detail.shape)
    bands = [np.array_split(band, columns, axis=1) for band in np.array_split(detail, rows, axis=0)]
    levels = np.array([[np.median(block) for block in band] for band in bands], np.float32) / MAD_OF_NORMAL
    return cv2.resize(levels, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def noise_inconsistency(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: how far the noise level of a block is from the picture's median, in grey levels; high: other noise."""
    levels = noise_level(pixels)
    return np.abs(levels - np.median(levels))


def baselines(pixels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Name → (H, W) map of an (H, W, 3) uint8 picture. seed: of the random one."""
    return {
        "random": noise(pixels, seed),
        "centre": centre_prior(pixels),
        "edges": edges(pixels),
        "local variance": local_variance(pixels),
        "JPEG ghost": jpeg_ghost(pixels),
        "noise inconsistency": noise_inconsistency(pixels),
    }
