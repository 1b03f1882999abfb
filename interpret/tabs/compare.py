"""Compare: two images, or an image and an edit of it, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from interpret import compare
from interpret.panels import components as parts
from interpret.panels import sdd
from interpret.panels.gate import image_file
from interpret.panels.service import CurrentImage, analyze
from interpret.render.text import verdict_card
from interpret.tabs.links import AnalyzeLinks

BOTH = "Give both images first."


@dataclass(frozen=True)
class CompareTab:
    """first, second: images. operation, strength, edit: make the second one of the first. start, maps: buttons. sentence, first_card,
    second_card, table: what differs. first_map, second_map: heatmaps. currents: both analyses of this session."""

    first: gr.Image
    second: gr.Image
    operation: gr.Dropdown
    strength: gr.Slider
    edit: gr.Button
    start: gr.Button
    maps: gr.Button
    sentence: gr.Markdown
    first_card: gr.HTML
    second_card: gr.HTML
    table: gr.Dataframe
    first_map: gr.Image
    second_map: gr.Image
    currents: gr.State


class CompareValues(NamedTuple):
    """Values of `CompareTab`, in the order in which the endpoint gives them."""

    sentence: str
    first_card: str
    second_card: str
    table: list[list]
    currents: tuple[CurrentImage, CurrentImage] | None


def image_input(label: str, elem_id: str) -> gr.Image:
    """An image as it is, checked as every upload."""
    image = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label=label, height=280, elem_id=elem_id)
    setattr(image, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
    return image


def build_compare(links: AnalyzeLinks) -> None:
    """The tab, and what its buttons do."""
    tab = _layout()
    line: dict[str, Any] = {"concurrency_id": "model", "trigger_mode": "once"}
    images = [tab.first, tab.second, links.in_use]
    tab.start.click(compare_images, images, parts.outputs(tab, CompareValues), api_name="compare", show_progress_on=tab.sentence, **line)
    tab.edit.click(edit_image, [tab.first, tab.operation, tab.strength], tab.second, api_name="edit", concurrency_id="panels")
    pictures = [tab.first_map, tab.second_map]
    tab.maps.click(compare_maps, tab.currents, pictures, api_name="compare_maps", show_progress_on=pictures, **line)


def _layout() -> CompareTab:
    from detector.clip.attributes import OPERATIONS

    gr.Markdown("Two images side by side, or one image and an edit of it: both verdicts, and what differs most.")
    with gr.Row(elem_classes="stack"):
        first, second = image_input("First image", "compare-first"), image_input("Second image", "compare-second")
    with gr.Row(elem_classes="stack"):
        operation = parts.accept_any(gr.Dropdown(list(OPERATIONS), value="blur", label="Make the second an edit of the first"))
        strength = gr.Slider(0, 1, 0.5, step=0.05, label="Strength")
        edit = gr.Button("Make the edit", elem_id="compare-edit")
    start = gr.Button("Compare", variant="primary", elem_id="compare-start")
    sentence = gr.Markdown("", elem_classes="reading", elem_id="compare-sentence")
    with gr.Row(elem_classes="stack", equal_height=False):
        cards = gr.HTML("", elem_id="compare-first-card"), gr.HTML("", elem_id="compare-second-card")
    table = parts.table(compare.HEADERS, "What differs; click a heading to sort", ["26%", "20%", "13%", "13%", "13%", "15%"], 14)
    maps = gr.Button("Draw both heatmaps", elem_id="compare-maps")
    with gr.Row(elem_classes="stack"):
        left, right = (
            gr.Image(label=f"Where the evidence lies: {name}", format="png", interactive=False, elem_id=f"compare-map-{name}")
            for name in ("first", "second")
        )
    return CompareTab(first, second, operation, strength, edit, start, maps, sentence, *cards, table, left, right, gr.State())


# --- actions -------------------------------------------------------------------------------------------------------


def compare_images(first: str | None, second: str | None, in_use: str = "embedded") -> CompareValues:
    """Analyse two images and say what differs.

    Args:
        first: an image file.
        second: an image file.
        in_use: the backbone or detector in use.

    Returns:
        One sentence; both verdicts in HTML; a table of methods, descriptors and concepts, the largest difference first.
    """
    if not first or not second:
        return CompareValues(BOTH, "", "", [], None)
    (one, left), (other, right) = analyze(first, in_use), analyze(second, in_use)
    if one is None or other is None or left is None or right is None or one["error"] or other["error"]:
        first_card, second_card = (verdict_card(record) if record else "" for record in (one, other))
        return CompareValues("One of the images cannot be analysed.", first_card, second_card, [], None)
    rows = [difference.row for difference in compare.differences(one, other)]
    return CompareValues(f"**{parts.plain(compare.sentence(one, other))}**", verdict_card(one), verdict_card(other), rows, (left, right))


def edit_image(first: str | None, operation: str = "blur", strength: float = 0.5) -> str:
    """Make an edit of an image with one of the attribute operations.

    Args:
        first: an image file.
        operation: the name of the operation, such as blur or film grain.
        strength: 0 to 1.

    Returns:
        The edited image, a PNG file.
    """
    from detector.clip.attributes import OPERATIONS
    from detector.data.images import ImageError, load_photo
    from detector.data.perturbations import shrink_to
    from interpret.stability import PIXEL_LIMIT

    if not first:
        raise gr.Error("Give the first image first.", print_exception=False)
    if refusal := parts.refusal(operation, OPERATIONS, "operation"):
        raise gr.Error(refusal, print_exception=False)
    try:
        pixels = shrink_to(load_photo(first).pixels, PIXEL_LIMIT)
    except ImageError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return parts.picture_file(np.ascontiguousarray(OPERATIONS[operation][0](pixels, strength)))


def compare_maps(currents: tuple[CurrentImage, CurrentImage] | None) -> list[Any]:
    """Draw the heatmaps of both images that were compared last in this session.

    Returns:
        Both images under their maps.
    """
    if not currents:
        raise gr.Error("Compare two images first.", print_exception=False)
    return [sdd.heatmap(current).picture for current in currents]
