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
stretched to an image's own extremes: one scale, measured on validation images (`map_measures.reference_scales`), serves all images, so
that an image without evidence looks cold. Section 7 of METHODS; what else deviates is marked "choice, not from the paper".

Unit: each activation map is multiplied by its number of cells, so its mean over a window is the sum over the cells, in logits. A value
of +2 reads "if all of the window looked like this place, the logit would be 2 higher" (to first order), on any grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.data.windows import Box, crop_window, window_boxes
from detector.devices import to_numpy
from detector.steps import checkpoint

Formula = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]  # (windows done, in all)

WINDOW_LAYER = "windows"  # the map of window scores
DEFAULT_LAYER = WINDOW_LAYER  # of a head whose maps were not measured
DIFFERENCE_LAYER = "difference"
ERROR_LAYER = "reconstruction_error"  # the length of the difference vector at each place: how much, not which way
ROLLOUT_LAYER = "attention_rollout"  # how much of each patch the tower's attention passes on: no direction either
UNSIGNED = (ERROR_LAYER, ROLLOUT_LAYER)
FLOOR = 1e-3  # weight of a window's outermost pixels where no other window covers them
DENSE_OVERLAPS = (0.75, 0.6, 0.5, 0.35)  # of the windows of the map of windows: the first that needs at most
DENSE_LIMIT = 64  # windows


@dataclass(frozen=True)
class Heatmap:
    """Evidence for each pixel of an image.

    values: (H, W) float32 of the original image, NaN where no window was read; logits per window if it all looked like this
    place (of `WINDOW_LAYER`: of the windows around it), positive for synthetic. Of an unsigned map (`signed` False): any unit, never
    negative, no direction.
    boxes: the windows, x0, y0, x1, y1 in the original. logits: (windows,). logit: the detector's for the image.
    note: a sentence on how the image was reduced before, or "".
    """

    values: np.ndarray
    layer: str
    boxes: tuple[Box, ...]
    logits: np.ndarray
    logit: float
    signed: bool = True
    note: str = ""


class WindowModel(Protocol):
    """What is asked of a model in evaluation mode: a `torch.nn.Module` whose forward takes (B, 3, S, S)."""

    def __call__(self, images: Tensor) -> Any:
        """(B, 3, S, S) → an object with `logits` (B,)."""

    def layers(self) -> Mapping[str, nn.Module]:
        """Name → `nn.Identity` that (B, C, h, w) maps pass, "difference" among them."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of `nn.Module`."""

    def buffers(self) -> Iterator[Tensor]:
        """As of `nn.Module`."""


class WindowHead(Protocol):
    """What is asked of a head. size: S, the side of a window in pixels. scale, bias: the head's logit of a window is the model's times
    `scale` plus `bias`."""

    @property
    def model(self) -> Any:
        """A `WindowModel` that is an `nn.Module` too, which Python's types cannot say together."""

    @property
    def size(self) -> int:
        """S."""

    @property
    def scale(self) -> float:
        """Logits of the head for one logit of the model."""

    @property
    def bias(self) -> float:
        """In logits."""

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
    return hires_cam if layer in (DIFFERENCE_LAYER, "stage3") else grad_cam


def private_copy(model: WindowModel) -> WindowModel:
    """A copy with hooks of its own that shares all parameters and buffers: small, made anew for each call.

    Hooks on a shared model would see the forwards of every thread, so two users at once would mix their maps.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def gradients(model: WindowModel, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """(B, 3, S, S) → logits (B,) and layer → (activation, gradient of the logit), each (B, C, h, w).

    One forward and one backward for all layers, by captum, on a private copy of the model, with gradients on even inside
    another's `torch.inference_mode`. KeyError for a layer that the model does not have.
    """
    from captum.attr import LayerGradientXActivation

    copied = private_copy(model)
    outputs: dict[str, Tensor] = {}
    taps = {layer: copied.layers()[layer] for layer in layers}
    for layer, tap in taps.items():
        tap.register_forward_hook(lambda module, inputs, output, layer=layer: outputs.__setitem__(layer, output.detach()))

    def forward(batch: Tensor) -> Tensor:
        outputs["logits"] = copied(batch).logits
        return outputs["logits"]

    with torch.inference_mode(False), torch.enable_grad():
        method = LayerGradientXActivation(forward, list(taps.values()), multiply_by_inputs=False)
        slopes = method.attribute(images.clone())
    return outputs["logits"].detach(), {layer: (outputs[layer], slope.detach()) for layer, slope in zip(taps, slopes, strict=True)}


def window_maps(model: WindowModel, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """(B, 3, S, S) → logits (B,) and layer → (B, h, w) evidence in logits per window, positive for synthetic.

    Two unsigned maps may stand among the layers: `ERROR_LAYER`, the Euclidean length of the difference vector at each place, and
    `ROLLOUT_LAYER` of a model with attention.
    """
    needed = list(dict.fromkeys(DIFFERENCE_LAYER if layer in UNSIGNED else layer for layer in layers))
    logits, layer_gradients = gradients(model, images, needed)
    maps = {}
    for layer in layers:
        if layer == ROLLOUT_LAYER:
            maps[layer] = rollout(model, images)
            continue
        activation, gradient = layer_gradients[DIFFERENCE_LAYER if layer == ERROR_LAYER else layer]
        cells = activation.shape[2] * activation.shape[3]
        maps[layer] = activation.norm(dim=1) if layer == ERROR_LAYER else formula_of(layer)(activation, gradient) * cells
    return logits, maps


def rollout(model: WindowModel, images: Tensor) -> Tensor:
    """(B, h, w): the model's attention rollout in units of an even one, so that 1 is a patch like all others."""
    with torch.no_grad():
        shares = getattr(model, "attention_rollout")(images)  # noqa: B009 (not every model has it)
    return shares / shares.mean((1, 2), keepdim=True)


# --- the whole image -----------------------------------------------------------------------------------------------


def layers_of(head: WindowHead) -> list[str]:
    """All maps that `heatmaps` makes for this head, that of windows first, the unsigned ones last."""
    return [WINDOW_LAYER, *head.model.layers(), ERROR_LAYER, *([ROLLOUT_LAYER] if hasattr(head.model, "attention_rollout") else [])]


def heatmap(
    head: WindowHead,
    pixels: np.ndarray,
    layer: str = DEFAULT_LAYER,
    window_limit: int | None = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> Heatmap:
    """`heatmaps` for one layer."""
    return heatmaps(head, pixels, [layer], window_limit, batch, progress)[layer]


def heatmaps(
    head: WindowHead,
    pixels: np.ndarray,
    layers: Sequence[str] | None = None,
    window_limit: int | None = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> dict[str, Heatmap]:
    """Maps of an (H, W, 3) uint8 image for several layers (None: all) from one pass over its windows, and one over denser ones.

    Overlapping windows at the image's own resolution are merged with weights that fade towards a window's edge, so that no
    seam shows. Every window is also read mirrored, as part of the mirrored image, and both maps are averaged: the map of a
    mirrored image is the mirrored map exactly, whatever the model. Choices, not from the paper. window_limit: windows
    read at most, on a copy of a larger image that is reduced to fit; the note then says so. progress: called with (windows done, in all).
    Memory: two float32 numbers a pixel, one more for each further layer, besides one batch.
    """
    layers = list(layers or layers_of(head))
    small, note = reduced(pixels, head.size, window_limit)
    height, width = small.shape[:2]
    boxes = window_boxes(width, height, head.size, limit=window_limit)
    sums = {layer: np.zeros((height, width), np.float32) for layer in layers if layer != WINDOW_LAYER}
    weights = np.zeros((height, width), np.float32)
    logits: list[float] = []
    for places, mirrored, batch_logits, maps in _passes(head, small, boxes, list(sums), batch, progress):
        logits += [] if mirrored else batch_logits.tolist()
        for i, box in enumerate(places):
            _add(weights, box, None, mirrored, head.size)
            for layer in sums:
                _add(sums[layer], box, maps[layer][i], mirrored, head.size)
    first = Heatmap(np.zeros((0, 0), np.float32), "", tuple(boxes), np.array(logits), float(head.pool(np.array(logits))), note=note)
    values = {layer: _mean(total, weights) for layer, total in sums.items()}
    del weights
    if WINDOW_LAYER in layers:
        values[WINDOW_LAYER] = window_evidence(head, small, dense_boxes(width, height, head.size, boxes))
    return {
        layer: resize_map(replace(first, values=values.pop(layer), layer=layer, signed=layer not in UNSIGNED), pixels.shape[:2])
        for layer in layers
    }


def dense_boxes(width: int, height: int, size: int, base: Sequence[Box]) -> Sequence[Box]:
    """Boxes of the densest of the `DENSE_OVERLAPS` that stays within `DENSE_LIMIT`, else `base`."""
    for overlap in DENSE_OVERLAPS:
        boxes = window_boxes(width, height, size, overlap)
        if len(boxes) <= DENSE_LIMIT:
            return boxes
    return base


def window_evidence(head: WindowHead, pixels: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """(H, W) float32: `merged` logits of the windows, read also in the mirrored image, as the other maps are."""
    values = np.zeros(pixels.shape[:2], np.float32)
    for mirrored in (False, True):
        view, logits = pixels[:, ::-1] if mirrored else pixels, []
        for start in range(0, len(boxes), 16):  # a large image's windows at once would fill the memory
            logits += head.window_logits([crop_window(view, box, head.size) for box in boxes[start : start + 16]]).tolist()
        half = merged(pixels.shape[:2], boxes, logits, head.size) / 2
        values += half[:, ::-1] if mirrored else half
    return values


def merged(shape: tuple[int, int], boxes: Sequence[Box], logits: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """(H, W) float32: mean logit of the windows over each place, with weights that fade towards a window's edge; NaN where there is
    none."""
    total, weights = (np.zeros(shape, np.float32) for _ in range(2))
    for box, logit in zip(boxes, logits, strict=True):
        _add(weights, box, None, False, size)
        _add(total, box, np.float32(logit), False, size)
    return _mean(total, weights)


def reduced(pixels: np.ndarray, size: int, window_limit: int | None) -> tuple[np.ndarray, str]:
    """The (H, W, 3) image, or a copy small enough for `window_limit` windows (its shorter side at least one window), and the note."""
    height, width = pixels.shape[:2]
    factor, smallest = 1.0, min(1.0, size / min(height, width))
    while window_limit and factor > smallest and len(window_boxes(round(width * factor), round(height * factor), size)) > window_limit:
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
    scaled = {layer: m if layer in UNSIGNED else m * head.scale for layer, m in maps.items()}
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


def resize_map(heatmap: Heatmap, shape: tuple[int, int]) -> Heatmap:
    """The same map, and its boxes, in the coordinates of the image at the size `shape`, (H, W)."""
    height, width = shape
    if heatmap.values.shape == (height, width):
        return heatmap
    boxes = tuple(scaled_box(box, heatmap.values.shape, shape) for box in heatmap.boxes)
    # between cells, but not where something was not read: NaN would spread over the places beside it
    interpolation = cv2.INTER_LINEAR if np.isfinite(heatmap.values).all() else cv2.INTER_NEAREST
    return replace(heatmap, values=cv2.resize(heatmap.values, (width, height), interpolation=interpolation), boxes=boxes)


def scaled_box(box: Box, shape: tuple[int, int], target: tuple[int, int]) -> Box:
    """A box of an image of `shape`, (H, W), in the coordinates of the same image at the size `target`."""
    y, x = (target[axis] / shape[axis] for axis in (0, 1))
    return round(box[0] * x), round(box[1] * y), round(box[2] * x), round(box[3] * y)
