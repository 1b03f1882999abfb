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
SHOWN = 720  # pixels of the drawn picture's longer side: enough to read a number on, little to send
QUOTED = 160  # characters of a caption that are repeated in a sentence
SOURCES = {"user": "your words", "nouns": "the nearest nouns, for want of a caption writer"}


# --- words ---------------------------------------------------------------------------------------------------------


def sentence(item: dict, rank: float | None = None) -> str:
    """One sentence of plain text. rank: share of other images' captions that match the image less than its own (`caption_rank`)."""
    if not item["caption"]:
        compared = "only the objects were compared with it" if item["objects"] else "words and picture were not compared"
        return f"There is no usable caption for this image, so {compared}{_weakest(item)}."
    source = SOURCES.get(item["caption_source"], "written from the pixels")
    among = "" if rank is None else f", better than {100 * rank:.0f} % of other images' captions"
    return f"“{_short(item['caption'])}” ({source}) matches the picture with a cosine of {item['global']:+.2f}{among}{_weakest(item)}."


def _short(text: str) -> str:
    return text if len(text) <= QUOTED else text[: QUOTED - 1].rstrip() + "…"


def _weakest(item: dict) -> str:
    found = item["objects"]
    if not found:
        return "; no object was looked for" if item["caption"] else ""
    least = min(found, key=lambda o: o["score"])
    if len(found) == 1:
        return f"; its one object, “{least['phrase']}”, matches its box with {least['score']:+.2f}"
    return f"; of {len(found)} objects “{least['phrase']}” matches its box least ({least['score']:+.2f})"


def null_sentence(own: float, null: Sequence[float], first: float | None = None) -> str:
    """Whether the words matter to the ITEM score of this image. own: its logit; null: its logits with other images' captions.

    first: its logit before the visitor changed something. "Matter": outside the middle 95 % of the null (choice).
    """
    values = np.asarray(null, float)
    low, high = np.percentile(values, [2.5, 97.5])
    inside = "so these words matter no more than others would" if low <= own <= high else "so these words do move the score"
    before = "" if first is None else f" (with its first caption {first:+.2f})"
    return (
        f"ITEM's logit (higher: synthetic) is {own:+.2f}{before}: {100 * np.mean(values < own):.0f} % of {len(values)} other images' "
        f"captions would give this picture a lower one, and nineteen in twenty lie from {low:+.2f} to {high:+.2f}, {inside}."
    )


def as_html(*sentences: str) -> str:
    """A paragraph for each; the user's markup is shown, not obeyed."""
    return "".join(f"<p>{escape(text)}</p>" for text in sentences if text)


def rows(item: dict) -> list[list[str]]:
    """Number on the picture, object, cosine with its crop, box in pixels; the whole caption first."""
    whole = "not defined" if item["global"] is None else f"{item['global']:+.3f}"
    objects = [
        [str(number), o["phrase"], f"{o['score']:+.3f}", "{}, {} – {}, {}".format(*o["box"])] for number, o in enumerate(item["objects"], 1)
    ]
    return [["", "whole caption" if item["caption"] else "no caption", whole, "whole image"], *objects]


# --- pictures ------------------------------------------------------------------------------------------------------


def resized(pixels: np.ndarray, item: dict, longer: int = SHOWN) -> tuple[np.ndarray, dict]:
    """The picture with its longer side at `longer` pixels, and the item with its boxes moved along: small pictures get room for the
    labels, large ones are not sent whole."""
    height, width = pixels.shape[:2]
    scale = longer / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    objects = [o | {"box": [round(edge * scale) for edge in o["box"]]} for o in item["objects"]]
    return np.asarray(picture), item | {"objects": objects}


def boxed(pixels: np.ndarray, item: dict, only: int | None = None) -> Image.Image:
    """The picture with a box around each object, its number and its cosine; a dark line under each coloured one keeps it visible on
    any ground, and no label covers another. only: draw just that object, counted from 1."""
    picture = Image.fromarray(pixels)
    draw, thick = ImageDraw.Draw(picture), max(2, min(picture.size) // 150)
    font, taken = ImageFont.load_default(size=max(10, min(picture.size) // 16)), []
    chosen = [(number, found) for number, found in enumerate(item["objects"], 1) if only in (None, number)]
    for number, found in chosen:
        x0, y0, x1, y1 = found["box"]
        box, colour = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), COLOURS[(number - 1) % len(COLOURS)]
        draw.rectangle(box, outline=(0, 0, 0), width=2 * thick)
        draw.rectangle(box, outline=colour, width=thick)
    for number, found in chosen:
        colour = COLOURS[(number - 1) % len(COLOURS)]
        taken.append(_label(draw, picture.size, found["box"], f"{number}: {found['score']:+.2f}", colour, font, taken))
    return picture


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Sequence[int],
    text: str,
    colour: tuple[int, int, int],
    font,
    taken: list[tuple[float, ...]],
) -> tuple[float, ...]:
    """Draw at the box's upper left corner, or as near above or below as no other label is; the place taken."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, (bottom - top) // 4)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(0, min(box[0], size[0] - width))
    heights = sorted(range(max(1, int(size[1] - height))), key=lambda y: abs(y - box[1]))
    free = (y for y in heights if not any(x < x1 and x0 < x + width and y < y1 and y0 < y + height for x0, y0, x1, y1 in taken))
    y = next(free, box[1])
    draw.rectangle((x, y, x + width, y + height), fill=(0, 0, 0))
    draw.text((x + pad - left, y + pad - top), text, fill=colour, font=font)
    return x, y, x + width + 1, y + height + 1


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

    from interpret.render.figures import INK, NEUTRAL, REAL, SYNTHETIC, _layout

    figure, edges = go.Figure(), _edges([*real, *synthetic, *null, *([] if own is None else [own])])
    for name, values, colour, dash in (
        ("real", real, REAL, "solid"),
        ("synthetic", synthetic, SYNTHETIC, "solid"),
        ("this image, other captions", null, NEUTRAL, "dot"),
    ):
        if len(values):
            shares = np.histogram(values, edges)[0] / len(values)
            figure.add_scatter(
                x=((edges[1:] + edges[:-1]) / 2).tolist(),
                y=shares.tolist(),
                name=name,
                mode="lines",
                line={"color": colour, "width": 3, "shape": "hvh", "dash": dash},
                hovertemplate="logit %{x:.2f}: %{y:.0%}<extra>" + name + "</extra>",
            )
    if own is not None:
        top = max([max(trace.y) for trace in figure.data], default=1.0)
        figure.add_scatter(
            x=[own, own],
            y=[0, top],
            name="this image",
            mode="lines",
            line={"color": INK, "width": 4},
            hovertemplate="logit %{x:.2f}<extra>this image</extra>",
        )
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
    return [
        [name, *(f"{q:+.2f}" for q in np.percentile(values, [10, 50, 90])), share]
        for (name, values), share in zip(groups, below, strict=True)
    ]
