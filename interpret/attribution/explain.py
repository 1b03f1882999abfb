"""Where the evidence lies in one image: its heatmaps, the numbers beside them, what they are worth, and the files of `explain`.

A large image is read through a bounded number of windows, so that time and memory stay bounded too: where its own resolution
would need more, a copy reduced to fit is read, and the words say so. Maps stay at the size that was read until they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from detector.data.windows import Box
from interpret.attribution import cam
from interpret.attribution import map_measures as mapcard
from interpret.attribution.cam import Heatmap, Progress
from interpret.attribution.faithfulness import MEASURES, RIVALS, area, curves_of_window
from interpret.attribution.map_measures import Measures

if TYPE_CHECKING:
    from detector.analysis import Analysis
    from detector.data.images import Photo
    from detector.suite import Suite

WINDOWS = 100  # read at most (choice): with windows of 144 pixels a 1024 × 1024 image is read at its own resolution
LITTLE = 0.1  # of the scale: evidence below that is called little
PLACES = 3  # strongest places named on either side
UNIT = "logits per window if it all looked like this place"
UNITS = {cam.WINDOWS: "mean logit of the windows around this place", cam.ERROR: "length of the difference vector"}


class ExplainError(ValueError):
    """One sentence that says why there is no map."""


@dataclass(frozen=True)
class Explanation:
    """pixels: (h, w, 3) uint8 that was read: the image, or a smaller copy. shape: (H, W) of the original. window: its side in pixels.

    maps: layer → Heatmap in the coordinates of `pixels`, the default first. measures: their scales and their worth.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    window: int
    maps: dict[str, Heatmap]
    measures: Measures
    note: str = ""


def explain(
    suite: Suite, photo: Photo, layers: Sequence[str] | None = None, most: int | None = WINDOWS, progress: Progress | None = None
) -> Explanation:
    """Heatmaps of a photo for several layers (None: all). most: windows read at most, None for all at full resolution.

    progress: called with (windows done, in all). ExplainError, one sentence, where the backbone has no sdd head or no such layer.
    """
    head, measures, known = sdd_head(suite), _measures(suite), layers_of(suite)
    if unknown := [layer for layer in layers or () if layer not in known]:
        raise ExplainError(f"There is no layer '{unknown[0]}'; there are {', '.join(known)}.")
    small, note = cam.reduced(photo.pixels, head.size, most)
    maps = cam.heatmaps(head, small, layers or known, most, progress=progress)
    return Explanation(small, photo.pixels.shape[:2], head.size, maps, measures, note)


def _measures(suite: Suite) -> Measures:
    return mapcard.read(mapcard.path_of(suite.backbone.name), sdd_head(suite))


def layers_of(suite: Suite) -> list[str]:
    """All layers of the suite's sdd head, the default first."""
    default = _measures(suite).default
    return sorted(cam.layers_of(sdd_head(suite)), key=lambda layer: layer != default)


def sdd_head(suite: Suite):
    """The head whose evidence has places. ExplainError where the backbone has none."""
    if "sdd" not in suite.heads:
        raise ExplainError(
            f"There are no heatmaps for '{suite.backbone.name}': no sdd head was trained on it (`python -m detector train sdd`)."
        )
    return suite.heads["sdd"]


def shrunk(found: Explanation, side: int) -> Explanation:
    """The same at no more than `side` pixels on the longer side and with float16 maps, to keep and to draw quickly."""
    height, width = found.pixels.shape[:2]
    factor = min(1.0, side / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    maps = {layer: cam.enlarged(own, shape) for layer, own in found.maps.items()}
    pixels = cv2.resize(found.pixels, shape[::-1], interpolation=cv2.INTER_AREA) if factor < 1 else found.pixels
    return replace(found, pixels=pixels, maps={layer: replace(own, values=own.values.astype(np.float16)) for layer, own in maps.items()})


def drawn(found: Explanation, layer: str, opacity: float, side: int) -> Image.Image:
    """`cam.overlay` with `side` pixels on the longer side, on the measured scale. opacity: 0 to 1."""
    height, width = found.pixels.shape[:2]
    factor, own = side / max(height, width), found.maps[layer]
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    pixels = cv2.resize(found.pixels, shape[::-1], interpolation=cv2.INTER_LINEAR if factor > 1 else cv2.INTER_AREA)
    large = cam.enlarged(replace(own, values=own.values.astype(np.float32)), shape)
    return cam.overlay(pixels, large, found.measures.scale(layer), opacity)


# --- numbers -------------------------------------------------------------------------------------------------------


def regions(values: np.ndarray) -> list[list[float | None]]:
    """Means over a 3 × 3 grid, None where nothing was seen."""
    return [[_mean(part) for part in np.array_split(band, 3, axis=1)] for band in np.array_split(values, 3, axis=0)]


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if known.size else None


def strongest(values: np.ndarray, side: int) -> list[tuple[Box, float]]:
    """Squares of `side` pixels (cut at the edges) with their mean evidence, the highest first; those with nothing seen are left out."""
    height, width = values.shape
    boxes = [(x, y, min(x + side, width), min(y + side, height)) for y in range(0, height, side) for x in range(0, width, side)]
    means = [(box, _mean(values[box[1] : box[3], box[0] : box[2]])) for box in boxes]
    return sorted(((box, mean) for box, mean in means if mean is not None), key=lambda place: -place[1])


def numbers(found: Explanation, layer: str) -> dict:
    """A map in plain numbers; boxes are x0, y0, x1, y1 in the original.

    share: of the area that was seen, above +10 % of the scale ("positive"), below −10 % ("negative"), between ("little"); not_seen: of
    the whole area. mean: of the positive and of the negative part; their sum is the map's mean. strongest: squares with a third of
    a window's side, at most three on either side of 0.
    """
    own, scale = found.maps[layer], found.measures.scale(layer)
    known = own.values[np.isfinite(own.values)].astype(np.float32)
    limit = LITTLE * scale
    places = strongest(own.values, max(1, found.window // 3))
    sides = {"positive": [p for p in places if p[1] > 0][:PLACES], "negative": [p for p in reversed(places) if p[1] < 0][:PLACES]}
    boxed = {
        name: [{"box": list(cam.scaled_box(box, own.values.shape, found.shape)), "mean": mean} for box, mean in side]
        for name, side in sides.items()
    }
    return {
        "signed": own.signed,
        "unit": UNITS.get(layer, UNIT),
        "scale": scale,
        "scale_measured": layer in found.measures.scales,
        "regions": regions(own.values),
        "strongest": boxed,
        "share": {
            "positive": float((known > limit).mean()),
            "negative": float((known < -limit).mean()),
            "little": float((np.abs(known) <= limit).mean()),
            "not_seen": float(1 - known.size / own.values.size),
        },
        "mean": {"positive": float(np.maximum(known, 0).mean()), "negative": float(np.minimum(known, 0).mean())},
        "failed_tests": found.measures.failed(layer),
        "trust": found.measures.trust(layer).replace("**", ""),
    }


def windows(found: Explanation) -> dict:
    """What was read: the windows' boxes in the original, their logits, the mean, and in words how they were pooled."""
    own = next(iter(found.maps.values()))
    boxes = [list(cam.scaled_box(box, own.values.shape, found.shape)) for box in own.boxes]
    return {"size": found.window, "boxes": boxes, "logits": own.logits.tolist(), "logit": own.logit, "pooling": pooling(found)}


def pooling(found: Explanation, record: dict | None = None) -> str:
    """How many windows were read, at which resolution, and how they and the method's own score were pooled."""
    own, height, width = next(iter(found.maps.values())), *found.shape
    count = len(own.boxes)
    what = "one window" if count == 1 else f"{count} overlapping windows"
    resolution = f" {found.note}" if found.note else f" That is the image's own resolution, {width} × {height}."
    words = f"Read through {what} of {found.window} × {found.window} pixels; the mean of their logits is {own.logit:+.2f}.{resolution}"
    words += " The map of windows is made of more and denser ones." if cam.WINDOWS in found.maps else ""
    score = (record or {}).get("detectors", {}).get("sdd")
    return words + (
        f" The method's score in the verdict, {score['logit']:+.2f}, is the mean over a few evenly spaced windows "
        "of the image at its own resolution."
        if score
        else ""
    )


def rows(found: Explanation, layer: str) -> list[list[str]]:
    """The numbers as a table: place, mean evidence, reading. Nine regions; for either side its strongest squares, its share of the
    area and its part of the map's mean."""
    own, plain = found.maps[layer], numbers(found, layer)
    table = cam.rows(own, plain["scale"])
    for name, words in (("positive", "synthetic" if own.signed else "much"), ("negative", "real")):
        table += [
            [f"x {b[0]}–{b[2]}, y {b[1]}–{b[3]}", f"{mean:+.2f}", words]
            for b, mean in ((place["box"], place["mean"]) for place in plain["strongest"][name])
        ]
        if own.signed or name == "positive":
            table.append([f"{plain['share'][name]:.0%} of the area", f"{plain['mean'][name]:+.2f}", words])
    return table


# --- does it hold on this image? -----------------------------------------------------------------------------------


def focus(found: Explanation, layer: str) -> Box:
    """The window around the strongest place, of either sign, in the coordinates of `found.pixels`."""
    places, (height, width) = strongest(found.maps[layer].values, max(1, found.window // 3)), found.pixels.shape[:2]
    box = max(places, key=lambda place: abs(place[1]))[0]
    x, y = (
        int(np.clip((low + high - found.window) // 2, 0, max(0, length - found.window)))
        for low, high, length in zip(box[:2], box[2:], (width, height), strict=True)
    )
    return x, y, min(x + found.window, width), min(y + found.window, height)


def check(suite: Suite, photo: Photo, layer: str, box: Box, most: int | None = WINDOWS) -> dict[str, dict[str, np.ndarray]]:
    """Deletion and insertion curves of one layer's map and of maps that know nothing, for one window of the picture that was read.
    ExplainError for the map of windows, which has no places inside one.

    box: from `focus`. Returns `faithfulness.curves_of_window`: logits towards the side that the head decides for there. One window, as
    in `measure_maps`, because every point of a curve costs a forward pass for each window.
    """
    if layer == cam.WINDOWS:
        raise ExplainError("The map of windows has no places inside one window, where this check blurs; choose another map for it.")
    head = sdd_head(suite)
    small, _ = cam.reduced(photo.pixels, head.size, most)
    x0, y0, x1, y1 = box
    return curves_of_window(head, np.ascontiguousarray(small[y0:y1, x0:x1]), layer)


def check_rows(curves: dict[str, dict[str, np.ndarray]]) -> list[list[str]]:
    """Map, area under its deletion curve, area under its insertion curve, in logits."""
    named = ((name if name in RIVALS else "this map", found) for name, found in curves.items())
    return [[name, *(f"{area(found[measure]):+.2f}" for measure in MEASURES)] for name, found in named]


def check_reading(curves: dict[str, dict[str, np.ndarray]], layer: str) -> str:
    """In a sentence: which of the baselines the map beats in this window."""
    parts = []
    for measure, sign in zip(MEASURES, (-1, 1), strict=True):
        own = area(curves[layer][measure])
        beaten = [name for name in curves if name != layer and sign * (own - area(curves[name][measure])) > 0]
        parts.append(f"{len(beaten)} of {len(curves) - 1} in {measure}" + (f" ({', '.join(beaten)})" if beaten else ""))
    return (
        f"In the window around its strongest place this map beats, of the maps that know nothing, {' and '.join(parts)}. "
        "One image proves little; the sentence above tells what holds over many."
    )


# --- files ---------------------------------------------------------------------------------------------------------


def to_dict(analysis: Analysis, found: Explanation | None) -> dict:
    """The JSON object of `explain`: the analysis, and under "heatmaps" each map's numbers and file names."""
    if found is None:
        return analysis.to_dict()
    names = {layer: "sdd" if layer == found.measures.default else layer for layer in found.maps}
    layers = {layer: {"values": f"{name}.npy", "overlay": f"{name}.png"} | numbers(found, layer) for layer, name in names.items()}
    return analysis.to_dict() | {"heatmaps": {"default": found.measures.default, "windows": windows(found), "layers": layers}}


def write(analysis: Analysis, found: Explanation | None, pixels: np.ndarray, folder: Path) -> list[Path]:
    """`explanation.json`, and for each map `<layer>.npy` and `<layer>.png` at the size of `pixels`, the original (H, W, 3); `sdd` for
    the default layer.

    One map at a time is brought to the original's size, so that memory does not grow with their number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "explanation.json"
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:  # file names need not be text
        json.dump(to_dict(analysis, found), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    paths = [path]
    for layer, own in (found.maps if found else {}).items():
        full = cam.enlarged(own, found.shape)
        paths += cam.write({layer: full}, folder, pixels, {layer: found.measures.scale(layer)}, found.measures.default)
    return paths
