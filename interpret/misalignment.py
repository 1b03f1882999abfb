"""ITEM's evidence for people: caption and objects in a sentence and a table, boxes and heat on the picture, the score among others.

Input is the `item` part of an analysis: caption, caption_source, global, objects with phrase, score and box. Colours are Okabe and
Ito's, told apart by the colour-blind, and every box has a number, so that no reading hangs on colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.records import ItemRecord, ObjectRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66))  # one an object, five at most
REACH = 0.25  # difference of cosines that gets the full colour: one scale for all images, so that a vague map looks vague
HEAT = (204, 102, 0)
PICTURE_SIDE = 720  # pixels of the drawn picture's longer side: enough to read a number on, little to send
QUOTE_LENGTH = 160  # characters of a caption that are repeated in a sentence
SOURCES = {"user": "your words", "nouns": "the nearest nouns, for want of a caption writer"}


# --- words ---------------------------------------------------------------------------------------------------------


def sentence(item: ItemRecord, rank: float | None = None) -> str:
    """One sentence of plain text. rank: share of other images' captions that match the image less than its own (`caption_rank`)."""
    if not item["caption"]:
        compared = "only the objects were compared with it" if item["objects"] else "words and picture were not compared"
        return f"There is no usable caption for this image, so {compared}{_weakest(item)}."
    source = SOURCES.get(item["caption_source"], "written from the pixels")
    among = "" if rank is None else f", better than {100 * rank:.0f} % of other images' captions"
    return f"“{_short(item['caption'])}” ({source}) matches the picture with a cosine of {item['global']:+.2f}{among}{_weakest(item)}."


def _short(text: str) -> str:
    return text if len(text) <= QUOTE_LENGTH else text[: QUOTE_LENGTH - 1].rstrip() + "…"


def _weakest(item: ItemRecord) -> str:
    objects = item["objects"]
    if not objects:
        return "; no object was looked for" if item["caption"] else ""
    least = min(objects, key=lambda o: o["score"])
    if len(objects) == 1:
        return f"; its one object, “{least['phrase']}”, matches its box with {least['score']:+.2f}"
    return f"; of {len(objects)} objects “{least['phrase']}” matches its box least ({least['score']:+.2f})"


@dataclass(frozen=True)
class ItemScores:
    """ITEM logits, higher speaks for synthetic. real, synthetic: of reference images. null: of this image with other images' captions.
    image: of this image with its caption, None without one."""

    real: Sequence[float] | np.ndarray
    synthetic: Sequence[float] | np.ndarray
    null: Sequence[float] | np.ndarray
    image: float | None

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Name → logits of the groups that have some."""
        named = {"real": self.real, "synthetic": self.synthetic, "this image, other captions": self.null}
        return {name: np.asarray(values, float) for name, values in named.items() if len(values)}


def null_sentence(image: float, null: Sequence[float] | np.ndarray, first: float | None = None) -> str:
    """Whether the words matter to the ITEM score of this image. image: its logit; null: its logits with other images' captions.

    first: its logit before the visitor changed something. "Matter": outside the middle 95 % of the null (choice).
    """
    values = np.asarray(null, float)
    low, high = np.percentile(values, [2.5, 97.5])
    inside = "so these words matter no more than others would" if low <= image <= high else "so these words do move the score"
    before = "" if first is None else f" (with its first caption {first:+.2f})"
    return (
        f"ITEM's logit (higher: synthetic) is {image:+.2f}{before}: {100 * np.mean(values < image):.0f} % of {len(values)} other images' "
        f"captions would give this picture a lower one, and nineteen in twenty lie from {low:+.2f} to {high:+.2f}, {inside}."
    )


def as_html(*sentences: str) -> str:
    """A paragraph for each; the user's markup is shown, not obeyed."""
    return "".join(f"<p>{escape(text)}</p>" for text in sentences if text)


def rows(item: ItemRecord) -> list[list[str]]:
    """Number on the picture, object, cosine with its crop, box in pixels; the whole caption first."""
    whole = "not defined" if item["global"] is None else f"{item['global']:+.3f}"
    objects = [
        [str(number), o["phrase"], f"{o['score']:+.3f}", "{}, {} – {}, {}".format(*o["box"])] for number, o in enumerate(item["objects"], 1)
    ]
    return [["", "whole caption" if item["caption"] else "no caption", whole, "whole image"], *objects]


# --- pictures ------------------------------------------------------------------------------------------------------


def resize(pixels: np.ndarray, item: ItemRecord, longer: int = PICTURE_SIDE) -> tuple[np.ndarray, ItemRecord]:
    """The picture with its longer side at `longer` pixels, and the item with its boxes in the same scale: small pictures get room for
    the labels, large ones are not sent whole."""
    height, width = pixels.shape[:2]
    scale = longer / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    objects: list[ObjectRecord] = [{**o, "box": [round(edge * scale) for edge in o["box"]]} for o in item["objects"]]
    return np.asarray(picture), {**item, "objects": objects}


def draw_boxes(pixels: np.ndarray, item: ItemRecord, only: int | None = None) -> Image.Image:
    """The picture with a box around each object, its number and its cosine; a dark line under each coloured one keeps it visible on
    any ground, and no label covers another. only: draw just that object, counted from 1."""
    picture = Image.fromarray(pixels)
    draw, thick = ImageDraw.Draw(picture), max(2, min(picture.size) // 150)
    labels = Labels(draw, picture.size, ImageFont.load_default(size=max(10, min(picture.size) // 16)))
    objects = [(number, item_object) for number, item_object in enumerate(item["objects"], 1) if only in (None, number)]
    for number, item_object in objects:
        x0, y0, x1, y1 = item_object["box"]
        box = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        draw.rectangle(box, outline=(0, 0, 0), width=2 * thick)
        draw.rectangle(box, outline=_colour(number), width=thick)
    for number, item_object in objects:
        labels.draw_label(item_object["box"], f"{number}: {item_object['score']:+.2f}", _colour(number))
    return picture


def _colour(number: int) -> tuple[int, int, int]:
    """Of an object, counted from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


@dataclass
class Labels:
    """Labels on one picture that do not cover one another. size: width and height in pixels. places: x0, y0, x1, y1 of those drawn."""

    draw: ImageDraw.ImageDraw
    size: tuple[int, int]
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    places: list[tuple[float, float, float, float]] = field(default_factory=list)

    def draw_label(self, box: Sequence[int], text: str, colour: tuple[int, int, int]) -> None:
        """Draw at the box's upper left corner, or as near above or below as no other label is."""
        left, top, right, bottom = self.draw.textbbox((0, 0), text, font=self.font)
        pad = max(2, (bottom - top) // 4)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        x = max(0, min(box[0], self.size[0] - width))
        heights = sorted(range(max(1, int(self.size[1] - height))), key=lambda y: abs(y - box[1]))
        y = next((y for y in heights if self._is_free(x, y, x + width, y + height)), box[1])
        self.draw.rectangle((x, y, x + width, y + height), fill=(0, 0, 0))
        self.draw.text((x + pad - left, y + pad - top), text, fill=colour, font=self.font)
        self.places.append((x, y, x + width + 1, y + height + 1))

    def _is_free(self, left: float, top: float, right: float, bottom: float) -> bool:
        return not any(left < x1 and x0 < right and top < y1 and y0 < bottom for x0, y0, x1, y1 in self.places)


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
    blended = 0.35 * grey
    blended[y : y + side, x : x + side] = (1 - weight) * grey[y : y + side, x : x + side] + weight * np.array(HEAT, np.float32)
    return Image.fromarray(blended.round().astype(np.uint8))


# --- the score among others ----------------------------------------------------------------------------------------


def histogram(scores: ItemScores) -> go.Figure:
    """Logits of reference images, real and synthetic, and of this image with other images' captions (null), as shares; a line marks
    this image with its own caption. Where the line stands in the midst of the null, the words did not matter to the score."""
    import plotly.graph_objects as go

    from interpret.render.figures import INK, NEUTRAL, REAL, SYNTHETIC, _layout

    styles = {"real": (REAL, "solid"), "synthetic": (SYNTHETIC, "solid"), "this image, other captions": (NEUTRAL, "dot")}
    image = [] if scores.image is None else [scores.image]
    figure, edges = go.Figure(), _edges([*scores.real, *scores.synthetic, *scores.null, *image])
    for name, values in scores.groups.items():
        colour, dash = styles[name]
        figure.add_scatter(
            x=((edges[1:] + edges[:-1]) / 2).tolist(),
            y=(np.histogram(values, edges)[0] / len(values)).tolist(),
            name=name,
            mode="lines",
            line={"color": colour, "width": 3, "shape": "hvh", "dash": dash},
            hovertemplate="logit %{x:.2f}: %{y:.0%}<extra>" + name + "</extra>",
        )
    if scores.image is not None:
        figure.add_scatter(
            x=[scores.image, scores.image],
            y=[0, max([max(trace.y) for trace in figure.data], default=1.0)],
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


def histogram_rows(scores: ItemScores) -> list[list[str]]:
    """The figure in numbers: for each group its 10th, 50th and 90th percentile and the share of it below this image."""
    return [
        [
            name,
            *(f"{q:+.2f}" for q in np.percentile(values, [10, 50, 90])),
            "not defined" if scores.image is None else f"{100 * np.mean(values < scores.image):.0f} %",
        ]
        for name, values in scores.groups.items()
    ]
