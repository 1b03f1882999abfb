"""Low-level evidence: what is left of an image once its content is filtered out, as 1,812 numbers.

Four kinds of numbers, averaged over windows of 128 x 128 pixels; all but the last at native resolution:

* **spectrum**: the radial log power of the locally normalised high-pass residual of luma Y and of the colour
  differences B-Y and R-Y. Upsampling layers, demosaicing and resampling each leave their own curve.
* **coherence**: how far the residuals of two of these channels go together, by frequency band. A camera measures one
  colour per pixel and interpolates the other two, so its channels share their high frequencies.
* **co-occurrence**: how often quantised differences of neighbouring pixels follow one another, as in steganalysis
  (Fridrich and Kodovsky, Rich Models for Steganalysis of Digital Images, 2012; truncation at +-2, symmetry merging).
  The quantiser's step follows the residual's own size, so that the pattern counts and the amount of detail does not.
* **scene**: natural scene statistics at a half to an eighth of the resolution, see `scene`.

Everything specific is a choice, not from a paper: window size and number, normalisation, the families in `FAMILIES`,
the square root of the histograms. Families were chosen by holding out whole generators together with whole photo sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import cv2
import numpy as np
import scipy.fft

from detector.data.windows import Box
from detector.methods.residual import scene

WINDOW = 128  # pixels; choice: a multiple of the JPEG block, small enough for two to a 256-pixel image's side
PER_AXIS = 4  # at most 4 x 4 windows, so that large images stay bounded (choice)
CHANNELS = ("luma", "blue", "red")  # Y, B-Y, R-Y
PAIRS = ((0, 1), (0, 2), (1, 2))  # of CHANNELS, for the coherence
BIN = 1 / 64  # cycles per pixel: width of a radial bin
FIRST_BIN, LAST_BIN = 2, 44  # below 1/32 cycle the residual holds nothing but leakage; the corner is at 0.707
BANDS = 9  # coherence bands of 4 bins each; the last one takes the corner
VERSION = "residual-3"  # of the numbers that `features` makes; a head that was trained on another version is refused
FLAT_VARIANCE = 0.05  # grey levels squared: keeps a constant area at zero where the residual is divided by its local size
# Grey levels: standard deviation of the independent noise that the coherence assumes in each channel, far above the rounding of
# float32 (1e-5) and far below that of 8-bit pixels (0.29). Without it the coherence of nothing but rounding is measured (choice).
ROUNDING_FLOOR = 0.01
LUMA = (299, 587, 114)  # thousandths, as ITU-R BT.601 has them
GROUPS = (
    "spectrum luma",
    "spectrum chroma",
    "channel coherence",
    "scene statistics luma",
    "scene statistics chroma",
    "co-occurrence luma",
    "co-occurrence chroma",
    "sign patterns",
)


@dataclass(frozen=True)
class Quantiser:
    """Differences along a row, in steps: what co-occurrences are counted of.

    `step` is "median" (of |residual| in the window), "local" (0.7 of the 7 x 7 mean of |residual|) or "unit" (1 grey
    level).
    """

    planes: tuple[str, str, str]
    differences: int  # how often neighbours are subtracted: 2 removes any linear shading
    dilation: int  # pixels between neighbours
    step: str
    levels: int  # values are truncated at +-levels


@dataclass(frozen=True)
class Family:
    """One kind of co-occurrence: which quantised differences are read together."""

    name: str
    quantiser: Quantiser
    order: int  # neighbours in one pattern
    across: bool = False  # neighbours across the differences' direction instead of along it


RGB = ("R", "G", "B")
SCALED = Quantiser(CHANNELS, 2, 1, "median", 2)
LOCAL = Quantiser(CHANNELS, 2, 1, "local", 2)
DILATED = Quantiser(CHANNELS, 2, 2, "median", 2)
SIGN = Quantiser(RGB, 1, 1, "unit", 1)
FAMILIES = (
    Family("scaled", SCALED, 4),
    Family("local", LOCAL, 4),
    Family("across", LOCAL, 3, across=True),
    Family("dilated", DILATED, 3),
    Family("sign", SIGN, 5),
)


# --- windows and planes ----------------------------------------------------------------------------------------------


def _starts(length: int) -> np.ndarray:
    """First pixels of at most PER_AXIS evenly spread windows: they cover `length` pixels up to 512, and sample more."""
    count = min(PER_AXIS, -(-length // WINDOW))
    return np.unique(np.linspace(0, length - WINDOW, count).round().astype(int))


def padded(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) of any size -> the same with both sides at least 128 pixels: a shorter one is mirrored until it is full."""
    missing = [max(0, WINDOW - side) for side in pixels.shape[:2]]
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric") if any(missing) else pixels


def scored_boxes(height: int, width: int) -> list[Box]:
    """The 1 to 16 windows of 128 pixels that the features of a padded picture rest on: x0, y0, x1, y1, row by row."""
    return [(int(x), int(y), int(x) + WINDOW, int(y) + WINDOW) for y in _starts(height) for x in _starts(width)]


def windows(pixels: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) of any size -> 1 to 16 windows (128, 128, 3), those of `scored_boxes`."""
    pixels = padded(pixels)
    return [pixels[y0:y1, x0:x1] for x0, y0, x1, y1 in scored_boxes(*pixels.shape[:2])]


def _planes(window: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 -> (3, 128, 128) float32: Y, B-Y, R-Y in thousandths of a grey level.

    In thousandths all are whole numbers below 2^24, which float32 holds exactly: no number depends on the order of a sum, and
    no quantiser of ours is measured.
    """
    red, green, blue = np.ascontiguousarray(window.transpose(2, 0, 1)).astype(np.float32)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return np.stack([luma, 1000 * blue - luma, 1000 * red - luma])


# --- spectrum and coherence ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """What depends on the window size only: taper, bin and band of each Fourier coefficient, gain of the high-pass."""

    taper: np.ndarray  # (128, 128)
    bins: np.ndarray  # (128 * 65,) radial bin, counted from 0 at zero frequency
    bands: np.ndarray  # (128 * 65,)
    gain: np.ndarray  # (128 * 65,) |H|^2 of the high-pass
    floor: np.ndarray  # (BANDS,) energy of white noise of ROUNDING_FLOOR grey levels after normalisation


@cache
def _grid() -> _Grid:
    vertical, horizontal = np.abs(np.fft.fftfreq(WINDOW))[:, None], np.fft.rfftfreq(WINDOW)[None]
    bins = np.minimum(np.hypot(vertical, horizontal) / BIN, LAST_BIN).astype(int).ravel()
    impulse = np.zeros((1, WINDOW, WINDOW), np.float32)
    impulse[0, WINDOW // 2, WINDOW // 2] = 1
    gain = np.abs(np.fft.rfft2(_high_pass(impulse)[0])).ravel() ** 2
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW)).astype(np.float32)
    bands = np.minimum(bins // 4, BANDS - 1)
    floor = ROUNDING_FLOOR**2 / FLAT_VARIANCE * float((taper**2).sum()) * np.bincount(bands, gain)
    return _Grid(taper, bins, bands, np.maximum(gain, 1e-5), floor)


def _high_pass(planes: np.ndarray) -> np.ndarray:
    """Planes minus their 3 x 3 Gaussian blur: (C, 128, 128) -> the same."""
    return planes - np.stack([cv2.GaussianBlur(plane, (3, 3), 0.85) for plane in planes])


def _mean_around(planes: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) -> the same: mean over the square of `side` pixels around each pixel, mirrored at the edge."""
    return np.stack([cv2.boxFilter(plane, -1, (side, side)) for plane in planes])


def _fourier(planes: np.ndarray) -> np.ndarray:
    """(3, 128, 128) thousandths -> (3, 128 * 65) complex: transform of the residual after division by its 15 x 15 RMS.

    The division lets a flat sky and a hedge count alike.
    """
    residual = _high_pass(planes / np.float32(1000))
    residual /= np.sqrt(_mean_around(residual * residual, 15) + FLAT_VARIANCE)
    return scipy.fft.rfft2(residual * _grid().taper).reshape(len(planes), -1)


def _radial(power: np.ndarray) -> np.ndarray:
    """(3, 128 * 65) power -> (3, 43): mean log power per bin, the high-pass's gain divided out, mean over bins zero.

    White noise of the residual's size has a power of some 2,000 here; the 1 under the logarithm is 33 dB below that.
    """
    grid = _grid()
    count = np.bincount(grid.bins)
    curves = np.stack([np.bincount(grid.bins, row) / count for row in np.log(power / grid.gain + 1)])[:, FIRST_BIN:]
    return curves - curves.mean(1, keepdims=True)


def _coherence(fourier: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(3, 128 * 65) -> (3 pairs, 9 bands) in [-1, 1]: 1 where two residuals are copies, 0 where they are unrelated or one is empty."""
    grid = _grid()
    energy = np.stack([np.bincount(grid.bands, row) for row in power]) + grid.floor
    cross = [np.bincount(grid.bands, fourier[a].real * fourier[b].real + fourier[a].imag * fourier[b].imag) for a, b in PAIRS]
    return np.stack([c / np.sqrt(energy[a] * energy[b]) for c, (a, b) in zip(cross, PAIRS, strict=True)])


def _window_spectrum(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fourier = _fourier(planes)
    power = fourier.real**2 + fourier.imag**2
    return _radial(power), _coherence(fourier, power)


def frequencies() -> np.ndarray:
    """(43,) centres of the radial bins in cycles per pixel; 0.5 is the finest stripe, 0.707 the finest checkerboard."""
    return (np.arange(FIRST_BIN, LAST_BIN + 1) + 0.5) * BIN


def spectrum(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 -> frequencies (43,) in cycles per pixel and log power (3, 43) of Y, B-Y, R-Y.

    Natural logarithm; 0 is the curve's own mean, so the shape is compared and not the amount. White noise gives a flat
    curve, a constant image zeros. These are the same numbers that `features` holds under "spectrum/".
    """
    curves = [_window_spectrum(_planes(window))[0] for window in windows(pixels)]
    return frequencies(), np.mean(curves, axis=0).astype(np.float32)


# --- co-occurrence ---------------------------------------------------------------------------------------------------


@cache
def _cells(levels: int, order: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Fold matrix (patterns, cells) and the cells' names: a pattern, its mirror and its negative are one cell.

    Merging makes the counts blind to mirrored images and inverted tones. A name writes each value plus `levels` as a
    digit: with levels 2, "0242" is -2 0 2 0.
    """
    index: dict[tuple[int, ...], int] = {}
    cell = []
    for values in product(range(-levels, levels + 1), repeat=order):
        negative = tuple(-value for value in values)
        cell.append(index.setdefault(min(values, values[::-1], negative, negative[::-1]), len(index)))
    names = tuple("".join(str(value + levels) for value in values) for values in index)
    return np.eye(len(index))[cell], names


def _stretch(planes: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    """A view of (C, H, W) planes: from `start` to before `stop` along the columns (axis 1) or the rows (axis 2)."""
    return planes[:, start:stop] if axis == 1 else planes[:, :, start:stop]


def _differences(planes: np.ndarray, quantiser: Quantiser, axis: int) -> np.ndarray:
    """(C, H, W) -> the quantiser's differences along an axis, which gets shorter by differences * dilation."""
    for _ in range(quantiser.differences):
        length = planes.shape[axis]
        planes = _stretch(planes, axis, quantiser.dilation, length) - _stretch(planes, axis, 0, length - quantiser.dilation)
    return planes


def _median(sizes: np.ndarray) -> np.ndarray:
    """(C, H, W) >= 0 -> (C, 1, 1) medians of every second pixel, which is enough for a median, at a quarter of the time.

    `np.median` asks for both middle values at once, which NumPy finds five times more slowly than the upper one.
    """
    values = np.ascontiguousarray(sizes[:, ::2, ::2]).reshape(len(sizes), -1)
    half = values.shape[1] // 2
    values = np.partition(values, half, axis=1)
    upper = values[:, half]
    lower = upper if values.shape[1] % 2 else values[:, :half].max(1)
    return ((lower + upper) / 2)[:, None, None]


def _quantise(residual: np.ndarray, quantiser: Quantiser) -> np.ndarray:
    """(C, H, W) differences -> the same shape, uint8 in 0 .. 2 * levels.

    "median" and "local" take thousandths of a grey level in float32, "unit" whole grey levels.
    """
    # 300 thousandths of a grey level keep a flat area at zero
    if quantiser.step == "median":
        residual = residual / (_median(np.abs(residual)) + np.float32(300))
    elif quantiser.step == "local":
        residual = residual / (0.7 * _mean_around(np.abs(residual), 7) + np.float32(300))
    residual = np.clip(residual, -quantiser.levels, quantiser.levels)
    if quantiser.step != "unit":
        np.rint(residual, out=residual)
    return (residual.astype(np.int8) + np.int8(quantiser.levels)).view(np.uint8)


def _count(quantised: np.ndarray, family: Family, axis: int) -> np.ndarray:
    """(C, H, W) quantised along an axis -> (C, patterns): how often each pattern of `order` neighbours occurs.

    The neighbours are the digits of a number. It is kept in bytes, one or two, for which OpenCV has a fast histogram.
    """
    axis = 3 - axis if family.across else axis
    base, order = 2 * family.quantiser.levels + 1, family.order
    digits = order if base**order <= 256 else order // 2  # in one byte
    length = quantised.shape[axis] - digits + 1
    number = _stretch(quantised, axis, 0, length)
    for start in range(1, digits):
        number = number * np.uint8(base) + _stretch(quantised, axis, start, start + length)
    width = quantised.shape[axis] - order + 1
    parts = [_stretch(number, axis, start, start + width) for start in range(0, order, digits)]
    sizes, ranges = [base**digits] * len(parts), [0, base**digits] * len(parts)
    return np.stack([cv2.calcHist(planes, range(len(parts)), None, sizes, ranges).ravel() for planes in zip(*parts, strict=True)])


def _window_counts(window: np.ndarray, planes: np.ndarray) -> list[np.ndarray]:
    """One (3, patterns) array per family; rows and columns are counted alike."""
    sources = {CHANNELS: planes, RGB: np.ascontiguousarray(window.transpose(2, 0, 1)).astype(np.int16)}
    counts = []
    for axis in (1, 2):
        second = _differences(planes, SCALED, axis)  # LOCAL takes the same ones
        residuals = {SCALED: second, LOCAL: second, **{one: _differences(sources[one.planes], one, axis) for one in (DILATED, SIGN)}}
        quantised = {one: _quantise(residual, one) for one, residual in residuals.items()}
        counts.append([_count(quantised[family.quantiser], family, axis) for family in FAMILIES])
    return [rows + columns for rows, columns in zip(*counts, strict=True)]


def _histograms(counts: np.ndarray, family: Family) -> np.ndarray:
    """(C, patterns) counts -> (C, cells), each row sums to 1: how often each merged pattern occurs."""
    return counts @ _cells(family.quantiser.levels, family.order)[0] / counts.sum(1, keepdims=True)


# --- the vector ------------------------------------------------------------------------------------------------------


def _names() -> tuple[str, ...]:
    names = [f"spectrum/{channel}/r{number:02d}" for channel in CHANNELS for number in range(FIRST_BIN, LAST_BIN + 1)]
    names += [f"coherence/{CHANNELS[a]}-{CHANNELS[b]}/b{band}" for a, b in PAIRS for band in range(BANDS)]
    names += scene.names(CHANNELS, PAIRS)
    for family in FAMILIES:
        cells = _cells(family.quantiser.levels, family.order)[1]
        names += [f"cooc/{colour}/{family.name}/{cell}" for colour in family.quantiser.planes for cell in cells]
    return tuple(names)


FEATURES: tuple[str, ...] = _names()
FIRST_CELL = next(i for i, name in enumerate(FEATURES) if name.startswith("cooc/"))  # where they begin in FEATURES
SPECTRUM = slice(0, len(CHANNELS) * (LAST_BIN + 1 - FIRST_BIN))  # where FEATURES holds the spectrum


def features(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, any size from 1 x 1 -> (F,) float32, finite, in the order of FEATURES.

    Spectrum as in `spectrum`, coherence in [-1, 1], scene statistics as in `scene`, co-occurrence as the square root of the mean
    histogram (choice: it evens out the variance of counts, so that rare patterns are heard).
    """
    spectra, coherences, scenes = [], [], []
    totals: list[Any] = [0.0] * len(FAMILIES)  # every window holds equally many patterns, so that counts add up
    for window in windows(pixels):
        planes = _planes(window)
        curves, coherence = _window_spectrum(planes)
        spectra.append(curves)
        coherences.append(coherence)
        scenes.append(scene.scene_statistics(planes / np.float64(1000), PAIRS))
        totals = [total + counts for total, counts in zip(totals, _window_counts(window, planes), strict=True)]
    histograms = [_histograms(total, family).ravel() for total, family in zip(totals, FAMILIES, strict=True)]
    means = (np.mean(part, axis=0).ravel() for part in (spectra, coherences, scenes))
    return np.concatenate([*means, np.sqrt(np.concatenate(histograms))], dtype=np.float32)


def window_features(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (W, F) float32: `features` of each of the image's windows alone, in the order of `windows`."""
    return np.stack([features(window) for window in windows(pixels)])


def pool_windows(rows: np.ndarray) -> np.ndarray:
    """(W, F) of `window_features` -> (F,) of `features`: means, of histograms before the square root."""
    cells = slice(FIRST_CELL, None)
    return np.concatenate([rows[:, :FIRST_CELL].mean(0), np.sqrt(np.square(rows[:, cells]).mean(0))], dtype=np.float32)


def group_of(name: str) -> str:
    """Which of GROUPS a feature belongs to."""
    kind, channel, rest = name.split("/", 2)
    if kind == "coherence":
        return "channel coherence"
    if rest.startswith("sign/"):
        return "sign patterns"
    words = {"spectrum": "spectrum", "scene": "scene statistics", "cooc": "co-occurrence"}
    return f"{words[kind]} {'luma' if channel == 'luma' else 'chroma'}"
