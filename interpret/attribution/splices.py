"""Pictures with a pasted region, whose truth we make ourselves: does a map point at the part that is synthetic?

A wholly synthetic image has no place that is more synthetic than another, so localisation can only be asked where two origins
meet. A region of a donor is pasted into a host: synthetic into real (the map should be warm inside), real into synthetic (cold
inside), and, as a control, real into another real (nothing should show: what lights up there is the pasting, not the
origin). The pasting is matched so that it tells as little as possible: both on one 16-pixel grid (JPEG blocks and
their halved chroma stay aligned), the sharper of the two blurred to the other's residual deviation, a feathered border, and
the whole saved once as JPEG. Choices, not from the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.stats import rankdata

from detector.data.augmentation import recompress
from detector.data.datasets import Example
from detector.data.windows import Box

KINDS = {"synthetic in real": 1, "real in synthetic": -1, "real in real": 1}  # sign that a right map has inside
CONTROL = "real in real"
GRID = 16  # pixels: a JPEG block with chroma at half resolution
FEATHER = 2.0  # pixels, standard deviation of the border
AREA = (0.15, 0.35)  # of the host, share of the ellipse before its part outside is cut off
ASPECT = (0.6, 1.6)
QUALITY = (88, 96)  # of the last saving
BOOTSTRAPS = 1000
BLOCK = 4  # pixels: maps are compared with the truth by the mean of such squares

MapFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class SpliceError(ValueError):
    """One sentence that says why two pictures cannot be spliced."""


@dataclass(frozen=True)
class Splice:
    """pixels: (H, W, 3) uint8. mask: (H, W) bool, True where the donor is more than half of the pixel. box: x0, y0, x1, y1 of
    the pasted ellipse. kind: one of `KINDS`."""

    pixels: np.ndarray
    mask: np.ndarray
    box: Box
    kind: str

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
    """Paste an ellipse of the donor into the host, (H, W, 3) uint8 each. Deterministic in `seed`: place, size and quality.

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
    share = _ellipse(host.shape[:2], box)
    x0, y0, x1, y1 = visible = _clip(box, host)
    left, top = x + x0 - box[0], y + y0 - box[1]
    patch = donor[top : top + y1 - y0, left : left + x1 - x0]
    alike = min(residual_deviation(patch), residual_deviation(host))
    pasted = _paste(blurred_to(host, alike), blurred_to(patch, alike), visible, share)
    pixels = recompress(pasted, ".jpg", int(generator.integers(QUALITY[0], QUALITY[1] + 1)))
    return Splice(pixels, share > 0.5, visible, kind)


def _place(host: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> tuple[Box, tuple[int, int]]:
    """Box in the host, up to half of it outside so that the middle is hit no more often, and the donor's upper left corner."""
    area = generator.uniform(*AREA) * host.shape[0] * host.shape[1] * 4 / np.pi  # of the box around the ellipse
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


def _ellipse(shape: tuple[int, int], box: Box) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the donor's share, 1 inside the ellipse, feathered at its border, about 0 outside the box."""
    x0, y0, x1, y1 = box
    inset = 2 * FEATHER
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    radius = np.hypot((x - (x0 + x1) / 2) / ((x1 - x0) / 2 - inset), (y - (y0 + y1) / 2) / ((y1 - y0) / 2 - inset))
    return cv2.GaussianBlur((radius < 1).astype(np.float32), (0, 0), FEATHER, borderType=cv2.BORDER_REPLICATE)


def _paste(host: np.ndarray, patch: np.ndarray, box: Box, share: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    result, weight = host.copy(), share[y0:y1, x0:x1, None]
    result[y0:y1, x0:x1] = np.rint(weight * patch + (1 - weight) * host[y0:y1, x0:x1])
    return result


def make_splices(examples: Sequence[Example], count: int, seed: int, load: Callable[[Example], np.ndarray]) -> list[Splice]:
    """`count` triples in a row, one splice of each kind. The control of a triple has the host and the place of its first.

    Hosts and donors are drawn from all labelled examples; pictures too small for a splice are passed over.
    """
    generator = np.random.default_rng(seed)
    real, synthetic = ([e for e in examples if e.label == label] for label in (0, 1))
    splices: list[Splice] = []
    for draw in range(20 * count):
        if len(splices) == 3 * count:
            break
        first, second = (load(real[i]) for i in generator.choice(len(real), 2, replace=False))
        fake = load(synthetic[generator.integers(len(synthetic))])
        try:
            splices += _triple(first, second, fake, seed * 1_000_003 + draw)
        except SpliceError:
            continue
    return splices


def _triple(real: np.ndarray, other: np.ndarray, fake: np.ndarray, seed: int) -> list[Splice]:
    size = [min(picture.shape[axis] for picture in (other, fake)) for axis in (0, 1)]
    other, donor = (picture[: size[0], : size[1]] for picture in (other, fake))
    return [
        make_splice(real, donor, seed, "synthetic in real"),
        make_splice(fake, real, seed, "real in synthetic"),
        make_splice(real, other, seed, CONTROL),
    ]


# --- measuring -----------------------------------------------------------------------------------------------------


def centre_prior(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32, 1 in the middle and falling to the corners: what knows nothing but that things are in the middle."""
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in pixels.shape[:2])
    return np.exp(-(y[:, None] ** 2 + x[None] ** 2))


def edges(pixels: np.ndarray, smoothing: float = 8.0) -> np.ndarray:
    """(H, W) float32: Sobel magnitude of luminance, smoothed over `smoothing` pixels to a map's coarseness."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    magnitude = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return cv2.GaussianBlur(magnitude, (0, 0), smoothing)


def noise(pixels: np.ndarray, seed: int = 0, cell: int = 16) -> np.ndarray:
    """(H, W) float32: a map of a map's coarseness that means nothing, with both signs."""
    height, width = pixels.shape[:2]
    small = np.random.default_rng(seed).standard_normal((max(2, -(-height // cell)), max(2, -(-width // cell))))
    return cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def baselines(pixels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps that know nothing of the detector: random, the centre, edges."""
    return {"random": noise(pixels, seed), "centre": centre_prior(pixels), "edges": edges(pixels)}


def localisation(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """How well a map (high: inside) finds a mask. Places where the map is NaN are left out.

    pointing: 1 if the highest place lies inside, else 0 (ties: the share of them inside). auroc: of places inside against outside,
    0.5 for chance. mass: share of the map's positive part that lies inside, over the share of area inside: 1 for chance and for a
    map without a positive part. NaN if nothing is inside or nothing outside.
    """
    values, inside = _blocks(values), _blocks(mask.astype(np.float32)) > 0.5
    finite = np.isfinite(values)
    values, inside = values[finite], inside[finite]
    if inside.all() or not inside.any():
        return dict.fromkeys(("pointing", "auroc", "mass"), float("nan"))
    ranks, count = rankdata(values), inside.sum()
    auroc = (ranks[inside].sum() - count * (count + 1) / 2) / (count * (~inside).sum())
    best = values == values.max()
    mass = np.maximum(values, 0)
    share = mass[inside].sum() / mass.sum() if mass.sum() > 0 else inside.mean()
    return {"pointing": float(inside[best].mean()), "auroc": float(auroc), "mass": float(share / inside.mean())}


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means of `BLOCK`-pixel squares, cut at the lower and right edge; a square with a NaN is NaN."""
    height, width = (length // BLOCK for length in values.shape)
    return values[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK).mean((1, 3), dtype=np.float64)


def interval(values: Sequence[float] | np.ndarray, seed: int = 0, draws: int = BOOTSTRAPS) -> list[float]:
    """Mean and its 95 % bootstrap interval over the rows that are not NaN: [mean, low, high]; three NaN if there are none."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return [float("nan")] * 3
    means = array[np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))].mean(1)
    return [float(array.mean()), *(float(v) for v in np.percentile(means, [2.5, 97.5]))]


def splice_test(map_function: MapFunction, splices: Iterable[Splice], seed: int = 0) -> dict[str, dict[str, dict]]:
    """Name of a map → kind → measure → [mean, low, high] (95 % bootstrap over splices); all of `localisation`, direction up.

    map_function: pixels → name → (H, W) signed map, positive for synthetic; on "real in synthetic" it is negated before it is
    compared. The baselines stand among the names, never negated, as the measures of chance. `lift` beside the
    kinds: AUROC of "synthetic in real" minus that of its control, splice by splice: what is due to the origin.
    """
    rows: dict[str, dict[str, list[dict]]] = {}
    for index, splice in enumerate(splices):
        maps = {name: splice.sign * values for name, values in map_function(splice.pixels).items()}
        for name, values in (maps | baselines(splice.pixels, seed + index)).items():
            rows.setdefault(name, {}).setdefault(splice.kind, []).append(localisation(values, splice.mask))
    return {name: _summary(kinds, seed) for name, kinds in rows.items()}


def _summary(kinds: Mapping[str, list[dict]], seed: int) -> dict[str, dict]:
    table = {kind: {measure: interval([row[measure] for row in rows], seed) for measure in rows[0]} for kind, rows in kinds.items()}
    paired, control = (kinds.get(kind, []) for kind in ("synthetic in real", CONTROL))
    if paired and len(paired) == len(control):
        table["lift"] = {"auroc": interval([a["auroc"] - b["auroc"] for a, b in zip(paired, control, strict=True)], seed)}
    return table
