"""Where in an image a phrase is: patch embeddings of the last block's value path against the phrase (docs/methods.md, 3).

CLIP's patch tokens are made for the class token and localise poorly. The value path of the last block says what a place adds:
y = LN₁(what enters the block), its value third of the input projection, the output projection, neither attention nor residual;
then the final layer norm and the projection as for the class token. Everything comes from the one forward of the image.

A place counts as warm where it is nearer to the phrase than to the mean of the texts `GENERIC`, such as "a photo of a thing": choice,
not from the paper. On things pasted into photographs the box's centre then lay on the thing more often than with the phrase alone.
"""

from __future__ import annotations

from math import ceil, floor

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.backbone import Backbone, ClipFeatures, centre_box
from detector.clip.towers import Tower
from detector.devices import to_numpy

MARGIN = 0.10  # of the box's side, added on each side
GENERIC = ("a photo", "a photo of a thing", "an image", "a photo of an object")
SMALLEST = 0.25  # a box's least side, as a share of the square that CLIP sees
Box = tuple[int, int, int, int]  # x0, y0, x1, y1


@torch.inference_mode()
def patch_embeddings(backbone: Backbone, features: ClipFeatures) -> Tensor | None:
    """(B, N, E) unit rows, one for each patch, row by row; None for towers without patch tokens, or with an attentional pooler, behind
    which the final layer norm and the projection belong to no place."""
    visual: Tower = backbone.model.visual
    if features.previous is None or getattr(visual, "attn_pool", None) is not None:
        return None
    block = visual.transformer.resblocks[-1]
    weight, bias = block.attn.in_proj_weight.chunk(3)[2], block.attn.in_proj_bias.chunk(3)[2]
    with torch.autocast(backbone.device.type, backbone.precision, enabled=backbone.precision != torch.float32):
        tokens = block.ln_1(features.previous[:, 1:].to(backbone.device))  # (B, N, D)
        tokens = visual.ln_post(block.attn.out_proj(F.linear(tokens, weight, bias)))
        projected = tokens @ visual.proj if visual.proj is not None else tokens  # (B, N, E)
    return F.normalize(projected.float().cpu(), dim=-1)


def heatmap(patches: Tensor, texts: Tensor, generic: Tensor) -> np.ndarray:
    """(N, E) patches of one image, (K, E) texts, (E,) mean of the generic texts → (K, g, g) differences of cosines; higher: more
    like the phrase. Not confined to 0…1."""
    side = round(len(patches) ** 0.5)
    return to_numpy(((texts - generic) @ patches.T).reshape(len(texts), side, side))


def hottest(heat: np.ndarray) -> Box:
    """x0, y0, x1, y1 in cells: the rectangle of the largest connected part above mean + 1 standard deviation.

    Of equally large parts the one with the hottest cell. An even heat gives the whole grid.
    """
    above = heat > heat.mean() + heat.std()
    if not above.any() or heat.std() < 1e-6:
        return 0, 0, heat.shape[1], heat.shape[0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=4)
    part = max(range(1, count), key=lambda i: (stats[i, cv2.CC_STAT_AREA], heat[labels == i].max()))
    x, y, width, height = stats[part, :4].tolist()
    return x, y, x + width, y + height


def _grown(start: float, end: float, least: float, limit: float) -> tuple[float, float]:
    """The stretch with its margin, at least `least` long, moved or cut so that it lies in 0…limit."""
    length = min(max((end - start) * (1 + 2 * MARGIN), least), limit)
    start = min(max((start + end - length) / 2, 0.0), limit - length)
    return start, start + length


def box_of(heat: np.ndarray, width: int, height: int) -> Box:
    """Pixels of the original image: the heat's hottest part with its margin, inside the image and at least one pixel large.

    heat: (g, g) over the centre square that the tower sees.
    """
    left, top, right, _ = centre_box(width, height)
    cell, least = (right - left) / heat.shape[1], SMALLEST * (right - left)
    x0, y0, x1, y1 = hottest(heat)
    start, end = _grown(left + x0 * cell, left + x1 * cell, least, width)
    above, below = _grown(top + y0 * cell, top + y1 * cell, least, height)
    return floor(start), floor(above), ceil(end), ceil(below)


def crop(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The square around the box, moved into the image, from the original pixels: a centre crop then loses nothing of the box.

    The square: choice, not from the paper. Where the image is too narrow for it, as much as there is.
    """
    height, width = pixels.shape[:2]
    side = max(box[2] - box[0], box[3] - box[1])
    x, y = ((start + end - side) // 2 for start, end in ((box[0], box[2]), (box[1], box[3])))
    x, y = min(max(x, 0), max(width - side, 0)), min(max(y, 0), max(height - side, 0))
    return np.ascontiguousarray(pixels[y : y + side, x : x + side])
