"""Where the evidence lies in one image: its heatmaps, the numbers beside them, how far to trust them, and the files of `explain`.

A large image is read through a bounded number of windows, so that time and memory stay bounded too: where its own resolution
would need more windows, a reduced copy is read, and the words say so. Maps stay at the size of that copy until they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from detector.data.windows import Box
from detector.methods.residual.features import WINDOW
from detector.records import AnalysisRecord
from interpret.attribution import cam, exact, map_measures, overlay
from interpret.attribution.cam import Heatmap, Progress
from interpret.attribution.exact import MapHeads, Reading
from interpret.attribution.faithfulness import BASELINES, CURVES, WIDE, area, curves_of_window
from interpret.attribution.map_measures import Measures
from interpret.attribution.region import Region, strongest_region

if TYPE_CHECKING:
    from detector.analysis import Analysis
    from detector.data.images import Photo
    from detector.suite import Suite

WINDOW_LIMIT = 100  # windows read at most (choice): with windows of 144 pixels a 1024 × 1024 image is read at its own resolution
LITTLE = 0.1  # of the scale: evidence below that is called little
PLACES = 3  # strongest places named on either side
UNIT = "logits per window if it all looked like this place"
UNITS = {
    cam.WINDOW_LAYER: "mean logit of the windows around this place",
    exact.RESIDUAL_LAYER: "mean logit of residual's windows around this place",
    exact.TOKEN_LAYER: "logit of this place's token",
    exact.COMBINED_LAYER: "mean logit of sdd's tokens and of residual's windows around this place",
    cam.ERROR_LAYER: "length of the difference vector",
    cam.ROLLOUT_LAYER: "share of attention; 1: like all other places",
}
STANDING_OUT = "standing-out"  # the second form of every map
STANDING_OUT_UNIT = "robust standard deviations from the picture's own median"


class ExplainError(ValueError):
    """One sentence that says why there is no map."""


@dataclass(frozen=True)
class Explanation:
    """pixels: (h, w, 3) uint8 that was read: the image, or a smaller copy. shape: (H, W) of the original. window: its side in pixels.

    maps: layer → Heatmap in the coordinates of `pixels`, the default first. measures: their scales and the results of their tests. note: a
    sentence where the image was reduced, else "".
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    window: int
    maps: dict[str, Heatmap]
    measures: Measures
    note: str = ""


def explain(
    suite: Suite,
    photo: Photo,
    layers: Sequence[str] | None = None,
    window_limit: int | None = WINDOW_LIMIT,
    progress: Progress | None = None,
) -> Explanation:
    """Heatmaps of a photo for several layers (None: all). window_limit: windows read at most, None for all at full resolution.

    progress: called with (windows done, in all). ExplainError, one sentence, where the backbone has no sdd head or no such layer.
    """
    heads, measures, names = map_heads(suite), _measures(suite), layers_of(suite)
    for layer in layers or ():
        if layer not in names:
            raise ExplainError(f"There is no layer '{layer}'; there are {', '.join(names)}.")
    small, note = cam.reduced(photo.pixels, heads.sdd.size, window_limit)
    readings: dict[str, Heatmap] = {}
    for native in (False, True):  # the exact maps read what the scores read: the picture's own resolution
        part = [layer for layer in layers or names if (layer in exact.NATIVE) == native]
        if part:
            pixels = photo.pixels if native else small
            readings |= exact.maps(heads, pixels, part, Reading(None if native else window_limit, progress=progress))
    maps = {layer: cam.resize_map(readings[layer], small.shape[:2]) for layer in layers or names}
    return Explanation(small, photo.pixels.shape[:2], heads.sdd.size, maps, measures, note)


def _measures(suite: Suite) -> Measures:
    heads = map_heads(suite)  # first: without them there is nothing to measure
    return map_measures.read(map_measures.path_of(suite.roster.suite_for("sdd").backbone), heads)


def layers_of(suite: Suite) -> list[str]:
    """All layers of the suite's heads, the default first."""
    default = _measures(suite).default
    return sorted(map_heads(suite).layers(), key=lambda layer: layer != default)


def worths(suite: Suite) -> dict[str, str]:
    """Layer → the measured worth of its map in a few words, the default layer first. ExplainError where there are no maps."""
    measures = _measures(suite)
    return {layer: measures.worth(layer) for layer in layers_of(suite)}


def map_heads(suite: Suite) -> MapHeads:
    """The heads whose evidence has places. ExplainError where the backbone has no sdd head."""
    return MapHeads(sdd_head(suite), suite.roster.suite_for("residual").heads.get("residual"))


def sdd_head(suite: Suite):
    """The sdd head. ExplainError where the backbone has none."""
    heads = suite.roster.suite_for("sdd").heads
    if "sdd" not in heads:
        untrained = "no sdd head was trained on it (`python -m detector train sdd`)"
        why = untrained if suite.backbone.is_transformer else "an sdd head adapts a vision transformer, and its tower is none"
        raise ExplainError(f"There are no heatmaps for '{suite.backbone.name}': {why}.")
    return heads["sdd"]


def shrink(explanation: Explanation, side: int) -> Explanation:
    """The same at no more than `side` pixels on the longer side and with float16 maps, to keep and to draw quickly."""
    height, width = explanation.pixels.shape[:2]
    factor = min(1.0, side / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    maps = {layer: cam.resize_map(heatmap, shape) for layer, heatmap in explanation.maps.items()}
    pixels = cv2.resize(explanation.pixels, shape[::-1], interpolation=cv2.INTER_AREA) if factor < 1 else explanation.pixels
    return replace(
        explanation,
        pixels=pixels,
        maps={layer: replace(heatmap, values=heatmap.values.astype(np.float16)) for layer, heatmap in maps.items()},
    )


def form_of(explanation: Explanation, layer: str, standing: bool) -> tuple[Heatmap, float]:
    """A layer's map and its value at full colour: in logits or, if `standing`, as what stands out of its picture."""
    if standing:
        return exact.standing_out(explanation.maps[layer]), exact.STANDING_OUT_SCALE
    return explanation.maps[layer], explanation.measures.scale(layer)


def region_of(explanation: Explanation, layer: str) -> Region | None:
    """The region to which a layer's map points most, in the original's pixels; None where nothing stands out."""
    return strongest_region(explanation.maps[layer], explanation.shape)


def picture(explanation: Explanation, pixels: np.ndarray, layer: str, opacity: float, standing: bool = False) -> Image.Image:
    """The map over `pixels`, the original or a copy of it, at their size, with the outline of the strongest region. opacity: 0 to 1."""
    heatmap, scale = form_of(explanation, layer, standing)
    return overlay.overlay_at(pixels, heatmap, scale, opacity, strongest_region(explanation.maps[layer], pixels.shape[:2]))


# --- numbers -------------------------------------------------------------------------------------------------------


def regions(values: np.ndarray) -> list[list[float | None]]:
    """Means over a 3 × 3 grid, None where nothing was read."""
    return [[_mean(part) for part in np.array_split(band, 3, axis=1)] for band in np.array_split(values, 3, axis=0)]


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else None


def strongest(values: np.ndarray, side: int) -> list[tuple[Box, float]]:
    """Squares of `side` pixels (cut at the edges) with their mean evidence, the highest first; those without a value are left out."""
    height, width = values.shape
    boxes = [(x, y, min(x + side, width), min(y + side, height)) for y in range(0, height, side) for x in range(0, width, side)]
    means = [(box, _mean(values[box[1] : box[3], box[0] : box[2]])) for box in boxes]
    return sorted(((box, mean) for box, mean in means if mean is not None), key=lambda place: -place[1])


def numbers(explanation: Explanation, layer: str) -> dict:
    """A map in plain numbers; boxes are x0, y0, x1, y1 in the original.

    share: of the area that was read, above +10 % of the scale ("positive"), below −10 % ("negative"), between ("little"); not_seen: of
    the whole area. mean: of the positive and of the negative part; their sum is the map's mean. strongest: squares with a third of
    a window's side, at most three on either side of 0.
    """
    heatmap, scale = explanation.maps[layer], explanation.measures.scale(layer)
    finite = heatmap.values[np.isfinite(heatmap.values)].astype(np.float32)
    limit = LITTLE * scale
    places = strongest(heatmap.values, max(1, explanation.window // 3))
    sides = {"positive": [p for p in places if p[1] > 0][:PLACES], "negative": [p for p in reversed(places) if p[1] < 0][:PLACES]}
    boxed = {
        name: [{"box": list(cam.scaled_box(box, heatmap.values.shape, explanation.shape)), "mean": mean} for box, mean in side]
        for name, side in sides.items()
    }
    return {
        "signed": heatmap.signed,
        "unit": UNITS.get(layer, UNIT),
        "scale": scale,
        "scale_measured": layer in explanation.measures.scales,
        "regions": regions(heatmap.values),
        "strongest": boxed,
        "share": {
            "positive": float((finite > limit).mean()),
            "negative": float((finite < -limit).mean()),
            "little": float((np.abs(finite) <= limit).mean()),
            "not_seen": float(1 - finite.size / heatmap.values.size),
        },
        "mean": {"positive": float(np.maximum(finite, 0).mean()), "negative": float(np.minimum(finite, 0).mean())},
        "region": None if (region := region_of(explanation, layer)) is None else region.feature(layer),
        "failed_tests": explanation.measures.failed(layer),
        "trust": explanation.measures.trust(layer).replace("**", ""),
    }


def windows(explanation: Explanation) -> dict:
    """What was read: the windows' boxes in the original, their logits, the mean, and in words how they were pooled."""
    heatmap = _window_reading(explanation)
    boxes = [list(cam.scaled_box(box, heatmap.values.shape, explanation.shape)) for box in heatmap.boxes]
    return {
        "size": explanation.window,
        "boxes": boxes,
        "logits": heatmap.logits.tolist(),
        "logit": heatmap.logit,
        "pooling": pooling(explanation),
    }


def _window_reading(explanation: Explanation) -> Heatmap:
    """A map that was made from the windows of SDD which `windows` and `pooling` describe; any, where there is none."""
    others = [heatmap for layer, heatmap in explanation.maps.items() if layer not in exact.NATIVE]
    return others[0] if others else next(iter(explanation.maps.values()))


def pooling(explanation: Explanation, record: AnalysisRecord | None = None) -> str:
    """How many windows were read, at which resolution, and how they and the method's own score were pooled."""
    heatmap, height, width = _window_reading(explanation), *explanation.shape
    count = len(heatmap.boxes)
    what = "one window" if count == 1 else f"{count} overlapping windows"
    resolution = f" {explanation.note}" if explanation.note else f" That is the image's own resolution, {width} × {height}."
    side = explanation.window
    words = f"Read through {what} of {side} × {side} pixels; the mean of their logits is {heatmap.logit:+.2f}.{resolution}"
    words += " The map of windows is made of more and denser ones." if cam.WINDOW_LAYER in explanation.maps else ""
    score = record.get("detectors", {}).get(record.get("heads", {}).get("sdd", "sdd")) if record else None
    return words + (
        f" The method's score in the verdict, {score['logit']:+.2f}, is the mean over up to 16 evenly spaced windows "
        "of the image at its own resolution."
        if score
        else ""
    )


def rows(explanation: Explanation, layer: str) -> list[list[str]]:
    """The numbers as a table: place, mean evidence, reading. Nine regions; for either side its strongest squares, its share of the
    area and its part of the map's mean."""
    heatmap, plain = explanation.maps[layer], numbers(explanation, layer)
    table = overlay.rows(heatmap, plain["scale"])
    for name, words in (("positive", "synthetic" if heatmap.signed else "much"), ("negative", "real")):
        table += [
            [f"x {b[0]}–{b[2]}, y {b[1]}–{b[3]}", f"{mean:+.2f}", words]
            for b, mean in ((place["box"], place["mean"]) for place in plain["strongest"][name])
        ]
        if heatmap.signed or name == "positive":
            table.append([f"{plain['share'][name]:.0%} of the area", f"{plain['mean'][name]:+.2f}", words])
    return table


# --- does it hold on this image? -----------------------------------------------------------------------------------


def focus(explanation: Explanation, layer: str) -> Box:
    """The window around the strongest place, of either sign, in the coordinates of `explanation.pixels`; for the maps that
    rest on `residual` four of its windows."""
    places, (height, width) = strongest(explanation.maps[layer].values, max(1, explanation.window // 3)), explanation.pixels.shape[:2]
    box = max(places, key=lambda place: abs(place[1]))[0]
    side = 2 * WINDOW if layer in WIDE else explanation.window
    x, y = (
        int(np.clip((low + high - side) // 2, 0, max(0, length - side)))
        for low, high, length in zip(box[:2], box[2:], (width, height), strict=True)
    )
    return x, y, min(x + side, width), min(y + side, height)


def check(suite: Suite, photo: Photo, layer: str, box: Box, window_limit: int | None = WINDOW_LIMIT) -> dict[str, dict[str, np.ndarray]]:
    """Deletion and insertion curves of one layer's map and of maps that know nothing, for one window of the picture that was read.
    ExplainError for the map of windows, which has no places inside one.

    box: from `focus`. Returns `faithfulness.curves_of_window`: logits towards the side that the head decides for there. One window, as
    in `measure_maps`, because every point of a curve costs a forward pass for each window.
    """
    if layer == cam.WINDOW_LAYER:
        raise ExplainError("The map of windows has no places inside one window, where this check blurs; choose another map for it.")
    heads = map_heads(suite)
    small, _ = cam.reduced(photo.pixels, heads.sdd.size, window_limit)
    x0, y0, x1, y1 = box
    return curves_of_window(heads, np.ascontiguousarray(small[y0:y1, x0:x1]), layer)


def check_rows(curves: dict[str, dict[str, np.ndarray]]) -> list[list[str]]:
    """Map, area under its deletion curve, area under its insertion curve, in logits."""
    named = ((name if name in BASELINES else "this map", map_curves) for name, map_curves in curves.items())
    return [[name, *(f"{area(map_curves[curve]):+.2f}" for curve in CURVES)] for name, map_curves in named]


def check_reading(curves: dict[str, dict[str, np.ndarray]], layer: str) -> str:
    """In a sentence: which of the baselines the map beats in this window."""
    parts = []
    for curve, sign in zip(CURVES, (-1, 1), strict=True):
        map_area = area(curves[layer][curve])
        worse = [name for name in curves if name != layer and sign * (map_area - area(curves[name][curve])) > 0]
        parts.append(f"{len(worse)} of {len(curves) - 1} in {curve}" + (f" ({', '.join(worse)})" if worse else ""))
    return (
        f"In the window around its strongest place this map beats, of the maps that know nothing, {' and '.join(parts)}. "
        "One image proves little; the sentence above tells what holds over many."
    )


# --- files ---------------------------------------------------------------------------------------------------------


def to_dict(analysis: Analysis, explanation: Explanation | None) -> Mapping[str, object]:
    """The JSON object of `explain`: the analysis, and under "heatmaps" each map's numbers and file names."""
    if explanation is None:
        return analysis.to_dict()
    layers = {layer: _files(_name(explanation, layer)) | numbers(explanation, layer) for layer in explanation.maps}
    return {
        **analysis.to_dict(),
        "heatmaps": {"default": explanation.measures.default, "windows": windows(explanation), "layers": layers},
    }


def _name(explanation: Explanation, layer: str) -> str:
    return "sdd" if layer == explanation.measures.default else layer


def _files(name: str) -> dict:
    standing = {"values": f"{name}-{STANDING_OUT}.npy", "overlay": f"{name}-{STANDING_OUT}.png", "unit": STANDING_OUT_UNIT}
    return {"values": f"{name}.npy", "overlay": f"{name}.png", "outline": f"{name}.json", "standing_out": standing}


def write(analysis: Analysis, explanation: Explanation | None, pixels: np.ndarray, folder: Path) -> list[Path]:
    """`explanation.json`, and for each map what `write_map` writes, at the size of `pixels`, the original (H, W, 3).

    One map at a time is brought to the original's size, so that memory does not grow with their number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_write_json(to_dict(analysis, explanation), folder / "explanation.json")]
    if explanation is not None:
        for layer in explanation.maps:
            paths += write_map(explanation, pixels, layer, folder / _name(explanation, layer))
    return paths


def write_map(explanation: Explanation, pixels: np.ndarray, layer: str, path: Path) -> list[Path]:
    """One map at the size of `pixels`: `path` with the suffixes .npy (float32) and .png (overlay), the same with "-standing-out" before
    them,
    and .json (GeoJSON-like outline of the strongest region)."""
    region = strongest_region(explanation.maps[layer], pixels.shape[:2])
    paths = []
    for standing in (False, True):
        heatmap, scale = form_of(explanation, layer, standing)
        name = path.name + f"-{STANDING_OUT}" * standing
        paths += overlay.write(pixels, heatmap, scale, path.with_name(f"{name}.npy"), region)
    features = [] if region is None else [region.feature(layer)]
    return [*paths, _write_json({"type": "FeatureCollection", "features": features}, path.with_name(f"{path.name}.json"))]


def _write_json(record: Mapping[str, object], path: Path) -> Path:
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:  # file names need not be text
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return path
