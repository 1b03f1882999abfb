"""Draw: a picture of a few words by the project's own generator, which then can be analysed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from detector.assets import EMBEDDED
from interpret.panels import components as parts
from interpret.panels.gate import image_file
from interpret.panels.service import get_suite
from interpret.tabs.links import ANALYZE, AnalyzeLinks

ABOUT = (
    "Our own small text-to-image model draws what you write, 128 × 128 pixels, on this machine. It learned from 17,000 pictures: it knows "
    "dogs, flowers, streets and shirts, and has not heard of much else. Its pictures are synthetic through and through, for you to try."
)
SUGGESTIONS = (
    "a dog on grass",
    "a sunset over water",
    "a photo of a house",
    "a field of tulips",
    "a street with buildings",
    "a photo of a rose",
)
EMPTY = "Draw a picture first."
LONGEST = 300  # characters of a text


@dataclass(frozen=True)
class DrawTab:
    """text: what to draw. guidance: how closely. seed: of the noise. start, open: buttons. picture: a PNG file. note: a sentence."""

    text: gr.Textbox
    guidance: gr.Slider
    seed: gr.Number
    start: gr.Button
    picture: gr.Image
    note: gr.Markdown
    open: gr.Button


class DrawValues(NamedTuple):
    """Values of `DrawTab`, in the order in which the endpoint gives them."""

    picture: Any
    note: str
    open: gr.Button


def build_draw(links: AnalyzeLinks) -> None:
    """The part, and what its buttons do."""
    tab = _layout()
    gr.on(
        [tab.start.click, tab.text.submit],
        draw,
        [tab.text, tab.guidance, tab.seed],
        parts.outputs(tab, DrawValues),
        api_name="generate",
        concurrency_id="model",
        trigger_mode="once",
        show_progress_on=tab.picture,
    )
    tab.open.click(
        open_drawn, tab.picture, [links.image, links.tabs], api_visibility="private", concurrency_id="panels", trigger_mode="once"
    )


def _layout() -> DrawTab:
    with gr.Column(elem_id="teach-draw", elem_classes="lesson"):
        gr.Markdown(ABOUT)
        with gr.Row(elem_classes="stack", equal_height=False):
            with gr.Column(scale=3, min_width=280):
                text = gr.Textbox(SUGGESTIONS[0], label="What shall it show?", max_length=LONGEST, elem_id="draw-text")
                gr.Examples([[words] for words in SUGGESTIONS], text, label="For example", elem_id="draw-suggestions")
                guidance = gr.Slider(1, 8, 4, step=0.5, label="How closely it follows the words", elem_id="draw-guidance", buttons=[])
                seed = gr.Number(
                    0, precision=0, minimum=0, maximum=2**31 - 1, label="Number of the drawing: another number, another picture",
                    elem_id="draw-seed",
                )  # fmt: skip
                start = gr.Button("Draw", variant="primary", elem_id="draw-start")
            with gr.Column(scale=2, min_width=280):
                picture = gr.Image(
                    label="The drawing", type="filepath", format="png", interactive=False, height=300, elem_id="draw-picture"
                )
                setattr(picture, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
                note = gr.Markdown("", elem_classes="reading", elem_id="draw-note")
                button = gr.Button("Open in Analyze", visible=False, elem_id="draw-open")
    return DrawTab(text, guidance, seed, start, picture, note, button)


# --- actions -------------------------------------------------------------------------------------------------------


def draw(text: str, guidance: float = 4.0, seed: float = 0) -> DrawValues:
    """Draw a picture of a few words with the project's own small text-to-image model.

    Args:
        text: what it shows, as in "a dog on grass".
        guidance: how closely the picture follows the words, 1 to 8.
        seed: a whole number from 0; another number gives another picture.

    Returns:
        The picture, a PNG file of 128 × 128 pixels; a sentence on it.
    """
    from detector.clip.backbone import BackboneError
    from detector.clip.generator.sampling import Sampling, shipped_painter
    from detector.hub.weights import WeightsError

    try:
        sampling = Sampling(guidance=float(guidance or 1), seed=int(seed or 0))
        pixels = shipped_painter(get_suite(EMBEDDED).backbone).paint([text[:LONGEST]], sampling)[0]
    except (BackboneError, WeightsError, ValueError) as error:
        return DrawValues(None, parts.plain(str(error)), gr.Button(visible=False))
    return DrawValues(parts.picture_file(pixels), f"Synthetic: drawing {sampling.seed} of our own generator.", gr.Button(visible=True))


def open_drawn(picture: str | None) -> tuple[str, gr.Tabs]:
    """The picture in Analyze."""
    if not picture:
        raise gr.Error(EMPTY, print_exception=False)
    return picture, gr.Tabs(selected=ANALYZE)
