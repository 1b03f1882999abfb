"""Natural scene statistics: what contrast-normalised pixels look like at a half, a quarter and an eighth of the resolution.

A plane less its local mean, divided by its local standard deviation, has nearly the same distribution in all photographs (Ruderman,
The statistics of natural images, 1994); blind measures of image quality read it (BRISQUE: Mittal, Moorthy and Bovik 2012). Saving and
resizing change it less than the finest scale, which the other numbers of `features` read. Scales, moments and floors: choice.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np

SCALES = (2, 4, 8)  # pixels of the window to a side of a coarse pixel
SIDE, SIGMA = 7, 7 / 6  # of the Gaussian window, in coarse pixels: BRISQUE's
FLOOR = 1.0  # grey levels, added to the standard deviation: a flat area stays near zero (BRISQUE's)
MOMENTS = ("size", "mean", "skewness", "kurtosis", "contrast", "unevenness", "log contrast")
DIRECTIONS = ("horizontal", "vertical", "diagonal", "antidiagonal")  # of the two neighbours in a product
PRODUCTS = ("product", "product size", "equal signs")


def names(channels: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """What `scene_statistics` returns, as "scene/CHANNEL/sSCALE/STATISTIC". pairs: of channels."""
    of_channel = [*MOMENTS, *(f"{direction} {name}" for direction, name in product(DIRECTIONS, PRODUCTS))]
    between = ("product", "product size", "contrast")
    return tuple(
        name
        for scale in SCALES
        for name in (
            *(f"scene/{channel}/s{scale}/{statistic}" for statistic in of_channel for channel in channels),
            *(f"scene/{channels[a]}-{channels[b]}/s{scale}/{statistic}" for statistic in between for a, b in pairs),
        )
    )


def scene_statistics(planes: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(C, H, W) float64 planes in grey levels, H and W multiples of 8 -> (F,) float32 in the order of `names`, finite.

    In float64, because the variance of a bright flat area is the small difference of two large numbers.

    Of each scale and plane: `MOMENTS` of the normalised plane u and of the local standard deviation s; of u times a neighbour in each of
    `DIRECTIONS`: its mean, its mean size, and the share of its size that is positive. Of two planes: mean and mean size of the product of
    both u, each divided by its root mean square, and the correlation of log s.
    """
    plane = np.ascontiguousarray(planes.transpose(1, 2, 0))
    rows = []
    for _ in SCALES:
        plane = cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_AREA)
        mean, square = _smooth(plane), _smooth(plane * plane)
        contrast = np.sqrt(np.maximum(square - mean * mean, 0))
        normalised, contrast = (_planes_first(part) for part in ((plane - mean) / (contrast + FLOOR), contrast))
        unit, logs = _unit(normalised), np.log(contrast + 0.5)
        rows += [*_moments(normalised, unit, contrast, logs), *_neighbours(normalised), *_between(unit, logs, pairs)]
    return np.concatenate(rows, dtype=np.float32)


def _smooth(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (SIDE, SIDE), SIGMA, borderType=cv2.BORDER_REFLECT_101)


def _planes_first(plane: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(plane.transpose(2, 0, 1))


def _mean(plane: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (C,)"""
    return plane.reshape(len(plane), -1).mean(1)


def _spread(plane: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (C,) standard deviations."""
    return plane.reshape(len(plane), -1).std(1)


def _unit(normalised: np.ndarray) -> np.ndarray:
    """Each plane divided by its root mean square."""
    return normalised / (np.sqrt(_mean(normalised * normalised)) + 1e-3)[:, None, None]


def _moments(normalised: np.ndarray, unit: np.ndarray, contrast: np.ndarray, logs: np.ndarray) -> list[np.ndarray]:
    """MOMENTS, (C,) each. logs: of the contrast."""
    square, mean = unit * unit, _mean(contrast)
    return [
        np.sqrt(_mean(normalised * normalised)),
        _mean(np.abs(unit)),
        np.tanh(_mean(square * unit)),
        np.log(_mean(square * square) + 0.1),
        np.log(mean + 0.1),
        np.log(_spread(contrast) + 0.1) - np.log(mean + 0.1),
        _spread(logs),
    ]


def _neighbours(normalised: np.ndarray) -> list[np.ndarray]:
    """Of each of DIRECTIONS the PRODUCTS, (C,) each."""
    pairs = (
        (normalised[:, :, 1:], normalised[:, :, :-1]),
        (normalised[:, 1:], normalised[:, :-1]),
        (normalised[:, 1:, 1:], normalised[:, :-1, :-1]),
        (normalised[:, 1:, :-1], normalised[:, :-1, 1:]),
    )
    rows = []
    for first, second in pairs:
        both = first * second
        mean, size = _mean(both), _mean(np.abs(both))
        rows += [mean, size, (mean + size) / (2 * size + 1e-3)]
    return rows


def _between(unit: np.ndarray, logs: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    """Of two planes: mean product, mean size of the product, correlation of the logarithms of the contrast; (P,) each."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    logs = logs - _mean(logs)[:, None, None]
    both, size = unit[first] * unit[second], _mean(logs * logs)
    return [_mean(both), _mean(np.abs(both)), _mean(logs[first] * logs[second]) / np.sqrt(size[first] * size[second] + 1e-8)]
