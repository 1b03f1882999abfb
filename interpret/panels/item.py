"""The caption: what is said to be in the image, each thing in its place, and how well words and picture agree; all of it editable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from interpret import misalignment
from interpret.panels import components as parts
from interpret.panels.service import Seen, Shown, photo_of, stored, suite_of
from interpret.render.words import how_good, words_worth

if TYPE_CHECKING:
    from detector import Suite
    from detector.clip.captioning import Caption
    from detector.data.images import Photo
    from detector.methods.item.alignment import Alignment

BOXES = "All boxes"
FIRST = "Analyse an image first."
NOT_COMPARED = "No method of this model reads a caption, so none was written yet: press Compare, or type one first."


@dataclass(frozen=True)
class Edited:
    """The caption and the objects that a session looks at, of the image under `key`: a client of the endpoints may have analysed another
    one since."""

    key: str
    caption: Caption
    phrases: tuple[str, ...]


# --- layout --------------------------------------------------------------------------------------------------------


def build_caption() -> list:
    parts.heading("Caption and objects", "caption")
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
            picture = gr.Image(
                label="Where the objects are",
                show_label=False,
                format="png",
                interactive=False,
                height=360,
                buttons=["fullscreen", "download"],
                elem_id="caption-picture",
            )
            view = parts.unchecked(
                gr.Radio(
                    [(BOXES, 0)],
                    value=0,
                    label="Show",
                    elem_id="caption-view",
                    info="Heat: orange where it is nearer to the object than to “a thing”; dark edges: unseen",
                )
            )
        with gr.Column(scale=4):
            table = parts.table(
                ["no.", "what", "cosine", "box in pixels"], "Cosine of caption and objects with the image", ["10%", "36%", "20%", "34%"], 7
            )
    with gr.Column(visible=False) as score:
        gr.Markdown("### Do the words matter to the score?")
        among = gr.HTML(elem_classes="reading", elem_id="caption-null")
        with gr.Row(elem_classes="stack"):
            chart = parts.plot("ITEM logits: real, synthetic, and this image with other captions", "caption-histogram")
            numbers = parts.table(
                ["images", "10 %", "50 %", "90 %", "below this"],
                "ITEM logits: percentiles, and share below this image",
                ["40%", "15%", "15%", "15%", "15%"],
                4,
            )
    return [reading, words, objects, compare, reset, picture, view, table, score, among, chart, numbers, gr.State()]


def show_caption(shown: Shown) -> list:
    """The image's first caption; nothing of what the visitor typed for the last image."""
    return _with_buttons(_values(shown.suite, shown.photo, shown.seen, _first(shown.seen)))


def wire_caption(components: list, seen: gr.State) -> list:
    _, words, objects, compare, reset, picture, view, *_, edited = components
    outputs = components[:3] + components[5:]
    triggers = [words.submit, objects.submit, compare.click]
    view.input(caption_view, [seen, edited, view], picture, api_name="caption_view", concurrency_id="panels", trigger_mode="always_last")
    return [
        gr.on(
            triggers,
            caption,
            [seen, edited, words, objects],
            outputs,
            api_name="caption",
            concurrency_id="model",
            trigger_mode="always_last",
        ),
        reset.click(first_caption, seen, outputs, api_name="first_caption", concurrency_id="model"),
    ]


# --- actions -------------------------------------------------------------------------------------------------------


def caption(seen: Seen | None, edited: Edited | None, words: str, objects: str = "") -> list:
    """Compare the image analysed last in this session with other words; the image itself is not encoded again.

    Args:
        words: the caption.
        objects: things to look for in the image, with commas between them, five at most; empty: those that the caption names.

    Returns:
        The result in words, the caption and the objects as they were read, the picture with a numbered box around each object, what
        can be shown on it, a table of cosines, and the ITEM score among others in words, as a chart and as a table.
    """
    if seen is None or seen.evidence is None:
        return _nothing(FIRST)
    suite = suite_of(seen)
    return _values(suite, photo_of(seen), seen, _compared(suite, seen, _last(seen, edited), str(words or ""), str(objects or "")))


def first_caption(seen: Seen | None) -> list:
    """Go back to the caption that was written from the pixels of the image analysed last in this session.

    Returns:
        The same as /caption.
    """
    if seen is None or seen.evidence is None:
        return _nothing(FIRST)
    return _values(suite_of(seen), photo_of(seen), seen, _first(seen))


def caption_view(seen: Seen | None, edited: Edited | None, view: int = 0) -> object:
    """The picture of the image analysed last in this session with the boxes of all objects, or with the heat of one.

    Args:
        view: 0 for all boxes, or the number of an object for its heat.

    Returns:
        The picture.
    """
    alignment = _last(seen, edited) if seen else None
    return None if alignment is None else _picture(photo_of(seen), alignment, view)


# --- what they give ------------------------------------------------------------------------------------------------


def _first(seen: Seen) -> Alignment | None:
    """The image against its first caption; None where no method of the model reads one."""
    return seen.evidence.alignment if seen.evidence else None


def _last(seen: Seen, edited: Edited | None) -> Alignment | None:
    """The image against the words that the session looks at, else its first caption."""
    return _edited(seen, edited) if edited and edited.key == seen.key else _first(seen)


def _edited(seen: Seen, edited: Edited) -> Alignment:
    """The image against these words, from the store or compared now."""
    return stored(seen, edited, lambda: _made(suite_of(seen), seen, edited))


def _made(suite: Suite, seen: Seen, edited: Edited) -> Alignment:
    from detector.methods.item.alignment import align, realign

    photo, before = photo_of(seen), _first(seen)
    if before is None:
        prepared = suite.backbone.prepare(photo.pixels)[None]
        before = align(suite.backbone, [photo.pixels], prepared, seen.evidence.clip, [edited.caption])
    if _words(seen, before) == edited:
        return before
    return realign(suite.backbone, photo.pixels, before, edited.caption, edited.phrases)


def _compared(suite: Suite, seen: Seen, before: Alignment | None, words: str, objects: str) -> Alignment:
    """The image against the caption and objects that were typed, or left as they were.

    Objects count as typed where they differ from those shown: with a new caption, untouched old ones are looked up anew.
    """
    from detector.clip.captioning import user_caption
    from detector.methods.item.objects import find_objects, typed_objects

    typed, caption = typed_objects(objects), user_caption(words)
    if before is None:
        caption = caption if words.strip() else _written(suite, seen)
    elif caption.text == before.readings[0].caption.text:
        caption = before.readings[0].caption
    elif typed == [o.phrase for o in before.readings[0].objects]:
        typed = []
    return _edited(seen, Edited(seen.key, caption, tuple(typed or find_objects(caption.text))))


def _written(suite: Suite, seen: Seen) -> Caption:
    """The caption that the model writes, for an image that has none yet."""
    from detector.clip.captioning import caption

    return caption(suite.backbone, suite.backbone.prepare(photo_of(seen).pixels)[None], seen.evidence.clip)[0]


def _values(suite: Suite, photo: Photo, seen: Seen, alignment: Alignment | None) -> list:
    """Reading, caption, objects, picture, what can be shown on it, table, the score's four parts, and what to remember."""
    if alignment is None:
        return [misalignment.as_html(NOT_COMPARED), "", "", None, gr.Radio([(BOXES, 0)], value=0), [], *_score(suite, None, None), None]
    from detector.methods.item.alignment import caption_rank, record

    item, reference = record(alignment), suite.item_reference
    rank = caption_rank(alignment, reference.captions) if reference else None
    found = alignment.readings[0].objects
    heats = [(f"Heat of {number}: {o.phrase}", number) for number, o in enumerate(found, 1) if o.heat is not None]
    sentences = [misalignment.sentence(item, rank), *_remarks(suite, item)]
    return [
        misalignment.as_html(*sentences),
        item["caption"],
        ", ".join(o.phrase for o in found),
        _picture(photo, alignment, 0),
        gr.Radio([(BOXES, 0), *heats], value=0),
        misalignment.rows(item),
        *_score(suite, alignment, _first(seen)),
        _words(seen, alignment),
    ]


def _words(seen: Seen, alignment: Alignment) -> Edited:
    """What a session remembers of an alignment."""
    reading = alignment.readings[0]
    return Edited(seen.key, reading.caption, tuple(o.phrase for o in reading.objects))


def _remarks(suite: Suite, item: dict) -> list[str]:
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


def _score(suite: Suite, alignment: Alignment | None, first: Alignment | None) -> list:
    """Visibility, sentence, chart and table of the ITEM score among others; hidden without head, reference images or caption."""
    head, reference = suite.heads.get("item"), suite.item_reference
    if not (head and reference) or alignment is None or not bool(alignment.usable[0]):
        return [gr.Column(visible=False), "", parts.chart(None), []]
    from detector.methods.item.head import null_scores

    own, null = float(head.logits(alignment)[0]), null_scores(alignment, head, reference.captions)
    before = float(head.logits(first)[0]) if first is not None and first is not alignment and bool(first.usable[0]) else None
    groups = reference.real, reference.synthetic, null, own
    backbone = suite.backbone.name
    sentences = misalignment.null_sentence(own, null, before), words_worth(backbone), how_good("item", backbone)
    return [
        gr.Column(visible=True),
        misalignment.as_html(*sentences),
        parts.chart(misalignment.histogram(*groups)),
        misalignment.histogram_rows(*groups),
    ]


def _picture(photo: Photo, alignment: Alignment, view: object) -> gr.Image:
    """All boxes, or one object's heat with its box; an unknown view gives the boxes."""
    from detector.methods.item.alignment import record

    pixels, item = misalignment.resized(photo.pixels, record(alignment))
    found = alignment.readings[0].objects
    text = "; ".join(f"{number}: {o.phrase} {o.score:+.2f}" for number, o in enumerate(found, 1))
    number = int(view) if view in range(1, len(found) + 1) else 0
    if number and found[number - 1].heat is not None:
        pixels = np.asarray(misalignment.heat_overlay(pixels, found[number - 1].heat))
    words = f"Boxes: {text}" if text else "The image, without boxes"
    return gr.Image(parts.picture_file(misalignment.boxed(pixels, item, number or None)), alt_text=words)


def _nothing(why: str) -> list:
    """A sentence; everything else stays."""
    return [misalignment.as_html(why), *[gr.skip()] * 10]


def _with_buttons(values: list) -> list:
    """The values of all components, the two buttons untouched."""
    return [*values[:3], gr.skip(), gr.skip(), *values[3:]]
