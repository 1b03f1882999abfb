"""The hand-out: the image analysed last on one page of paper."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import gradio as gr
from PIL import Image

from interpret.panels import components as parts
from interpret.panels.overview import LEGEND, map_over
from interpret.panels.sdd import DETAIL_WINDOWS
from interpret.panels.service import CurrentImage, photo_of
from interpret.panels.stored_maps import MapKey, reduced, stored_maps
from interpret.render.handout import handout_html
from interpret.tabs.links import AnalyzeLinks

SIDE = 700  # pixels of each picture: some 200 to an inch on paper
FIRST = "Analyse an image first, then open this part again: the hand-out shows the image analysed last."
PRINT = "() => { document.querySelector('#handout .sheet') && window.print(); }"


@dataclass(frozen=True)
class HandoutTab:
    """page: the hand-out as HTML. print: the button."""

    page: gr.HTML
    print: gr.Button


def build_handout(links: AnalyzeLinks, part: gr.Tab) -> None:
    """The part, made when its tab is opened. part: that tab."""
    with gr.Row(elem_classes="lesson-head"):
        gr.Markdown("One page for the wall or the folder, A4 or Letter. It names no file.")
        button = gr.Button("Print", variant="primary", scale=0, min_width=140, elem_id="handout-print")
    tab = HandoutTab(gr.HTML("", elem_id="handout"), button)
    part.select(
        make_handout, links.current, tab.page, api_name="handout", concurrency_id="model", trigger_mode="always_last",
        show_progress_on=tab.page,
    )  # fmt: skip
    tab.print.click(None, None, None, js=PRINT)


def make_handout(current: CurrentImage | None) -> str:
    """The image analysed last in this session on one page to print: picture and map, verdict, reasons, trust, methods.

    Returns:
        The page in HTML.
    """
    if current is None or current.record["error"]:
        return f'<p role="status">{escape(FIRST)}</p>'
    return handout_html(current.record, _pictures(current))


def _pictures(current: CurrentImage) -> list[tuple[str, str]]:
    """The picture, and the same under its map where there is one."""
    from interpret.attribution.explain import ExplainError

    photo = Image.fromarray(reduced(photo_of(current).pixels, SIDE))
    pictures = [(parts.inline_picture(photo, "The picture"), "The picture")]
    maps = MapKey(current.key, DETAIL_WINDOWS["quick"])
    try:
        stored_maps(current, maps)
    except ExplainError:
        return pictures
    over = map_over((), current, maps)
    return [*pictures, (parts.inline_picture(over, "The picture under its map"), LEGEND)] if over else pictures
