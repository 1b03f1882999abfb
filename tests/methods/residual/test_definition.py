"""The residual's numbers against their definition, written out window by window and pattern by pattern, in float64."""

import cv2
import numpy as np
import pytest

from detector.methods.residual import features as residual
from detector.methods.residual.features import FAMILIES, FEATURES, PAIRS, features


def planes_of(window: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 → (3, 128, 128) float64: Y, B−Y, R−Y in grey levels."""
    red, green, blue = window.transpose(2, 0, 1).astype(float)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, blue - luma, red - luma])


def spectrum_of(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log power by radial bin, (3, 43), and coherence by pair and band, (3, 9)."""
    grid = residual._grid()
    high = np.stack([plane - cv2.GaussianBlur(plane, (3, 3), 0.85) for plane in planes])
    size = np.stack([cv2.boxFilter(plane**2, -1, (15, 15)) for plane in high])
    fourier = np.fft.rfft2(high / np.sqrt(size + residual.FLAT_VARIANCE) * grid.taper).reshape(3, -1)
    power = np.abs(fourier) ** 2
    bins = [grid.bins == number for number in range(residual.FIRST_BIN, residual.LAST_BIN + 1)]
    curves = np.stack([np.log(power / grid.gain + 1)[:, inside].mean(1) for inside in bins], axis=1)
    bands = [grid.bands == band for band in range(residual.BANDS)]
    energy = np.stack([power[:, inside].sum(1) for inside in bands], axis=1) + grid.floor
    cross = [[(fourier[a] * fourier[b].conj())[inside].real.sum() for inside in bands] for a, b in PAIRS]
    return curves - curves.mean(1, keepdims=True), np.array(
        [c / np.sqrt(energy[a] * energy[b]) for c, (a, b) in zip(cross, PAIRS, strict=True)]
    )


def quantised_of(rows: np.ndarray, quantiser: residual.Quantiser) -> np.ndarray:
    """(3, H, W) grey levels → (3, H, shorter) whole numbers around 0: differences along the rows, in steps."""
    for _ in range(quantiser.differences):
        rows = rows[..., quantiser.dilation :] - rows[..., : -quantiser.dilation]
    sizes = np.abs(rows)
    steps = {
        "unit": 1.0,
        "median": np.median(sizes[:, ::2, ::2], axis=(1, 2))[:, None, None] + 0.3,
        "local": 0.7 * np.stack([cv2.boxFilter(plane, -1, (7, 7)) for plane in sizes]) + 0.3,
    }
    return np.clip(np.rint(rows / steps[quantiser.step]), -quantiser.levels, quantiser.levels).astype(int)


def histogram_of(quantised: np.ndarray, family: residual.Family) -> np.ndarray:
    """(3, cells): shares of the patterns of `order` neighbours, a pattern, its mirror and its negative in one cell."""
    names = residual._cells(family.quantiser.levels, family.order)[1]
    places = {name: number for number, name in enumerate(names)}
    lines = quantised.swapaxes(1, 2) if family.across else quantised
    shares = np.zeros((3, len(names)))
    for plane, rows in enumerate(lines):
        patterns = np.lib.stride_tricks.sliding_window_view(rows, family.order, axis=1).reshape(-1, family.order)
        for pattern, count in zip(*np.unique(patterns, axis=0, return_counts=True), strict=True):
            forms = (tuple(form + family.quantiser.levels) for form in (pattern, pattern[::-1], -pattern, -pattern[::-1]))
            name = next(name for name in ("".join(map(str, form)) for form in forms) if name in places)
            shares[plane, places[name]] += count / len(patterns)
    return shares


def defined(pixels: np.ndarray) -> np.ndarray:
    """(F,) as `features`."""
    spectra, coherences, histograms = [], [], []
    for window in residual.windows(pixels):
        planes = planes_of(window)
        spectrum, coherence = spectrum_of(planes)
        spectra.append(spectrum)
        coherences.append(coherence)
        views = []
        for turned in (False, True):
            sources = {residual.CHANNELS: planes, residual.RGB: window.transpose(2, 0, 1).astype(float)}
            rows = {name: source.swapaxes(1, 2).copy() if turned else source for name, source in sources.items()}
            views.append([histogram_of(quantised_of(rows[f.quantiser.planes], f.quantiser), f).ravel() for f in FAMILIES])
        histograms.append(np.mean([np.concatenate(view) for view in views], axis=0))
    spectra, coherences, histograms = (np.mean(part, axis=0).ravel() for part in (spectra, coherences, histograms))
    return np.concatenate([spectra, coherences, np.sqrt(histograms)])


@pytest.mark.parametrize("case", ["photograph", "noise", "small"])
def test_the_numbers_are_those_of_the_definition(case, photographs):
    noise = np.random.default_rng(0).integers(0, 256, (130, 200, 3), dtype=np.uint8)
    pixels = {"photograph": photographs[1][:150, :300], "noise": noise, "small": noise[:40, :90]}[case]
    expected, numbers = defined(pixels), features(pixels)
    smooth = np.array([not name.startswith("cooc/") for name in FEATURES])
    np.testing.assert_allclose(numbers[smooth], expected[smooth], atol=5e-5)  # rounding of float32
    # a difference of exactly half a step may be rounded either way: then one pattern in a window's 15,000 changes its cell
    np.testing.assert_allclose(numbers[~smooth] ** 2, expected[~smooth] ** 2, atol=1e-4)
