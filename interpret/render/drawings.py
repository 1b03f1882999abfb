"""Pictures that are neither photographs nor made by a generator, drawn by code: ours, so that a card may show them.

The heads were trained on none of their kind; the overview of their cards shows what the verdict makes of them. All are (256, 256, 3)
uint8 and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

SIDE = 256


def _page() -> np.ndarray:
    """A screenshot: a window with lines of text."""
    image = np.full((SIDE, SIDE, 3), 250, np.uint8)
    image[:26] = (60, 72, 96)
    cv2.putText(image, "Minutes of the meeting", (10, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    words = "we met in the old hall and spoke of the roof the budget and the garden which needs a new fence before winter comes".split()
    for row in range(14):
        line = " ".join(words[(row * 5 + i) % len(words)] for i in range(7))
        cv2.putText(image, line, (10, 50 + 15 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (40, 40, 40), 1, cv2.LINE_AA)
    return image


def _chart() -> np.ndarray:
    """A bar chart."""
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for y in range(40, 216, 35):
        cv2.line(image, (30, y), (236, y), (225, 225, 225), 1)
    for i, height in enumerate((60, 95, 80, 130, 150, 118)):
        cv2.rectangle(image, (42 + 32 * i, 216 - height), (64 + 32 * i, 216), (70, 130, 180) if i % 2 else (230, 140, 40), -1)
    cv2.line(image, (30, 216), (236, 216), (40, 40, 40), 2)
    return image


def _landscape() -> np.ndarray:
    """A drawing in flat colours: hills, a house, a sun."""
    image = np.full((SIDE, SIDE, 3), (150, 205, 240), np.uint8)
    cv2.circle(image, (200, 52), 26, (250, 215, 90), -1, cv2.LINE_AA)
    cv2.ellipse(image, (70, 250), (150, 110), 0, 180, 360, (110, 170, 90), -1, cv2.LINE_AA)
    cv2.ellipse(image, (210, 270), (150, 105), 0, 180, 360, (85, 145, 75), -1, cv2.LINE_AA)
    cv2.rectangle(image, (82, 130), (132, 176), (235, 225, 205), -1)
    cv2.fillPoly(image, [np.array([[76, 132], [107, 102], [138, 132]], np.int32)], (170, 70, 60), cv2.LINE_AA)
    cv2.rectangle(image, (100, 150), (113, 176), (110, 75, 55), -1)
    return image


def _sphere() -> np.ndarray:
    """Computer graphics: a shaded sphere on a lit ground, without grain."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    image = np.stack([150 + 70 * y / SIDE, 155 + 60 * y / SIDE, 175 + 40 * y / SIDE], axis=-1)
    image *= (1 - 0.55 * np.exp(-(((x - 150) / 70) ** 2 + ((y - 196) / 16) ** 2)))[..., None]
    across, up = (x - 122) / 74, (y - 122) / 74
    inside = across**2 + up**2 < 1
    depth = np.sqrt(np.clip(1 - across**2 - up**2, 0, None))
    light = np.clip(-0.5 * across - 0.6 * up + 0.62 * depth, 0, None)
    shaded = 40 + 150 * light[..., None] * np.array([1.0, 0.45, 0.3]) + 255 * light[..., None] ** 24
    return np.clip(np.where(inside[..., None], shaded, image), 0, 255).astype(np.uint8)


# File name → what it is, and how it is drawn.
DRAWINGS: dict[str, tuple[str, Callable[[], np.ndarray]]] = {
    "page.png": ("A screenshot of text", _page),
    "chart.png": ("A bar chart", _chart),
    "landscape.png": ("A drawing in flat colours", _landscape),
    "sphere.png": ("Computer graphics", _sphere),
}
