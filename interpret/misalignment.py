"""ITEM's evidence for people: caption and objects in a sentence and a table, boxes and heat on the picture, the score among others.

Input is the `item` part of an analysis: caption, caption_source, global, objects with phrase, score and box. Colours are Okabe and
Ito's, told apart by the colour-blind, and every box has a number, so that no reading hangs on colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))  # one an object, five at most
REACH = 0.25  # difference of cosines that gets the full colour: one scale for all images, so that a vague map looks vague
HEAT = (204, 102, 0)
SOURCES = {"user": "your caption", "nouns": "the nearest nouns, for want of a caption writer", "": "the caption"}


# --- words ---------------------------------------------------------------------------------------------------------


def sentence(item: dict, rank: float | None = None) -> str:
    """One sentence of plain text. rank: share of other images' captions that match the image less than its own (`caption_rank`)."""
    if not item["caption"]:
        return "There is no usable caption for this image, so words and picture were not compared."
    source = SOURCES.get(item["caption_source"], "the caption written from the pixels")
    among = "" if rank is None else f", better than {100 * rank:.0f} % of other images' captions"
    return f"Picture and words match with a cosine of {item['global']:.2f}{among} ({source}: “{item['caption']}”){_weakest(item)}."


def _weakest(item: dict) -> str:
    if not item["objects"]:
        return "; no object of the caption was looked for"
    least = min(item["objects"], key=lambda o: o["score"])
    return f"; of {len(item['objects'])} object(s) “{least['phrase']}” matches least ({least['score']:.2f})"


def card(item: dict, rank: float | None = None) -> str:
    """The sentence as HTML; the user's markup is shown, not obeyed."""
    return f"<p>{escape(sentence(item, rank))}</p>"


def rows(item: dict) -> list[list[str]]:
    """Number on the picture, object, cosine with its crop, box in pixels; the whole caption first."""
    whole = "not defined" if item["global"] is None else f"{item['global']:+.3f}"
    objects = [[str(number), o["phrase"], f"{o['score']:+.3f}", "{}, {} – {}, {}".format(*o["box"])]
               for number, o in enumerate(item["objects"], 1)]
    return [["", item["caption"] or "no caption", whole, "whole image"], *objects]


# --- pictures ------------------------------------------------------------------------------------------------------


def boxed(pixels: np.ndarray, item: dict) -> Image.Image:
    """The picture with a numbered box around each object; a dark line under each coloured one keeps it visible on any ground."""
    picture = Image.fromarray(pixels)
    draw, thick = ImageDraw.Draw(picture), max(2, min(picture.size) // 150)
    font = ImageFont.load_default(size=max(10, min(picture.size) // 16))
    for number, found in enumerate(item["objects"], 1):
        x0, y0, x1, y1 = found["box"]
        box, colour = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), COLOURS[(number - 1) % len(COLOURS)]
        draw.rectangle(box, outline=(0, 0, 0), width=2 * thick)
        draw.rectangle(box, outline=colour, width=thick)
        _label(draw, (x0, y0), str(number), colour, font)
    return picture


def _label(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: tuple[int, int, int], font) -> None:
    left, top, right, bottom = draw.textbbox(corner, text, font=font)
    pad = max(2, (bottom - top) // 4)
    draw.rectangle((corner[0], corner[1], right + 2 * pad, bottom + 2 * pad), fill=(0, 0, 0))
    draw.text((corner[0] + pad, corner[1] + pad), text, fill=colour, font=font)


def heat_overlay(pixels: np.ndarray, heat: np.ndarray, reach: float = REACH, opacity: float = 0.65) -> Image.Image:
    """The picture in grey with the heat of one object in orange: the stronger, the more like the phrase; zero and below stay grey.

    heat: (g, g) over the centre square that CLIP sees; outside it the picture is darkened. The scale is the same for all images.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    x, y = (width - side) // 2, (height - side) // 2
    share = Image.fromarray(np.clip(heat / reach, 0, 1).astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    grey = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[:, :, None], 3, axis=2)
    weight = opacity * np.clip(np.asarray(share), 0, 1)[:, :, None]
    shown = 0.35 * grey
    shown[y : y + side, x : x + side] = (1 - weight) * grey[y : y + side, x : x + side] + weight * np.array(HEAT, np.float32)
    return Image.fromarray(shown.round().astype(np.uint8))


# --- the score among others ----------------------------------------------------------------------------------------


def histogram(real: Sequence[float], synthetic: Sequence[float], null: Sequence[float], own: float | None) -> go.Figure:
    """Logits of reference images, real and synthetic, and of this image with other images' captions (null), as shares; a line marks
    this image with its own caption. Where the line stands in the midst of the null, the words did not matter to the score."""
    import plotly.graph_objects as go

    from interpret.figures import INK, NEUTRAL, REAL, SYNTHETIC, _layout

    figure, edges = go.Figure(), _edges([*real, *synthetic, *null, *([] if own is None else [own])])
    for name, values, colour, dash in (("real", real, REAL, "solid"), ("synthetic", synthetic, SYNTHETIC, "solid"),
                                       ("this image, other captions", null, NEUTRAL, "dot")):
        if len(values):
            shares = np.histogram(values, edges)[0] / len(values)
            figure.add_scatter(x=((edges[1:] + edges[:-1]) / 2).tolist(), y=shares.tolist(), name=name, mode="lines",
                               line={"color": colour, "width": 3, "shape": "hvh", "dash": dash},
                               hovertemplate="logit %{x:.2f}: %{y:.0%}<extra>" + name + "</extra>")
    if own is not None:
        figure.add_vline(x=own, line={"color": INK, "width": 3}, annotation_text="this image", annotation_font_color=INK)
    _layout(figure, 8, "← real · logit · synthetic →").update_layout(showlegend=True)
    return figure.update_yaxes(autorange=True, title="share", tickformat=".0%")


def _edges(values: Sequence[float], bins: int = 24) -> np.ndarray:
    """Edges of equally wide bins over all finite values."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    low, high = (finite.min(), finite.max()) if len(finite) else (-1.0, 1.0)
    return np.linspace(low, max(high, low + 1e-3), bins + 1)


def histogram_rows(real: Sequence[float], synthetic: Sequence[float], null: Sequence[float], own: float | None) -> list[list[str]]:
    """The figure in numbers: for each group its 10th, 50th and 90th percentile and the share of it below this image."""
    named = (("real", real), ("synthetic", synthetic), ("this image, other captions", null))
    groups = [(name, np.asarray(values, float)) for name, values in named if len(values)]
    below = ("not defined" if own is None else f"{100 * np.mean(values < own):.0f} %" for _, values in groups)
    return [[name, *(f"{q:+.2f}" for q in np.percentile(values, [10, 50, 90])), share]
            for (name, values), share in zip(groups, below, strict=True)]
