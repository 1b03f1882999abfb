"""Where the evidence of SDD lies: signed maps, in the coordinates of the original image.

The map of windows needs no gradient: at each place the mean logit of densely overlapping windows around it (choice, not from the
paper). It is coarse, but what it shows is what the detector says of a place's surroundings. The others are class-activation
maps by two formulas, both on a layer's activation a and the gradient g of the logit, (B, C, h, w):

* Grad-CAM (arXiv 1610.02391): Σ_c mean_hw(g_c) · a_c, for the patch tokens and the first two stages of the enhancer;
* HiResCAM (arXiv 2011.08891): Σ_c g_c · a_c, for the difference map and the enhancer's last stage. The difference map has no
  sign of its own, and zero is its natural reference: "reconstructed as well as can be". So gradient × difference is, to
  first order, what the reconstruction error at a place adds to the logit. The last stage has one channel whose places are
  weighted one by one, so that a mean gradient would say nothing.

Unlike the papers' maps these keep their sign (no ReLU): positive speaks for synthetic, negative for real. They are never
stretched to an image's own extremes: one scale, measured on validation images (`reference_scales`), serves all images, so
that an image without evidence looks cold. Section 7 of METHODS; what else deviates is marked "choice, not from the paper".

Unit: each activation map is multiplied by its number of cells, so its mean over a window is the sum over the cells, in logits. A value
of +2 reads "if all of the window looked like this place, the logit would be 2 higher" (to first order), on any grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from detector.data.windows import Box, crop_window, window_boxes
from detector.devices import to_numpy
from detector.progress import progress
from detector.steps import checkpoint

Formula = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]  # (windows done, in all)

WINDOWS = "windows"
DEFAULT = WINDOWS  # of a head whose maps were not measured
DIFFERENCE = "difference"
ERROR = "reconstruction_error"  # the length of the difference vector at each place: how much, not which way
FLOOR = 1e-3  # weight of a window's outermost pixels where no other window covers them
OUTLINED = 12  # windows outlined one by one where some of the picture was not read; of more only the border around all
STRIP = 256  # rows blended at once
DENSE = (0.75, 0.6, 0.5, 0.35)  # overlaps for the map of windows, the first that needs no more than
DENSE_WINDOWS = 64  # windows


@dataclass(frozen=True)
class Heatmap:
    """Evidence for each pixel of an image.

    values: (H, W) float32 of the original image, NaN where the model saw nothing; logits per window if it all looked like this
    place (of `WINDOWS`: of the windows around it), positive for synthetic. Of an unsigned map (`signed` False): any unit, never
    negative, no direction.
    boxes: the windows, x0, y0, x1, y1 in the original. logits: (windows,). logit: the detector's for the image.
    note: a sentence on what was done to the image before, or "".
    """

    values: np.ndarray
    layer: str
    boxes: tuple[Box, ...]
    logits: np.ndarray
    logit: float
    signed: bool = True
    note: str = ""


class WindowHead(Protocol):
    """What is asked of a head. model: in evaluation mode, (B, 3, S, S) → an object with `logits` (B,); its `layers()` gives
    name → `nn.Identity` that (B, C, h, w) maps pass, "difference" among them. size: S, the side of a window in pixels. The
    head's logit of a window is the model's times `scale` plus `bias`."""

    model: nn.Module
    size: int
    scale: float
    bias: float

    def prepare(self, windows: Sequence[np.ndarray]) -> Tensor:
        """(S, S, 3) uint8 windows → the model's input (B, 3, S, S), on its device."""

    def window_logits(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """(S, S, 3) uint8 windows → (B,) logits, scaled."""

    def pool(self, logits: np.ndarray) -> float:
        """Logits of an image's windows → the image's logit."""


# --- one window ----------------------------------------------------------------------------------------------------


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """(B, C, h, w) twice → (B, h, w): Σ_c mean_hw(g_c) · a_c, signed (arXiv 1610.02391 without its ReLU)."""
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1)


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """(B, C, h, w) twice → (B, h, w): Σ_c g_c · a_c, signed (arXiv 2011.08891 without a ReLU)."""
    return (gradient * activation).sum(1)


def formula_of(layer: str) -> Formula:
    """HiResCAM for the difference map and the last stage, Grad-CAM for the other layers; see the module's text."""
    return hires_cam if layer in (DIFFERENCE, "stage3") else grad_cam


def private_copy(model: nn.Module) -> nn.Module:
    """A copy with hooks of its own that shares all parameters and buffers: small, made anew for each call.

    Hooks on a shared model would see the forwards of every thread, so two users at once would mix their maps.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def gradients(model: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """(B, 3, S, S) → logits (B,) and layer → (activation, gradient of the logit), each (B, C, h, w).

    One forward and one backward for all layers, by captum, on a private copy of the model, with gradients on even inside
    another's `torch.inference_mode`. KeyError for a layer that the model does not have.
    """
    from captum.attr import LayerGradientXActivation

    mine, seen = private_copy(model), {}
    taps = {layer: mine.layers()[layer] for layer in layers}
    for layer, tap in taps.items():
        tap.register_forward_hook(lambda module, inputs, output, layer=layer: seen.__setitem__(layer, output.detach()))

    def forward(batch: Tensor) -> Tensor:
        seen["logits"] = mine(batch).logits
        return seen["logits"]

    with torch.inference_mode(False), torch.enable_grad():
        method = LayerGradientXActivation(forward, list(taps.values()), multiply_by_inputs=False)
        found = method.attribute(images.clone())
    return seen["logits"].detach(), {layer: (seen[layer], g.detach()) for layer, g in zip(taps, found, strict=True)}


def window_maps(model: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """(B, 3, S, S) → logits (B,) and layer → (B, h, w) evidence in logits per window, positive for synthetic.

    `ERROR` may stand among the layers: the Euclidean length of the difference vector at each place, unsigned.
    """
    tapped = list(dict.fromkeys(DIFFERENCE if layer == ERROR else layer for layer in layers))
    logits, found = gradients(model, images, tapped)
    maps = {}
    for layer in layers:
        activation, gradient = found[DIFFERENCE if layer == ERROR else layer]
        cells = activation.shape[2] * activation.shape[3]
        maps[layer] = activation.norm(dim=1) if layer == ERROR else formula_of(layer)(activation, gradient) * cells
    return logits, maps


# --- the whole image -----------------------------------------------------------------------------------------------


def layers_of(head: WindowHead) -> list[str]:
    """All maps that `heatmaps` makes for this head, that of windows first, the unsigned reconstruction error last."""
    return [WINDOWS, *head.model.layers(), ERROR]


def heatmap(
    head: WindowHead, pixels: np.ndarray, layer: str = DEFAULT, most: int | None = None, batch: int = 8, progress: Progress | None = None
) -> Heatmap:
    """`heatmaps` for one layer."""
    return heatmaps(head, pixels, [layer], most, batch, progress)[layer]


def heatmaps(
    head: WindowHead,
    pixels: np.ndarray,
    layers: Sequence[str] | None = None,
    most: int | None = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> dict[str, Heatmap]:
    """Maps of an (H, W, 3) uint8 image for several layers (None: all) from one pass over its windows, and one over denser ones.

    Overlapping windows at the image's own resolution are merged with weights that fade towards a window's edge, so that no
    seam shows. Every window is also read mirrored, as part of the mirrored image, and both maps are averaged: the map of a
    mirrored image is the mirrored map exactly, whatever the model. Choices, not from the paper. `most`: at most so many windows,
    on a copy of a larger image that is reduced to fit; the note then says so. progress: called with (windows done, in all).
    Memory: two float32 numbers a pixel, one more for each further layer, besides one batch.
    """
    layers = list(layers or layers_of(head))
    small, note = reduced(pixels, head.size, most)
    height, width = small.shape[:2]
    boxes = window_boxes(width, height, head.size, limit=most)
    sums = {layer: np.zeros((height, width), np.float32) for layer in layers if layer != WINDOWS}
    weights, logits = np.zeros((height, width), np.float32), []
    for places, mirrored, found, maps in _passes(head, small, boxes, list(sums), batch, progress):
        logits += [] if mirrored else found.tolist()
        for i, box in enumerate(places):
            _add(weights, box, None, mirrored, head.size)
            for layer in sums:
                _add(sums[layer], box, maps[layer][i], mirrored, head.size)
    first = Heatmap(np.zeros((0, 0), np.float32), "", tuple(boxes), np.array(logits), float(head.pool(np.array(logits))), note=note)
    values = {layer: _mean(total, weights) for layer, total in sums.items()}
    del weights
    if WINDOWS in layers:
        values[WINDOWS] = window_evidence(head, small, dense_boxes(width, height, head.size, boxes))
    return {
        layer: enlarged(replace(first, values=values.pop(layer), layer=layer, signed=layer != ERROR), pixels.shape[:2]) for layer in layers
    }


def dense_boxes(width: int, height: int, size: int, base: Sequence[Box]) -> Sequence[Box]:
    """Boxes of the densest of the overlaps `DENSE` that stays within `DENSE_WINDOWS`, else `base`."""
    for overlap in DENSE:
        boxes = window_boxes(width, height, size, overlap)
        if len(boxes) <= DENSE_WINDOWS:
            return boxes
    return base


def window_evidence(head: WindowHead, pixels: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """(H, W) float32: mean logit of the windows over each place, with weights that fade towards a window's edge; NaN where there is
    none. Read also in the mirrored image, as the other maps are."""
    total, weights = (np.zeros(pixels.shape[:2], np.float32) for _ in range(2))
    for mirrored in (False, True):
        view = pixels[:, ::-1] if mirrored else pixels
        for start in range(0, len(boxes), 16):  # a large image's windows at once would fill the memory
            places = boxes[start : start + 16]
            for box, logit in zip(places, head.window_logits([crop_window(view, box, head.size) for box in places]), strict=True):
                _add(weights, box, None, mirrored, head.size)
                _add(total, box, np.float32(logit), mirrored, head.size)
    return _mean(total, weights)


def reduced(pixels: np.ndarray, size: int, most: int | None) -> tuple[np.ndarray, str]:
    """The (H, W, 3) image, or a copy small enough for `most` windows (its shorter side at least one window), and the note."""
    height, width = pixels.shape[:2]
    factor, smallest = 1.0, min(1.0, size / min(height, width))
    while most and factor > smallest and len(window_boxes(round(width * factor), round(height * factor), size)) > most:
        factor = max(factor * 0.95, smallest)
    if factor == 1.0:
        return pixels, ""
    small = cv2.resize(pixels, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return small, (
        f"For speed the map was made on a copy reduced to {small.shape[1]} × {small.shape[0]} pixels; "
        "traces that only full resolution shows are not in it."
    )


def _passes(
    head: WindowHead, pixels: np.ndarray, boxes: Sequence[Box], layers: Sequence[str], batch: int, progress: Progress | None
) -> Iterator[tuple[Sequence[Box], bool, np.ndarray, dict[str, np.ndarray]]]:
    """(boxes, mirrored, logits, layer → (b, S, S) maps) batch by batch: the image, then the mirrored image."""
    done = 0
    for mirrored in (False, True):
        view = pixels[:, ::-1] if mirrored else pixels
        for start in range(0, len(boxes), batch):
            checkpoint()
            places = boxes[start : start + batch]
            logits, maps = _read(head, [crop_window(view, box, head.size) for box in places], layers)
            yield places, mirrored, logits, maps
            done += len(places)
            if progress:
                progress(done, 2 * len(boxes))


def _read(head: WindowHead, windows: Sequence[np.ndarray], layers: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Windows → the head's logits (B,) and layer → (B, S, S) maps, both after the head's scaling."""
    if not layers:
        return head.window_logits(windows), {}
    logits, maps = window_maps(head.model, head.prepare(windows), layers)
    scaled = {layer: m if layer == ERROR else m * head.scale for layer, m in maps.items()}
    return head.scale * to_numpy(logits).astype(np.float64) + head.bias, {layer: _enlarged(m, head.size) for layer, m in scaled.items()}


def _enlarged(maps: Tensor, size: int) -> np.ndarray:
    """(B, h, w) → (B, S, S) float32, bilinear between the centres of cells."""
    return to_numpy(F.interpolate(maps[:, None].float(), (size, size), mode="bilinear", align_corners=False)[:, 0])


@lru_cache(maxsize=4)
def _fade(size: int) -> np.ndarray:
    """(S, S) float32 weights: sin² in both directions, almost 0 at the edge."""
    line = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return (np.outer(line, line) + FLOOR).astype(np.float32)


def _add(canvas: np.ndarray, box: Box, values: np.ndarray | np.float32 | None, mirrored: bool, size: int) -> None:
    """Add a window's values times its fading weights (or, for None, the weights) where the window lies."""
    x0, y0, x1, y1 = box
    patch = _fade(size) if values is None else _fade(size) * values
    patch = patch[: y1 - y0, : x1 - x0]
    target = canvas[:, ::-1] if mirrored else canvas
    target[y0:y1, x0:x1] += patch


def _mean(total: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(H, W) weighted mean, NaN where no window lay; `total` is used up."""
    np.divide(total, weights, out=total, where=weights > 0)
    total[weights == 0] = np.nan
    return total


def enlarged(found: Heatmap, shape: tuple[int, int]) -> Heatmap:
    """The map of a reduced copy (or of a larger one) in the coordinates of an image of `shape`, (H, W)."""
    height, width = shape
    if found.values.shape == (height, width):
        return found
    boxes = tuple(scaled_box(box, found.values.shape, shape) for box in found.boxes)
    return replace(found, values=cv2.resize(found.values, (width, height), interpolation=cv2.INTER_LINEAR), boxes=boxes)


def scaled_box(box: Box, shape: tuple[int, int], target: tuple[int, int]) -> Box:
    """A box of an image of `shape`, (H, W), in the coordinates of the same image at the size `target`."""
    y, x = (target[axis] / shape[axis] for axis in (0, 1))
    return round(box[0] * x), round(box[1] * y), round(box[2] * x), round(box[3] * y)


def reference_scales(head: WindowHead, pictures: Sequence[np.ndarray], percentile: float = 99.0) -> dict[str, float]:
    """Layer → the value at which colours are full: a percentile of |map| over all pixels of validation images.

    To be stored beside the head and used for every image. Choice, not from the paper.
    """
    kept: dict[str, list[np.ndarray]] = {}
    for pixels in progress(pictures, title="scale"):
        for layer, found in heatmaps(head, pixels).items():
            kept.setdefault(layer, []).append(np.abs(found.values[::4, ::4]).ravel())
    return {layer: float(np.nanpercentile(np.concatenate(values), percentile)) for layer, values in kept.items()}


# --- to look at ----------------------------------------------------------------------------------------------------


def _rgb(colour: str) -> np.ndarray:
    """ "rgb(0,114,178)" → three float32 numbers."""
    return np.array([int(part) for part in colour[4:-1].split(",")], np.float32)


def overlay(pixels: np.ndarray, heatmap: Heatmap, scale: float, opacity: float = 0.6) -> Image.Image:
    """The image in grey under its map: orange for synthetic, blue for real, violet for an unsigned map, clear at 0 and at NaN.

    In grey, so that every colour is evidence and none the picture's own.
    scale: the value at which the colour reaches `opacity` (0 to 1), from `reference_scales`; never from this image.
    What was read is outlined: as a whole where nothing was left out, else window by window.
    """
    from interpret.render.figures import INK, REAL, SYNTHETIC  # plotly is slow to import, and a map needs none of it

    above, below = _rgb(SYNTHETIC if heatmap.signed else INK), _rgb(REAL)
    blended = np.empty_like(pixels)
    for start in range(0, len(pixels), STRIP):  # a large photograph in float would not fit a small server's memory
        rows_ = slice(start, start + STRIP)
        share = np.clip(np.nan_to_num(heatmap.values[rows_]) / scale, -1, 1)[..., None]
        alpha = opacity * np.abs(share)
        grey = cv2.cvtColor(pixels[rows_], cv2.COLOR_RGB2GRAY)[..., None]
        blended[rows_] = np.rint(grey * (1 - alpha) + alpha * np.where(share > 0, above, below))
    image = Image.fromarray(blended)
    _outline(image, heatmap.boxes, whole=bool(np.isfinite(heatmap.values).all()))
    return image


def _outline(image: Image.Image, boxes: Sequence[Box], whole: bool) -> None:
    if boxes and (whole or len(boxes) > OUTLINED):  # a grid over the whole picture would hide it
        x0, y0, x1, y1 = zip(*boxes, strict=True)
        boxes = [(min(x0), min(y0), max(x1), max(y1))]
    draw, width = ImageDraw.Draw(image), max(1, max(image.size) // 600)
    for x0, y0, x1, y1 in boxes:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 255, 255), width=2 * width)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(40, 40, 40), width=width)


def rows(heatmap: Heatmap, scale: float) -> list[list[str]]:
    """The map read aloud: nine regions with their mean evidence and a reading; "little" below a tenth of the scale."""
    table = []
    for vertical, band in zip(("top", "middle", "bottom"), np.array_split(heatmap.values, 3, axis=0), strict=True):
        for horizontal, region in zip(("left", "centre", "right"), np.array_split(band, 3, axis=1), strict=True):
            table.append([f"{vertical} {horizontal}", *_reading(region, scale, heatmap.signed)])
    return table


def _reading(region: np.ndarray, scale: float, signed: bool) -> tuple[str, str]:
    known = region[np.isfinite(region)]
    if not known.size:
        return "", "not seen"
    mean = float(known.mean())
    if abs(mean) < scale / 10:
        return f"{mean:+.2f}", "little"
    return f"{mean:+.2f}", ("synthetic" if mean > 0 else "real") if signed else "much"


def write(
    heatmaps: Mapping[str, Heatmap], folder: Path, pixels: np.ndarray, scales: Mapping[str, float], default: str = DEFAULT
) -> list[Path]:
    """`<layer>.npy` (float32, H×W) and `<layer>.png` (overlay) for each map; the default layer's are named `sdd`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for layer, found in heatmaps.items():
        path = folder / f"{'sdd' if layer == default else layer}.npy"
        np.save(path, found.values)
        overlay(pixels, found, scales[layer]).save(path.with_suffix(".png"))
        paths += [path, path.with_suffix(".png")]
    return paths
