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


def smooth_of(plane: np.ndarray) -> np.ndarray:
    """A Gaussian mean over 7 x 7 pixels, sigma 7/6, mirrored at the border without repeating it."""
    weights = np.exp(-((np.arange(7) - 3) ** 2) / (2 * (7 / 6) ** 2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    return (np.lib.stride_tricks.sliding_window_view(np.pad(plane, 3, mode="reflect"), (7, 7)) * weights).sum((2, 3))


def scene_of(planes: np.ndarray) -> dict[str, float]:
    """Name → value of the natural scene statistics."""
    values: dict[str, float] = {}
    for scale in (2, 4, 8):
        planes = [plane.reshape(len(plane) // 2, 2, -1, 2).mean((1, 3)) for plane in planes]
        normal, logs = [], []
        for name, plane in zip(residual.CHANNELS, planes, strict=True):
            mean = smooth_of(plane)
            deviation = np.sqrt(np.maximum(smooth_of(plane**2) - mean**2, 0))
            z = (plane - mean) / (deviation + 1)
            u = z / (np.sqrt((z**2).mean()) + 1e-3)
            pairs = {
                "horizontal": z[:, 1:] * z[:, :-1],
                "vertical": z[1:] * z[:-1],
                "diagonal": z[1:, 1:] * z[:-1, :-1],
                "antidiagonal": z[1:, :-1] * z[:-1, 1:],
            }
            of_channel = {
                "size": np.sqrt((z**2).mean()),
                "mean": np.abs(u).mean(),
                "skewness": np.tanh((u**3).mean()),
                "kurtosis": np.log((u**4).mean() + 0.1),
                "contrast": np.log(deviation.mean() + 0.1),
                "unevenness": np.log((deviation.std() + 0.1) / (deviation.mean() + 0.1)),
                "log contrast": np.log(deviation + 0.5).std(),
            }
            for direction, both in pairs.items():
                size = np.abs(both).mean()
                share = np.maximum(both, 0).mean() / (size + 5e-4)
                of_channel |= {f"{direction} product": both.mean(), f"{direction} product size": size, f"{direction} equal signs": share}
            values |= {f"scene/{name}/s{scale}/{key}": value for key, value in of_channel.items()}
            normal.append(u)
            logs.append(np.log(deviation + 0.5) - np.log(deviation + 0.5).mean())
        for a, b in PAIRS:
            both = normal[a] * normal[b]
            together = (logs[a] * logs[b]).mean() / np.sqrt((logs[a] ** 2).mean() * (logs[b] ** 2).mean() + 1e-8)
            between = {"product": both.mean(), "product size": np.abs(both).mean(), "contrast": together}
            name = f"{residual.CHANNELS[a]}-{residual.CHANNELS[b]}"
            values |= {f"scene/{name}/s{scale}/{key}": value for key, value in between.items()}
    return values


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
    spectra, coherences, scenes, histograms = [], [], [], []
    for window in residual.windows(pixels):
        planes = planes_of(window)
        spectrum, coherence = spectrum_of(planes)
        spectra.append(spectrum)
        coherences.append(coherence)
        statistics = scene_of(planes)
        scenes.append([statistics[name] for name in FEATURES if name.startswith("scene/")])
        views = []
        for turned in (False, True):
            sources = {residual.CHANNELS: planes, residual.RGB: window.transpose(2, 0, 1).astype(float)}
            rows = {name: source.swapaxes(1, 2).copy() if turned else source for name, source in sources.items()}
            views.append([histogram_of(quantised_of(rows[f.quantiser.planes], f.quantiser), f).ravel() for f in FAMILIES])
        histograms.append(np.mean([np.concatenate(view) for view in views], axis=0))
    spectra, coherences, scenes, histograms = (np.mean(part, axis=0).ravel() for part in (spectra, coherences, scenes, histograms))
    return np.concatenate([spectra, coherences, scenes, np.sqrt(histograms)])


@pytest.mark.parametrize("case", ["photograph", "noise", "small"])
def test_the_numbers_are_those_of_the_definition(case, photographs):
    noise = np.random.default_rng(0).integers(0, 256, (130, 200, 3), dtype=np.uint8)
    pixels = {"photograph": photographs[1][:150, :300], "noise": noise, "small": noise[:40, :90]}[case]
    expected, numbers = defined(pixels), features(pixels)
    smooth = np.array([not name.startswith("cooc/") for name in FEATURES])
    np.testing.assert_allclose(numbers[smooth], expected[smooth], atol=5e-5)  # rounding of float32
    # a difference of exactly half a step may be rounded either way: then one pattern in a window's 15,000 changes its cell
    np.testing.assert_allclose(numbers[~smooth] ** 2, expected[~smooth] ** 2, atol=1e-4)
