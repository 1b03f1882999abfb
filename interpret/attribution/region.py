"""The region to which a map points most: its outline, as a picture and as polygons, and the picture without it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from interpret.attribution.cam import Heatmap
from interpret.attribution.exact import standing_out

SIDE = 512  # pixels: the outline is found on a copy of the map of at most that many on the longer side (choice)
LEVEL = 0.5  # of the strongest place's distance from the picture's median: where the region ends (choice)
BLUR = 4.0  # pixels, standard deviation; as in `faithfulness.blur`
FEATHER = 2.0  # pixels, standard deviation of the border between picture and blur


@dataclass(frozen=True)
class Region:
    """rings: (N, 2) int pixels x, y of the picture, the outline first, then holes. side: "synthetic" or "real", "" of a map without
    direction.
    mean: of the map over it, in the map's unit. standing_out: of its strongest place, in robust standard deviations. share: of the
    picture's area. shape: (H, W) of the picture."""

    rings: tuple[np.ndarray, ...]
    side: str
    mean: float
    standing_out: float
    share: float
    shape: tuple[int, int]

    def mask(self) -> np.ndarray:
        """(H, W) uint8: 1 inside, 0 outside and in the holes."""
        canvas = np.zeros(self.shape, np.uint8)
        if self.rings:
            cv2.fillPoly(canvas, list(self.rings), 1)
        return canvas

    def feature(self, name: str) -> dict:
        """A GeoJSON-like Feature in pixels, x to the right and y down: the polygon's rings are closed. name: of the map."""
        rings = [[*ring.tolist(), ring[0].tolist()] for ring in self.rings]
        properties = {"map": name, "side": self.side, "mean": self.mean, "standing_out": self.standing_out, "share": self.share}
        size = {"width": self.shape[1], "height": self.shape[0]}
        return {"type": "Feature", "properties": properties | size, "geometry": {"type": "Polygon", "coordinates": rings}}


def strongest_region(heatmap: Heatmap, shape: tuple[int, int]) -> Region | None:
    """The connected part around the place that stands out most of a map, in the coordinates of a picture of `shape`, (H, W).

    It reaches as far as places stand out on the same side at least half as much. Of a map without direction only what is above the median
    counts. None where nothing stands out.
    """
    values = _small(heatmap.values.astype(np.float32))
    scores = np.nan_to_num(standing_out(Heatmap(values, heatmap.layer, (), heatmap.logits, heatmap.logit, heatmap.signed)).values)
    strength = np.abs(scores) if heatmap.signed else np.maximum(scores, 0)
    row, column = np.unravel_index(int(np.argmax(strength)), strength.shape)
    peak = float(scores[row, column])
    if peak == 0:
        return None
    _, labels = cv2.connectedComponents((np.sign(peak) * scores >= LEVEL * abs(peak)).astype(np.uint8))
    part = labels == labels[row, column]
    side = ("synthetic" if peak > 0 else "real") if heatmap.signed else ""
    return Region(_rings(part, shape), side, float(np.nanmean(values[part])), peak, float(part.mean()), shape)


def _small(values: np.ndarray) -> np.ndarray:
    factor = min(1.0, SIDE / max(values.shape))
    size = tuple(max(1, round(length * factor)) for length in values.shape[::-1])
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST) if factor < 1 else values


def _rings(part: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Outline and holes of a mask, in the coordinates of a picture of `shape`; the longest outline comes first."""
    scaled = cv2.resize(part.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(scaled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(contour, 1.0, True)[:, 0] for contour in sorted(contours, key=cv2.contourArea, reverse=True)]
    return tuple(rings)


def blurred(pixels: np.ndarray, region: Region) -> np.ndarray:
    """(H, W, 3) uint8: the picture with the region blurred, so that it holds no fine detail there; the border is soft, the rest
    untouched."""
    mask = region.mask()
    x, y, width, height = cv2.boundingRect(mask)
    margin = round(4 * (BLUR + FEATHER))
    rows, columns = slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)
    patch, result = pixels[rows, columns], pixels.copy()
    share = cv2.GaussianBlur(mask[rows, columns].astype(np.float32), (0, 0), FEATHER)[..., None]
    result[rows, columns] = np.rint(share * cv2.GaussianBlur(patch, (0, 0), BLUR) + (1 - share) * patch)
    return result
