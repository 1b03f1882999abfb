"""Low-level evidence: what is left of an image once its content is filtered out, as 1,614 numbers.

Three kinds of numbers, all at native resolution, averaged over windows of 128 x 128 pixels:

* **spectrum**: the radial log power of the locally normalised high-pass residual of luma Y and of the colour
  differences B-Y and R-Y. Upsampling layers, demosaicing and resampling each leave their own curve.
* **coherence**: how far the residuals of two of these channels go together, by frequency band. A camera measures one
  colour per pixel and interpolates the other two, so its channels share their high frequencies.
* **co-occurrence**: how often quantised differences of neighbouring pixels follow one another, as in steganalysis
  (Fridrich and Kodovsky, Rich Models for Steganalysis of Digital Images, 2012; truncation at +-2, symmetry merging).
  The quantiser's step follows the residual's own size, so that the pattern counts and the amount of detail does not.

Everything specific is a choice, not from a paper: window size and number, normalisation, the families in `FAMILIES`,
the square root of the histograms. Families were chosen by holding out whole generators together with whole photo sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import cv2
import numpy as np

WINDOW = 128  # pixels; choice: a multiple of the JPEG block, small enough for three to a 256-pixel image's side
PER_AXIS = 4  # at most 4 x 4 windows, so that large images stay bounded (choice)
CHANNELS = ("luma", "blue", "red")  # Y, B-Y, R-Y
PAIRS = ((0, 1), (0, 2), (1, 2))  # of CHANNELS, for the coherence
BIN = 1 / 64  # cycles per pixel: width of a radial bin
FIRST_BIN, LAST_BIN = 2, 44  # below 1/32 cycle the residual holds nothing but leakage; the corner is at 0.707
BANDS = 9  # coherence bands of 4 bins each; the last one takes the corner
VERSION = "residual-2"  # of the numbers that `features` makes; a head that was trained on another version is refused
FLAT_VARIANCE = 0.05  # grey levels squared: keeps a constant area at zero where the residual is divided by its local size
# Grey levels: standard deviation of the independent noise that the coherence assumes in each channel, far above the rounding of
# float32 (1e-5) and far below that of 8-bit pixels (0.29). Without it the coherence of nothing but rounding is measured (choice).
ROUNDING_FLOOR = 0.01
LUMA = (299, 587, 114)  # thousandths, as ITU-R BT.601 has them
GROUPS = ("spectrum luma", "spectrum chroma", "channel coherence", "co-occurrence luma", "co-occurrence chroma", "sign patterns")


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


def windows(pixels: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) of any size -> 1 to 16 windows (128, 128, 3); a side under 128 pixels is mirrored until it is full."""
    missing = [max(0, WINDOW - side) for side in pixels.shape[:2]]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    height, width = pixels.shape[:2]
    return [pixels[y : y + WINDOW, x : x + WINDOW] for y in _starts(height) for x in _starts(width)]


def _planes(window: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 -> (128, 128, 3) float32: Y, B-Y, R-Y in thousandths of a grey level.

    In thousandths all are whole numbers below 2^24, which float32 holds exactly: no number depends on the order of a sum, and
    no quantiser of ours is measured.
    """
    rgb = window.astype(np.float32)
    luma = rgb @ np.array(LUMA, np.float32)
    return np.stack([luma, 1000 * rgb[..., 2] - luma, 1000 * rgb[..., 0] - luma], axis=-1)


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
    impulse = np.zeros((WINDOW, WINDOW, 1), np.float32)
    impulse[WINDOW // 2, WINDOW // 2] = 1
    gain = np.abs(np.fft.rfft2(_high_pass(impulse)[..., 0])).ravel() ** 2
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW)).astype(np.float32)
    bands = np.minimum(bins // 4, BANDS - 1)
    floor = ROUNDING_FLOOR**2 / FLAT_VARIANCE * float((taper**2).sum()) * np.bincount(bands, gain)
    return _Grid(taper, bins, bands, np.maximum(gain, 1e-5), floor)


def _high_pass(planes: np.ndarray) -> np.ndarray:
    """Planes minus their 3 x 3 Gaussian blur: (128, 128, C) -> the same."""
    return planes - cv2.GaussianBlur(planes, (3, 3), 0.85).reshape(planes.shape)


def _fourier(planes: np.ndarray) -> np.ndarray:
    """(128, 128, 3) thousandths -> (3, 128 * 65) complex: transform of the residual after division by its 15 x 15 RMS.

    The division lets a flat sky and a hedge count alike.
    """
    residual = _high_pass(planes / np.float32(1000))
    residual /= np.sqrt(cv2.boxFilter(residual * residual, -1, (15, 15)) + FLAT_VARIANCE)
    tapered = residual.transpose(2, 0, 1) * _grid().taper
    return np.fft.rfft2(tapered).reshape(len(tapered), -1)


def _radial(power: np.ndarray) -> np.ndarray:
    """(3, 128 * 65) power -> (3, 43): mean log power per bin, the high-pass's gain divided out, mean over bins zero.

    White noise of the residual's size has a power of some 2,000 here; the 1 under the logarithm is 33 dB below that.
    """
    grid = _grid()
    count = np.bincount(grid.bins)
    curves = np.stack([np.bincount(grid.bins, np.log(row / grid.gain + 1)) / count for row in power])[:, FIRST_BIN:]
    return curves - curves.mean(1, keepdims=True)


def _coherence(fourier: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(3, 128 * 65) -> (3 pairs, 9 bands) in [-1, 1]: 1 where two residuals are copies, 0 where they are unrelated or one is empty."""
    grid = _grid()
    energy = np.stack([np.bincount(grid.bands, row) for row in power]) + grid.floor
    cross = [np.bincount(grid.bands, (fourier[a] * fourier[b].conj()).real) for a, b in PAIRS]
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


def _quantise(planes: np.ndarray, quantiser: Quantiser) -> np.ndarray:
    """(H, W, C) float32 -> (C, H, W - differences * dilation) uint16 in 0 .. 2 * levels.

    "median" and "local" take thousandths of a grey level, "unit" grey levels.
    """
    residual = planes
    for _ in range(quantiser.differences):
        residual = residual[:, quantiser.dilation :] - residual[:, : -quantiser.dilation]
    # 300 thousandths of a grey level keep a flat area at zero
    if quantiser.step == "median":
        # every second pixel is enough for a median, at a quarter of the time
        residual /= np.median(np.abs(residual[::2, ::2]), axis=(0, 1)) + np.float32(300)
    elif quantiser.step == "local":
        residual /= 0.7 * cv2.boxFilter(np.abs(residual), -1, (7, 7)) + np.float32(300)
    np.rint(residual, out=residual)
    np.clip(residual, -quantiser.levels, quantiser.levels, out=residual)
    residual += quantiser.levels
    return residual.transpose(2, 0, 1).astype(np.uint16, order="C")


def _histogram(quantised: np.ndarray, family: Family) -> np.ndarray:
    """(3, H, W) -> (3, cells), each row sums to 1: how often each merged pattern of `order` neighbours occurs."""
    neighbours = quantised.swapaxes(1, 2) if family.across else quantised
    base, width = 2 * family.quantiser.levels + 1, neighbours.shape[2] - family.order + 1
    size = base**family.order
    codes = neighbours[..., :width]  # one number per pattern, its digits the values
    for start in range(1, family.order):
        codes = codes * np.uint16(base) + neighbours[..., start : start + width]
    codes += (np.arange(3, dtype=np.uint16) * size)[:, None, None]  # all planes in one count
    counts = np.bincount(codes.ravel(order="K"), minlength=3 * size).reshape(3, size)
    return counts @ _cells(family.quantiser.levels, family.order)[0] / codes[0].size


def _window_cooccurrences(window: np.ndarray, planes: np.ndarray) -> list[np.ndarray]:
    """One (3, cells) array per family: rows and columns are counted alike and averaged."""
    views = []
    for transposed in (False, True):
        sources = {CHANNELS: planes, RGB: window.astype(np.float32)}
        if transposed:
            sources = {name: np.ascontiguousarray(source.transpose(1, 0, 2)) for name, source in sources.items()}
        quantised = {one: _quantise(sources[one.planes], one) for one in (SCALED, LOCAL, DILATED, SIGN)}
        views.append([_histogram(quantised[family.quantiser], family) for family in FAMILIES])
    return [(rows + columns) / 2 for rows, columns in zip(*views, strict=True)]


# --- the vector ------------------------------------------------------------------------------------------------------


def _names() -> tuple[str, ...]:
    names = [f"spectrum/{channel}/r{number:02d}" for channel in CHANNELS for number in range(FIRST_BIN, LAST_BIN + 1)]
    names += [f"coherence/{CHANNELS[a]}-{CHANNELS[b]}/b{band}" for a, b in PAIRS for band in range(BANDS)]
    for family in FAMILIES:
        cells = _cells(family.quantiser.levels, family.order)[1]
        names += [f"cooc/{colour}/{family.name}/{cell}" for colour in family.quantiser.planes for cell in cells]
    return tuple(names)


FEATURES: tuple[str, ...] = _names()
FIRST_CELL = next(i for i, name in enumerate(FEATURES) if name.startswith("cooc/"))  # where they begin in FEATURES
SPECTRUM = slice(0, len(CHANNELS) * (LAST_BIN + 1 - FIRST_BIN))  # where FEATURES holds the spectrum


def features(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, any size from 1 x 1 -> (F,) float32, finite, in the order of FEATURES.

    Spectrum as in `spectrum`, coherence in [-1, 1], co-occurrence as the square root of the mean histogram (choice: it
    evens out the variance of counts, so that rare patterns are heard).
    """
    spectra, coherences, histograms = [], [], []
    for window in windows(pixels):
        planes = _planes(window)
        curves, coherence = _window_spectrum(planes)
        spectra.append(curves)
        coherences.append(coherence)
        histograms.append(np.concatenate([rows.ravel() for rows in _window_cooccurrences(window, planes)]))
    spectra, coherences, histograms = (np.mean(part, axis=0).ravel() for part in (spectra, coherences, histograms))
    return np.concatenate([spectra, coherences, np.sqrt(histograms)], dtype=np.float32)


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
    return f"{'spectrum' if kind == 'spectrum' else 'co-occurrence'} {'luma' if channel == 'luma' else 'chroma'}"
