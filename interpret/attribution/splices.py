"""Pictures with a pasted region, whose truth we make ourselves: does a map point at the part that is synthetic?

A wholly synthetic image has no place that is more synthetic than another, so localisation can only be asked where two origins
meet. A region of a donor is pasted into a host: synthetic into real (the map should be warm inside), real into synthetic (cold
inside), and, as controls, real into another real and synthetic into another synthetic one (nothing should show: what lights up there is
the pasting, not the origin). The pasting is matched so that it tells as little as possible: both on one 16-pixel grid (JPEG blocks and
their halved chroma stay aligned), the sharper of the two blurred to the other's residual deviation, a soft border, and
the whole saved once as JPEG. Half of the regions are ellipses, half have a random outline. Choices, not from the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from detector.data.augmentation import recompress
from detector.data.datasets import Example
from detector.data.windows import Box

# kind: sign that a right map has inside
KINDS = {"synthetic in real": 1, "real in synthetic": -1, "real in real": 1, "synthetic in synthetic": 1}
CONTROLS = ("real in real", "synthetic in synthetic")
GRID = 16  # pixels: a JPEG block with chroma at half resolution
FEATHER = (1.5, 4.0)  # pixels, standard deviation of the border
AREA = (0.06, 0.4)  # of the host, log-uniform: share of the ellipse around the region before its part outside is cut off
ASPECT = (0.6, 1.6)
WAVES = 5  # of a random outline: its radius is a sum of so many cosines of the angle
DEPTH = 0.3  # of the radius: how far a random outline goes in on either side of its mean
QUALITY = (88, 96)  # of the last saving


class SpliceError(ValueError):
    """One sentence that says why two pictures cannot be spliced."""


@dataclass(frozen=True)
class Splice:
    """pixels: (H, W, 3) uint8. mask: (H, W) bool, True where the donor is more than half of the pixel. box: x0, y0, x1, y1 around
    the pasted region. kind: one of `KINDS`. source: generator of the synthetic part (of the donor where both are), "" without one."""

    pixels: np.ndarray
    mask: np.ndarray
    box: Box
    kind: str
    source: str = ""

    @property
    def sign(self) -> int:
        """+1 where a right map is higher inside than outside, −1 where it is lower."""
        return KINDS[self.kind]


# --- making --------------------------------------------------------------------------------------------------------


def residual_deviation(pixels: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Standard deviation, in grey levels, of luminance minus its 3×3 median: how much fine detail there is."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    residual = grey.astype(np.float32) - cv2.medianBlur(grey, 3)
    return float(residual[mask].std() if mask is not None else residual.std())


def blurred_to(pixels: np.ndarray, target: float) -> np.ndarray:
    """The picture under the weakest Gaussian blur (σ up to 3 pixels) that brings its residual deviation to `target` or below."""
    low, high = 0.0, 3.0
    if residual_deviation(pixels) <= target:
        return pixels
    for _ in range(8):
        middle = (low + high) / 2
        sharp = residual_deviation(cv2.GaussianBlur(pixels, (0, 0), middle)) > target
        low, high = (middle, high) if sharp else (low, middle)
    return cv2.GaussianBlur(pixels, (0, 0), high)


def make_splice(host: np.ndarray, donor: np.ndarray, seed: int, kind: str = "synthetic in real") -> Splice:
    """Paste a region of the donor into the host, (H, W, 3) uint8 each. Deterministic in `seed`: place, size, outline and quality.

    Both keep their own scale. The same seed, host size and donor size give the same mask, so that a control differs in
    nothing but the donor. SpliceError if a picture is smaller than three squares of the grid on a side; ValueError for an
    unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"'{kind}' is none of {', '.join(KINDS)}.")
    if min(*host.shape[:2], *donor.shape[:2]) < 3 * GRID:
        raise SpliceError(f"Both pictures need at least {3 * GRID} pixels on each side.")
    generator = np.random.default_rng(seed)
    box, (x, y) = _place(host, donor, generator)
    share = _region(host.shape[:2], box, generator)
    x0, y0, x1, y1 = visible = _clip(box, host)
    left, top = x + x0 - box[0], y + y0 - box[1]
    patch = donor[top : top + y1 - y0, left : left + x1 - x0]
    alike = min(residual_deviation(patch), residual_deviation(host))
    pasted = _paste(blurred_to(host, alike), blurred_to(patch, alike), visible, share)
    pixels = recompress(pasted, ".jpg", int(generator.integers(QUALITY[0], QUALITY[1] + 1)))
    return Splice(pixels, share > 0.5, visible, kind)


def _place(host: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> tuple[Box, tuple[int, int]]:
    """Box in the host, up to half of it outside so that the middle is hit no more often, and the donor's upper left corner."""
    area = np.exp(generator.uniform(*np.log(AREA))) * host.shape[0] * host.shape[1] * 4 / np.pi  # of the box around the ellipse
    aspect = np.exp(generator.uniform(*np.log(ASPECT)))
    room = [min(host.shape[axis], donor.shape[axis]) // GRID - 1 for axis in (0, 1)]
    height, width = (
        int(np.clip(round(side / GRID), 2, most)) * GRID
        for side, most in zip((np.sqrt(area / aspect), np.sqrt(area * aspect)), room, strict=True)
    )

    def start(whole: int, part: int, outside: int = 0) -> int:
        return int(generator.integers(-(outside // GRID), (whole - part + outside) // GRID + 1)) * GRID

    x, y = start(host.shape[1], width, width // 2), start(host.shape[0], height, height // 2)
    return (x, y, x + width, y + height), (start(donor.shape[1], width), start(donor.shape[0], height))


def _clip(box: Box, picture: np.ndarray) -> Box:
    x0, y0, x1, y1 = box
    return max(x0, 0), max(y0, 0), min(x1, picture.shape[1]), min(y1, picture.shape[0])


def _region(shape: tuple[int, int], box: Box, generator: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the donor's share, 1 inside the region, feathered at its border, about 0 outside the box."""
    x0, y0, x1, y1 = box
    feather = float(generator.uniform(*FEATHER))
    inset = 2 * feather
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    across, down = (x - (x0 + x1) / 2) / ((x1 - x0) / 2 - inset), (y - (y0 + y1) / 2) / ((y1 - y0) / 2 - inset)
    inside = np.hypot(across, down) < _outline(np.arctan2(down, across), generator)
    return cv2.GaussianBlur(inside.astype(np.float32), (0, 0), feather, borderType=cv2.BORDER_REPLICATE)


def _outline(angle: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Radius of the region at an angle: 1 for an ellipse, else between 1 − 2 · DEPTH and 1."""
    is_ellipse, weights, phases = generator.random() < 0.5, generator.uniform(0, 1, WAVES), generator.uniform(0, 2 * np.pi, WAVES)
    if is_ellipse:
        return np.ones_like(angle)
    waves = sum(weight * np.cos((k + 1) * angle + phase) for k, (weight, phase) in enumerate(zip(weights, phases, strict=True)))
    return 1 - DEPTH + DEPTH * waves / weights.sum()


def _paste(host: np.ndarray, patch: np.ndarray, box: Box, share: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    result, weight = host.copy(), share[y0:y1, x0:x1, None]
    result[y0:y1, x0:x1] = np.rint(weight * patch + (1 - weight) * host[y0:y1, x0:x1])
    return result


def make_splices(examples: Sequence[Example], count: int, seed: int, load: Callable[[Example], np.ndarray]) -> Iterator[list[Splice]]:
    """`count` times one splice of each kind, from two real and two synthetic pictures. All have one seed, and a control has the host of its
    pair. Pictures too small for a splice are passed over, so that there may be fewer."""
    generator = np.random.default_rng(seed)
    real, synthetic = ([e for e in examples if e.label == label] for label in (0, 1))
    done = 0
    for draw in range(20 * count):
        if done == count or min(len(real), len(synthetic)) < 2:
            return
        four = [of_class[i] for of_class in (real, synthetic) for i in generator.choice(len(of_class), 2, replace=False)]
        try:
            yield _one_of_each([load(example) for example in four], [example.source for example in four[2:]], seed * 1_000_003 + draw)
        except SpliceError:
            continue
        done += 1


def _one_of_each(pictures: Sequence[np.ndarray], sources: Sequence[str], seed: int) -> list[Splice]:
    """pictures: two real ones, two synthetic ones. sources: of the synthetic ones."""
    first, second, fake, other = pictures
    (for_real, pasted_fake), (for_fake, pasted_real) = _alike(second, fake), _alike(other, first)
    return [
        replace(make_splice(first, pasted_fake, seed, "synthetic in real"), source=sources[0]),
        replace(make_splice(fake, pasted_real, seed, "real in synthetic"), source=sources[0]),
        make_splice(first, for_real, seed, "real in real"),
        replace(make_splice(fake, for_fake, seed, "synthetic in synthetic"), source=sources[1]),
    ]


def _alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two donors cut to one size, so that the same seed takes the same place."""
    height, width = (min(first.shape[axis], second.shape[axis]) for axis in (0, 1))
    return first[:height, :width], second[:height, :width]
