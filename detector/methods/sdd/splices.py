"""Windows with a region of another picture: they ask the model which tokens are synthetic, not only whether an image is (ours).

Hosts and donors are drawn without regard to their classes, so that half of the windows are controls: real in real and synthetic in
synthetic. The border itself then says nothing of the class.
"""

from __future__ import annotations

import cv2
import numpy as np

from detector.data.augmentation import recompress

CORNERS = 16  # of the polygon that is drawn
AREA = (0.1, 0.6)  # of the window, share of a disc of the shape's mean radius
ROUGHNESS = 0.3  # standard deviation of the logarithm of the radius
EDGE = 4.0  # pixels, largest standard deviation of the soft border
BLUR, SAVE = 0.3, 0.75  # probabilities that the whole window is blurred and saved once more; as in `augment`


def random_region(size: int, generator: np.random.Generator) -> np.ndarray:
    """(size, size) float32 in [0, 1]: a random star-shaped region, 1 inside, with a soft border. Deterministic in the generator."""
    radius = size * np.sqrt(generator.uniform(*AREA) / np.pi)
    around = np.convolve(np.tile(generator.normal(0, ROUGHNESS, CORNERS), 3), [0.25, 0.5, 0.25], "same")[CORNERS : 2 * CORNERS]
    angles = np.arange(CORNERS) * 2 * np.pi / CORNERS + generator.uniform(0, 2 * np.pi)
    stretch = np.exp(generator.uniform(-0.5, 0.5))
    corners = radius * np.exp(around) * np.stack([np.cos(angles) * stretch, np.sin(angles) / stretch])
    places = (corners.T + generator.uniform(0, size, 2)).round().astype(np.int32)
    region = cv2.fillPoly(np.zeros((size, size), np.float32), [places], 1.0)
    edge = generator.uniform(0, EDGE)
    return cv2.GaussianBlur(region, (0, 0), edge).clip(0, 1) if edge > 0.3 else region


def splice_windows(host: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A region of the donor in the host, (S, S, 3) uint8 each; then, at random, the whole is blurred and saved.

    Returns the window (S, S, 3) uint8 and the donor's share of each pixel (S, S) float32.
    """
    share = random_region(len(host), generator)
    window = (host + share[..., None] * (donor.astype(np.float32) - host)).round().astype(np.uint8)
    if generator.random() < BLUR:
        window = cv2.GaussianBlur(window, (0, 0), generator.uniform(0.3, 1.5))
    if generator.random() < SAVE:
        window = recompress(window, ".webp" if generator.random() < 0.25 else ".jpg", int(generator.integers(35, 101)))
    return window, share


def token_shares(share: np.ndarray, grid: int) -> np.ndarray:
    """(S, S) shares of pixels → (grid, grid) float32, their mean over each token's square."""
    return cv2.resize(share, (grid, grid), interpolation=cv2.INTER_AREA)
