"""The caption: what is said to be in the image, each thing in its place, and how well words and picture agree; all of it editable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr
import numpy as np
from gradio.events import Dependency

from detector.detectors.names import DetectorName
from interpret import misalignment
from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, PanelSource, from_store, part_of, photo_of
from interpret.render.words import how_good, text_gain

if TYPE_CHECKING:
    from PIL import Image

    from detector import Suite
    from detector.clip.captioning import Caption
    from detector.data.images import Photo
    from detector.methods.base import Evidence
    from detector.methods.item.alignment import Alignment
    from detector.records import ItemRecord

BOXES = "All boxes"
FIRST = "Analyse an image first."
NOT_COMPARED = "No method of this model reads a caption, so none was written yet: press Compare, or type one first."


@dataclass(frozen=True)
class Wording:
    """The caption and the objects that a session looks at. key: of the image that they belong to; a client of the endpoints may have
    analysed another one since."""

    key: str
    caption: Caption
    phrases: tuple[str, ...]


# --- layout --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CaptionPanel:
    """words, objects: text boxes. compare, reset: buttons. view: what the picture shows. score: the column of the ITEM score with
    null_reading, chart and numbers. wording: what the session remembers, a `Wording`."""

    reading: gr.HTML
    words: gr.Textbox
    objects: gr.Textbox
    compare: gr.Button
    reset: gr.Button
    picture: gr.Image
    view: gr.Radio
    table: gr.Dataframe
    score: gr.Column
    null_reading: gr.HTML
    chart: gr.Plot
    numbers: gr.Dataframe
    wording: gr.State


class CaptionValues(NamedTuple):
    """Values of `CaptionPanel`, in the order in which the endpoints give them."""

    reading: str
    words: str | parts.Skip
    objects: str | parts.Skip
    picture: gr.Image | parts.Skip | None
    view: gr.Radio | parts.Skip
    table: list[list[str]] | parts.Skip
    score: gr.Column | parts.Skip
    null_reading: str | parts.Skip
    chart: gr.Plot | parts.Skip
    numbers: list[list[str]] | parts.Skip
    wording: Wording | parts.Skip | None


class ScoreValues(NamedTuple):
    """The values of `CaptionPanel` that belong to the ITEM score."""

    score: gr.Column
    null_reading: str
    chart: gr.Plot
    numbers: list[list[str]]


def build_caption() -> CaptionPanel:
    """Text boxes, the picture with its boxes, the cosines and the ITEM score."""
    parts.heading("item", "caption")
    reading = gr.HTML(elem_classes="reading", elem_id="caption-reading")
    with gr.Row(elem_classes="stack"):
        words = gr.Textbox(label="Caption", info="In English, say what the image shows", elem_id="caption-words", scale=4, max_lines=4)
        objects = gr.Textbox(
            label="Objects",
            info="With commas between them, five at most; empty: those that the caption names",
            elem_id="caption-objects",
            scale=4,
        )
    with gr.Row():
        compare = gr.Button("Compare", scale=0, min_width=120, elem_id="caption-compare")
        reset = gr.Button("Reset", scale=0, min_width=120, elem_id="caption-reset")
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=5):
            picture, view = _build_picture()
        with gr.Column(scale=4):
            table = parts.table(
                ["no.", "what", "cosine", "box in pixels"], "Cosine of caption and objects with the image", ["10%", "36%", "20%", "34%"], 7
            )
    with gr.Column(visible=False, elem_classes="expert") as score:
        gr.Markdown("#### Do the words matter to the score?")
        null_reading = gr.HTML(elem_classes="reading", elem_id="caption-null")
        with gr.Row(elem_classes="stack"):
            chart = parts.plot("ITEM logits: real, synthetic, and this image with other captions", "caption-histogram")
            numbers = parts.table(
                ["images", "10 %", "50 %", "90 %", "below this"],
                "ITEM logits: percentiles, and share below this image",
                ["40%", "15%", "15%", "15%", "15%"],
                4,
            )
    return CaptionPanel(
        reading, words, objects, compare, reset, picture, view, table, score, null_reading, chart, numbers, wording=gr.State()
    )


def _build_picture() -> tuple[gr.Image, gr.Radio]:
    picture = gr.Image(
        label="Where the objects are",
        show_label=False,
        format="png",
        interactive=False,
        height=360,
        buttons=["fullscreen", "download"],
        elem_id="caption-picture",
    )
    view = gr.Radio(
        [(BOXES, 0)],
        value=0,
        label="Show",
        elem_id="caption-view",
        info="Heat: orange where it is nearer to the object than to “a thing”; dark edges: not read",
    )
    return picture, parts.accept_any(view)


def show_caption(source: PanelSource) -> CaptionValues:
    """The image's first caption; nothing of what the visitor typed for the last image."""
    return _values(source.suite.roster.suite_for("item"), source.photo, source.current, _first(source.current))


def wire_caption(panel: CaptionPanel, current: gr.State) -> list[Dependency]:
    """The events of the panel; those that use the model are returned."""
    outputs = parts.outputs(panel, CaptionValues)
    panel.view.input(
        caption_view,
        [current, panel.wording, panel.view],
        panel.picture,
        api_name="caption_view",
        concurrency_id="panels",
        trigger_mode="always_last",
    )
    compare = gr.on(
        [panel.words.submit, panel.objects.submit, panel.compare.click],
        caption,
        [current, panel.wording, panel.words, panel.objects],
        outputs,
        api_name="caption",
        concurrency_id="model",
        trigger_mode="always_last",
    )
    return [compare, panel.reset.click(first_caption, current, outputs, api_name="first_caption", concurrency_id="model")]


# --- actions -------------------------------------------------------------------------------------------------------


def caption(current: CurrentImage | None, wording: Wording | None, words: str, objects: str = "") -> CaptionValues:
    """Compare the image analysed last in this session with other words; the image itself is not encoded again.

    Args:
        words: the caption.
        objects: things to look for in the image, with commas between them, five at most; empty: those that the caption names.

    Returns:
        The result in words, the caption and the objects as they were read, the picture with a numbered box around each object, what
        can be shown on it, a table of cosines, and the ITEM score among others in words, as a chart and as a table.
    """
    if current is None or (evidence := part_of(current, "item")[1]) is None:
        return _only(FIRST)
    suite, _ = part_of(current, "item")
    before = _last(current, wording)
    return _values(suite, photo_of(current), current, _compare(suite, current, evidence, before, (str(words or ""), str(objects or ""))))


def first_caption(current: CurrentImage | None) -> CaptionValues:
    """Go back to the caption that was written from the pixels of the image analysed last in this session.

    Returns:
        The same as /caption.
    """
    if current is None or current.evidence is None:
        return _only(FIRST)
    return _values(part_of(current, "item")[0], photo_of(current), current, _first(current))


def caption_view(current: CurrentImage | None, wording: Wording | None, view: int = 0) -> gr.Image | None:
    """The picture of the image analysed last in this session with the boxes of all objects, or with the heat of one.

    Args:
        view: 0 for all boxes, or the number of an object for its heat.

    Returns:
        The picture.
    """
    alignment = _last(current, wording) if current else None
    return None if current is None or alignment is None else _picture(photo_of(current), alignment, view)


def objects_over(current: CurrentImage) -> Image.Image | None:
    """The image with a box around each object of its first caption, for the first screen; None where there is no caption."""
    from detector.methods.item.alignment import record

    alignment = _first(current)
    if alignment is None:
        return None
    pixels, item = misalignment.resize(photo_of(current).pixels, record(alignment))
    return misalignment.draw_boxes(pixels, item, None)


# --- alignments ----------------------------------------------------------------------------------------------------


def _first(current: CurrentImage) -> Alignment | None:
    """The image against its first caption; None where no method of the model reads one."""
    _, evidence = part_of(current, "item")
    return evidence.alignment if evidence else None


def _last(current: CurrentImage, wording: Wording | None) -> Alignment | None:
    """The image against the words that the session looks at, else its first caption."""
    if wording is None or wording.key != current.key or (evidence := part_of(current, "item")[1]) is None:
        return _first(current)
    return _against(current, evidence, wording)


def _against(current: CurrentImage, evidence: Evidence, wording: Wording) -> Alignment:
    """The image against these words, from the store or compared now."""
    return from_store(current, wording, lambda: _align(part_of(current, "item")[0], current, evidence, wording))


def _align(suite: Suite, current: CurrentImage, evidence: Evidence, wording: Wording) -> Alignment:
    from detector.methods.item.alignment import align, realign

    photo, first = photo_of(current), evidence.alignment
    if first is None:
        prepared = suite.backbone.prepare(photo.pixels)[None]
        first = align(suite.backbone, [photo.pixels], prepared, evidence.clip, [wording.caption])
    if _wording(current, first) == wording:
        return first
    return realign(suite.backbone, photo.pixels, first, wording.caption, wording.phrases)


def _compare(suite: Suite, current: CurrentImage, evidence: Evidence, before: Alignment | None, texts: tuple[str, str]) -> Alignment:
    """The image against the caption and the objects in the two text boxes.

    Objects count as typed where they differ from those on the page: with a new caption, objects that were not touched are looked up
    again.
    """
    from detector.clip.captioning import user_caption
    from detector.methods.item.objects import find_objects, typed_objects

    words, typed = user_caption(texts[0]), typed_objects(texts[1])
    if before is None:
        words = words if texts[0].strip() else _write(suite, current, evidence)
    elif words.text == before.readings[0].caption.text:
        words = before.readings[0].caption
    elif typed == [o.phrase for o in before.readings[0].objects]:
        typed = []
    return _against(current, evidence, Wording(current.key, words, tuple(typed or find_objects(words.text))))


def _write(suite: Suite, current: CurrentImage, evidence: Evidence) -> Caption:
    """The caption that the model writes, for an image that has none yet."""
    from detector.clip.captioning import caption

    pixels = photo_of(current).pixels
    return caption(suite.backbone, [pixels], suite.backbone.prepare(pixels)[None], evidence.clip)[0]


def _wording(current: CurrentImage, alignment: Alignment) -> Wording:
    """What a session remembers of an alignment."""
    reading = alignment.readings[0]
    return Wording(current.key, reading.caption, tuple(o.phrase for o in reading.objects))


# --- values --------------------------------------------------------------------------------------------------------


def _values(suite: Suite, photo: Photo, current: CurrentImage, alignment: Alignment | None) -> CaptionValues:
    """What the panel shows of an alignment."""
    if alignment is None:
        view = gr.Radio([(BOXES, 0)], value=0)
        return CaptionValues(misalignment.as_html(NOT_COMPARED), "", "", None, view, [], *_score(suite, None, None), wording=None)
    from detector.methods.item.alignment import caption_rank, record

    item, reference = record(alignment), suite.item_reference
    rank = caption_rank(alignment, reference.captions) if reference else None
    objects = alignment.readings[0].objects
    heats = [(f"Heat of {number}: {o.phrase}", number) for number, o in enumerate(objects, 1) if o.heat is not None]
    return CaptionValues(
        misalignment.as_html(misalignment.sentence(item, rank), *_remarks(suite, item)),
        item["caption"],
        ", ".join(o.phrase for o in objects),
        _picture(photo, alignment, 0),
        gr.Radio([(BOXES, 0), *heats], value=0),
        misalignment.rows(item),
        *_score(suite, alignment, _first(current)),
        wording=_wording(current, alignment),
    )


def _remarks(suite: Suite, item: ItemRecord) -> list[str]:
    """What the reader should know of this caption and this model."""
    from detector.clip.captioning import is_truncated

    remarks = []
    if is_truncated(suite.backbone, item["caption"]):
        remarks.append("CLIP reads only the beginning of so long a caption.")
    if any(character.isalpha() for character in item["caption"]) and not item["caption"].isascii():
        remarks.append("CLIP learned from English captions: numbers for words in other scripts say little.")
    if "item" not in suite.heads:
        remarks.append("No ITEM score was trained for this model, so there are cosines only.")
    return remarks


def _score(suite: Suite, alignment: Alignment | None, first: Alignment | None) -> ScoreValues:
    """The ITEM score among others; hidden without head, reference images or caption. first: with the first caption."""
    head, reference = suite.heads.get("item"), suite.item_reference
    if not (head and reference) or alignment is None or not bool(alignment.usable[0]):
        return ScoreValues(gr.Column(visible=False), "", parts.chart(None), [])
    from detector.methods.item.head import null_scores

    null = null_scores(alignment, head, reference.captions)
    before = float(head.logits(first)[0]) if first is not None and first is not alignment and bool(first.usable[0]) else None
    image = float(head.logits(alignment)[0])
    scores = misalignment.ItemScores(reference.real, reference.synthetic, null, image)
    backbone = suite.backbone.name
    speaks = f"{DetectorName(backbone, 'item')} speaks here. {how_good('item', backbone)}"
    return ScoreValues(
        gr.Column(visible=True),
        misalignment.as_html(misalignment.null_sentence(image, null, before), text_gain(backbone), speaks),
        parts.chart(misalignment.histogram(scores)),
        misalignment.histogram_rows(scores),
    )


def _picture(photo: Photo, alignment: Alignment, view: object) -> gr.Image:
    """All boxes, or one object's heat with its box; an unknown view gives the boxes."""
    from detector.methods.item.alignment import record

    pixels, item = misalignment.resize(photo.pixels, record(alignment))
    objects = alignment.readings[0].objects
    text = "; ".join(f"{number}: {o.phrase} {o.score:+.2f}" for number, o in enumerate(objects, 1))
    number = next((number for number in range(1, len(objects) + 1) if number == view), None)
    if number is not None and (heat := objects[number - 1].heat) is not None:
        pixels = np.asarray(misalignment.heat_overlay(pixels, heat))
    words = f"Boxes: {text}" if text else "The image, without boxes"
    return gr.Image(parts.picture_file(misalignment.draw_boxes(pixels, item, number)), alt_text=words)


def _only(sentence: str) -> CaptionValues:
    """A sentence; everything else stays."""
    return CaptionValues(misalignment.as_html(sentence), *[gr.skip()] * (len(CaptionValues._fields) - 1))
