"""Fifteen physical descriptors of an image: numbers that need no network, only the pixels, and that a reader can check.

arXiv 2604.04608 names five groups (edge, noise, frequency, statistics, colour) and some members: Laplacian variance,
Sobel statistics, residual variance. It publishes no formulas, so every formula here is a choice, not from the paper.

Y is luminance, (299 R + 587 G + 114 B) / 255000, in [0, 1]. Image borders are mirrored without repeating the edge
pixel. Variances divide by the number of pixels. None of the numbers is defined as "more synthetic": which way each
of them speaks depends on the generators, on file formats and on sizes, and is learnt from data.

A descriptor is NaN only where the image is too small for its definition:
    noise_sigma                                                 a side shorter than 3 (no interior pixel)
    spectral_slope                                              a side shorter than 4 (fewer than two rings)
    high_frequency_ratio, spectral_entropy, spectral_slope      a side of exactly 2 (the Hann window is zero everywhere)
    lag1_autocorrelation                                        1×1 (no neighbours; a 1×N image uses its one axis)
Everything else is finite, and where nothing varies (a constant image, a constant residual, a window that sees only
black) kurtosis, autocorrelation, ratio, slope and entropy are 0 by choice. So `measure` never returns NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import cv2
import numpy as np
import scipy.fft
from PIL import Image

from detector.methods.physical.sweep import BAND, WHITE, sweep

_TABLE = (  # name, group, what a high value looks like
    ("laplacian_variance", "edge", "Abrupt changes from pixel to pixel: crisp detail, sharpening or grain."),
    ("sobel_mean", "edge", "Brightness changes almost everywhere: a busy picture with few smooth areas."),
    ("sobel_std", "edge", "A mix of strong outlines and flat areas rather than even texture all over."),
    ("edge_density", "edge", "A large share of the picture lies on clearly visible outlines."),
    ("residual_variance", "noise", "Much fine speckle is left after smoothing: grain, noise or very fine texture."),
    ("noise_sigma", "noise", "Strong pixel-by-pixel grain, as from a sensor in dim light."),
    ("residual_kurtosis", "noise", "Fine detail is rare but strong: specks or thin lines on calm areas."),
    ("high_frequency_ratio", "frequency", "Much of the variation is fine detail, not broad shapes."),
    ("spectral_slope", "frequency", "Fine detail is nearly as strong as coarse shapes; low values look soft."),
    ("spectral_entropy", "frequency", "Variation is spread evenly over all scales and directions, as in noise."),
    ("luminance_variance", "statistics", "Strong contrast between the dark and the bright parts."),
    ("histogram_entropy", "statistics", "All brightness levels occur about equally often: many tones."),
    ("lag1_autocorrelation", "statistics", "Neighbouring pixels are nearly alike: smooth gradients, no grain."),
    ("saturation", "colour", "Vivid, pure colours; greys and pastels have a low value."),
    ("colourfulness", "colour", "Many strong and different colours, as people would judge it."),
)
NAMES: tuple[str, ...] = tuple(name for name, _, _ in _TABLE)
GROUPS: dict[str, str] = {name: group for name, group, _ in _TABLE}
MEANING: dict[str, str] = {name: meaning for name, _, meaning in _TABLE}
PAPER_CORE: tuple[str, ...] = (
    "laplacian_variance", "sobel_mean", "sobel_std", "residual_variance", "high_frequency_ratio",
)  # fmt: skip
UNNAMED = ("high_frequency_ratio",)  # of PAPER_CORE: the abstract does not name it, our choice

VERSION = "physical-1"  # of the fifteen numbers; a head that was trained on another version is refused
SCALE = 256  # side of the square that `measure` describes


def fixed_scale(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → (256, 256, 3) uint8: shorter side to 256 (bicubic, antialiased), then the centre square.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them. Only the part of the image that
    ends in the square is resampled, so the cost of a 30,000×1 image is bounded.
    """
    _check(pixels)
    shorter = min(pixels.shape[:2])
    (top, rows, bottom), (left, columns, right) = (_centre_part(side, shorter) for side in pixels.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(pixels[rows, columns]))
    return np.array(image.resize((SCALE, SCALE), Image.Resampling.BICUBIC, box=(left, top, right, bottom)))


def _centre_part(side: int, shorter: int) -> tuple[float, slice, float]:
    """What of a side ends in the square: begin, the pixels to read, end; begin and end count from the first pixel read.

    Read are also the neighbours that the filter reaches. Cutting first matters: Pillow resamples an image more than
    a hundred times as high as wide in another order, with visibly other results.
    """
    scaled = int(SCALE * side / shorter)
    start = round((scaled - SCALE) / 2)
    begin, end = start * side / scaled, (start + SCALE) * side / scaled
    reach = 2 * max(side / scaled, 1.0) + 1
    first, last = max(int(begin - reach), 0), min(math.ceil(end + reach), side)
    return begin - first, slice(first, last), end - first


def measure(pixels: np.ndarray) -> np.ndarray:
    """The descriptors at the fixed scale, where images of different sizes compare: (H, W, 3) uint8 → (15,), finite."""
    return describe(fixed_scale(pixels))


def luminance_variance(pixels: np.ndarray) -> float:
    """The descriptor of that name alone, at the fixed scale: (H, W, 3) uint8 → luminance², 0 … 0.25; strong contrast: higher."""
    return float(np.var(fixed_scale(pixels).astype(np.float64) @ (299, 587, 114)) / WHITE**2)


def describe(pixels: np.ndarray) -> np.ndarray:
    """The descriptors of the pixels as they are: (H, W, 3) uint8 → (15,) float64 in the order of `NAMES`.

    NaN means that the image is too small for that descriptor (see the top of this file).
    """
    _check(pixels)
    sums, windowed = sweep(pixels)
    height, width = pixels.shape[:2]
    values = (
        *_edge(sums, height * width),
        *_noise(sums, height, width),
        *_frequency(windowed, constant=sums["square"] == 0),
        *_statistics(sums, height, width),
        *_colour(sums, height * width),
    )
    return np.array(values, dtype=np.float64)


def _check(pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"expected RGB pixels (height, width, 3) uint8, got {pixels.shape} {pixels.dtype}")


# --- from sums to descriptors --------------------------------------------------------------------------------------


def _variance(total: float, square: float, count: int) -> float:
    return max(square / count - (total / count) ** 2, 0.0)


def _edge(sums: Counter, count: int) -> tuple[float, ...]:
    """arXiv 2604.04608 names Laplacian variance and Sobel statistics; formulas: choice. More or crisper edges: higher.

    laplacian_variance: variance of Y∗[0 1 0; 1 −4 1; 0 1 0], luminance², 0 … 16.
    sobel_mean, sobel_std: mean and standard deviation of G = √(gx² + gy²), kernel [1 2 1]ᵀ[−1 0 1] not normalised:
        eight times the change of luminance per pixel, mean 0 … 2√5.
    edge_density: share of pixels with G above a tenth of 4√2, 0 … 1. 4√2 is the bound that follows from |gx| ≤ 4 and
        |gy| ≤ 4 (choice); no pixels reach both at once.
    """
    return (
        _variance(sums["laplacian"], sums["laplacian²"], count) / WHITE**2,
        sums["sobel"] / count / WHITE,
        _variance(sums["sobel"], sums["sobel²"], count) ** 0.5 / WHITE,
        sums["edges"] / count,
    )


def _noise(sums: Counter, height: int, width: int) -> tuple[float, ...]:
    """arXiv 2604.04608 names residual variance; the others and all formulas: choice. More grain: higher.

    residual_variance: variance of r = Y − median₃ₓ₃(Y), luminance², 0 … 1.
    noise_sigma: √(π/2) / (6 (W−2)(H−2)) · Σ |Y∗[1 −2 1; −2 4 −2; 1 −2 1]| over the interior (Immerkær 1996): the
        standard deviation of white Gaussian noise, luminance, 0 … 1.7. Fine texture counts as noise.
    residual_kurtosis: fourth central moment of r over its squared variance, less 3 (Fisher's excess: choice), no unit,
        −2 … unbounded; 0 for Gaussian grain, high where the residual is rare but strong.
    """
    count = height * width
    mean, second, third, fourth = (sums[name] / count for name in ("residual", "residual²", "residual³", "residual⁴"))
    variance = max(second - mean**2, 0.0)
    central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    interior = (height - 2) * (width - 2) if min(height, width) >= 3 else 0
    return (
        variance / WHITE**2,
        (np.pi / 2) ** 0.5 / (6 * interior) * sums["noise"] / WHITE if interior else np.nan,
        central / variance**2 - 3 if variance > 0 else 0.0,
    )


def _frequency(windowed: np.ndarray, constant: bool) -> tuple[float, ...]:
    """arXiv 2604.04608 names the group; members and formulas: choice. Power is |FFT(Y · Hann)|² without the DC bin.

    The mean of Y is not subtracted first (choice): what the window leaks of it into the bins beside DC is counted.

    high_frequency_ratio: power beyond a radius of 0.25 cycles per pixel over all power, 0 … 1; fine detail: higher.
    spectral_slope: least-squares slope of log₁₀ mean ring power over log₁₀ frequency. Rings have whole-number radius
        1 … ⌊min(H, W)/2⌋ in units of 1/min(H, W) cycles per pixel, halves going up; rings without power are left out.
        No unit; 0 for white noise, about −2 for natural images, lower for soft ones.
    spectral_entropy: Shannon entropy of the power's shares, bits, 0 … log₂(H·W − 1); evenly spread power: higher.
    """
    shorter = min(windowed.shape)
    if 2 in windowed.shape:
        return np.nan, np.nan, np.nan
    too_few_rings = np.nan if shorter < 4 else 0.0
    if constant:
        return 0.0, too_few_rings, 0.0
    ring_power, ring_count, total, high, power_log_power = _spectrum_sums(windowed)
    if total == 0:
        return 0.0, too_few_rings, 0.0
    rings = slice(1, shorter // 2 + 1)
    slope = _slope(ring_power[rings] / ring_count[rings]) if shorter >= 4 else np.nan
    return high / total, slope, max(np.log2(total) - power_log_power / total, 0.0)


def _spectrum_sums(windowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """Power and number of bins per ring, power in all, power beyond half Nyquist, Σ power·log₂ power; DC left out.

    A real image has a symmetric spectrum: half of it is computed, and the rows ky and −ky of that share their radii.
    Squared radii are whole numbers, (ky·W)² + (kx·H)², so a bin on a boundary falls on the same side everywhere.
    """
    height, width = windowed.shape
    spectrum = scipy.fft.rfft2(windowed, overwrite_x=True)
    spectrum[0, 0] = 0
    columns, rows = np.arange(width // 2 + 1), np.arange(height // 2 + 1)
    twice_columns, twice_rows = _twice(columns, width), _twice(rows, height)
    across, down = np.square(columns * float(height)), np.square(rows * float(width))
    last = min(height, width) // 2 + 1  # rings beyond the largest inscribed circle are heaped up here
    sums: Any = Counter()  # of arrays and numbers
    step = max(1, BAND // len(columns))
    for part in (slice(first, first + step) for first in range(0, len(rows), step)):
        pair = spectrum[[rows[part], -rows[part]]]  # (2, rows, columns)
        power = (np.square(pair.real) + np.square(pair.imag)).astype(np.float64)
        power[1, twice_rows[part] == 1] = 0
        logarithm = cv2.log(np.maximum(power, np.finfo(np.float64).tiny).ravel()).ravel()
        power *= twice_columns
        folded = (power[0] + power[1]).ravel()
        radius = (down[part, None] + across).ravel()
        ring = np.minimum(np.sqrt(radius) / max(height, width) + 0.5, last).astype(np.intp)
        sums.update(
            ring_power=np.bincount(ring, folded, last + 1),
            ring_count=np.bincount(ring, np.outer(twice_rows[part], twice_columns).ravel(), last + 1),
            total=folded.sum(),
            high=folded @ (radius > (height * width / 4) ** 2).astype(np.float64),
            entropy=power.ravel() @ logarithm / np.log(2),
        )
    return sums["ring_power"], sums["ring_count"], sums["total"], sums["high"], sums["entropy"]


def _twice(frequencies: np.ndarray, length: int) -> np.ndarray:
    """How many lines of the full spectrum each frequency stands for: 2, but 1 for zero and for Nyquist."""
    return np.where((frequencies == 0) | (2 * frequencies == length), 1.0, 2.0)


def _slope(power: np.ndarray) -> float:
    """Least-squares slope of log₁₀ power over log₁₀ ring number (the unit of frequency does not change a slope)."""
    kept = power > 0
    if np.count_nonzero(kept) < 2:
        return 0.0
    frequency = np.log10(1 + np.flatnonzero(kept))
    frequency -= frequency.mean()
    return float(frequency @ np.log10(power[kept]) / (frequency @ frequency))


def _statistics(sums: Any, height: int, width: int) -> tuple[float, ...]:
    """arXiv 2604.04608 names the group; members and formulas: choice.

    luminance_variance: variance of Y, luminance², 0 … 0.25; strong contrast: higher.
    histogram_entropy: Shannon entropy of Y rounded to 256 levels, halves going up, bits, 0 … 8; many tones: higher.
    lag1_autocorrelation: Pearson correlation of each pixel with its right and with its lower neighbour, mean of the
        two, −1 … 1; smooth pictures are close to 1, white noise to 0, alternating lines negative. An axis without
        variance gives 0; an axis of a single pixel is left out.
    """
    share = sums["histogram"][sums["histogram"] > 0] / (height * width)
    lags = []
    if width > 1:
        lags.append(_correlation(sums, "across", "left", "right", height * (width - 1)))
    if height > 1:
        lags.append(_correlation(sums, "down", "top", "bottom", (height - 1) * width))
    return (
        _variance(sums["sum"], sums["square"], height * width) / WHITE**2,
        abs(float(share @ np.log2(share))),
        sum(lags) / len(lags) if lags else np.nan,
    )


def _correlation(sums: Any, pairs: str, begin: str, end: str, count: int) -> float:
    """Pearson correlation of all lines but the last with all but the first, from sums over all and over these two."""
    first, second = ((sums["sum"] - sums[line]) / count for line in (end, begin))
    first_square, second_square = ((sums["square"] - sums[line + "²"]) / count for line in (end, begin))
    variances = first_square - first**2, second_square - second**2
    if min(variances) <= 1e-12 * max(first_square, second_square):  # what rounding leaves of a constant
        return 0.0
    covariance = (first_square + second_square - sums[pairs] / count) / 2 - first * second
    return float(np.clip(covariance / (variances[0] * variances[1]) ** 0.5, -1.0, 1.0))


def _colour(sums: Counter, count: int) -> tuple[float, ...]:
    """arXiv 2604.04608 names the group; members and formulas: choice.

    saturation: mean of (max − min) / max over R, G, B, 0 for black, 0 … 1; pure colours: higher.
    colourfulness: √(σ²_rg + σ²_yb) + 0.3 √(μ²_rg + μ²_yb) with rg = R − G, yb = (R + G)/2 − B on 0 … 255
        (Hasler & Süsstrunk 2003); 0 for grey, above about 80 for very colourful pictures.
    """
    red_green, red_blue, green_blue = ((sums[pair] / count) for pair in ("red-green", "red-blue", "green-blue"))
    red, green, blue = (sums[channel] / count for channel in ("red", "green", "blue"))
    means = red - green, (red + green) / 2 - blue
    # yb = ((R − B) + (G − B)) / 2, and twice the mixed term of its square is (R − B)² + (G − B)² − (R − G)².
    squares = red_green, (2 * red_blue + 2 * green_blue - red_green) / 4
    variance = sum(max(square - mean**2, 0.0) for square, mean in zip(squares, means, strict=True))
    return sums["saturation"] / count, variance**0.5 + 0.3 * (means[0] ** 2 + means[1] ** 2) ** 0.5
