"""The tour: six cues, each with one slider and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from interpret.panels import components as parts
from interpret.panels.links import note, step_of
from interpret.panels.service import get_suite
from interpret.panels.store import STORE, new_key
from interpret.panels.stored_maps import reduced
from interpret.render.teach import heading_html, sentence_html, view_html
from interpret.tabs.links import AnalyzeLinks
from interpret.tabs.slides import full_screen_button
from interpret.teach.tour import STEPS

if TYPE_CHECKING:
    from interpret.teach.tour import Measured

SIDE, QUALITY = 900, 92  # pixels and JPEG quality of the pictures on the page
START = 0.5  # where the slider stands when a step is opened
FIRST = next(iter(STEPS))
ABOUT = "One cue at a time, on the image in Analyze; without one, on the first example."
# The step is that of the page's address, which may not have reached the radio yet when a link opens this part.
OPENED = f"""(image, in_use, step, amount, tour) => {{
  const asked = new URLSearchParams(location.search).get("step");
  return [image, in_use, {list(STEPS)}.includes(asked) ? asked : step, amount, tour];
}}"""
NO_PICTURE = "There is no picture: give one in Analyze."


@dataclass(frozen=True)
class Tour:
    """What a session's tour is about. file, in_use: the picture and the detector. key: of what was measured, in the store."""

    file: str
    in_use: str
    key: str


@dataclass(frozen=True)
class TourTab:
    """step: which cue. previous, following: buttons. heading: the cue in words. amount: the slider. view: pictures, sentence, chart.
    tour: of this session."""

    step: gr.Radio
    previous: gr.Button
    following: gr.Button
    heading: gr.HTML
    amount: gr.Slider
    view: gr.HTML
    tour: gr.State


class StepValues(NamedTuple):
    """Values of `TourTab` when a step is opened."""

    step: str
    heading: str
    amount: gr.Slider


class TourValues(NamedTuple):
    """Values of `TourTab`, in the order in which the endpoint gives them."""

    view: str
    tour: Tour | None


def build_tour(links: AnalyzeLinks, part: gr.Tab) -> None:
    """The part, and what its controls do. part: the tab that holds it."""
    tab = _layout()
    opened = parts.outputs(tab, StepValues)
    quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "panels", "show_progress": "hidden"}
    shown: dict[str, Any] = {
        "fn": show_step,
        "inputs": [links.image, links.in_use, tab.step, tab.amount, tab.tour],
        "outputs": parts.outputs(tab, TourValues),
        "concurrency_id": "model",
        "trigger_mode": "always_last",
        "show_progress": "hidden",
    }
    tab.amount.input(**shown, api_name="tour")
    part.select(**shown, js=OPENED, api_visibility="private")
    moves = [tab.step.input(open_step, tab.step, opened, **quiet)]
    moves += [
        button.click(open_step, tab.step, opened, js=_beside(way), **quiet) for button, way in ((tab.previous, -1), (tab.following, 1))
    ]
    for move in moves:
        move.then(None, tab.step, None, js=note("step"), show_progress="hidden").then(**shown, api_visibility="private")
    query = gr.Textbox(visible=False, label="link")
    gr.on(
        None,
        lambda text: open_step(step_of(text)),
        query,
        opened,
        js="() => [location.search]",
        api_visibility="private",
        concurrency_id="panels",
    )


def _beside(way: int) -> str:
    """JavaScript: the step before (-1) or after (1) the one that is open, the same one at an end."""
    names = list(STEPS)
    return f"(step) => {{ const all = {names}; return [all[Math.min(Math.max(all.indexOf(step) + {way}, 0), {len(names) - 1})]]; }}"


def _layout() -> TourTab:
    with gr.Column(elem_id="teach-tour", elem_classes="lesson"):
        with gr.Row(elem_classes="lesson-head"):
            gr.Markdown(ABOUT)
            full_screen_button("teach-tour")
        names = [(f"{number} {name.capitalize()}", name) for number, name in enumerate(STEPS, start=1)]
        step = parts.accept_any(gr.Radio(names, value=FIRST, label="Step", elem_id="tour-step"))
        heading = gr.HTML(heading_html(FIRST), elem_id="tour-heading")
        amount = gr.Slider(0, 1, START, step=0.05, label=STEPS[FIRST].slider, elem_id="tour-amount", buttons=[])
        view = gr.HTML("", elem_id="tour-view")
        with gr.Row(elem_classes="lesson-foot"):
            previous = gr.Button("Previous", elem_id="tour-previous")
            following = gr.Button("Next", variant="primary", elem_id="tour-next")
    return TourTab(step, previous, following, heading, amount, view, gr.State())


# --- actions -------------------------------------------------------------------------------------------------------


def open_step(step: str) -> StepValues:
    """A step's heading and slider; the first one for a name that is none."""
    name = step if step in STEPS else FIRST
    return StepValues(name, heading_html(name), gr.Slider(value=START, label=STEPS[name].slider))


def show_step(
    image: str | None, in_use: str = "embedded", step: str = FIRST, amount: float = START, tour: Tour | None = None
) -> TourValues:
    """One step of the tour: a picture changed with one operation, and what that does to one cue.

    Args:
        image: an image file; none for the first example.
        in_use: the backbone or detector in use.
        step: noise, spectrum, sharpness, concepts, caption or where.
        amount: how much is changed, 0 to 1; 0 leaves the picture as it is.

    Returns:
        Both pictures with their verdicts, one sentence, and a chart, in HTML.
    """
    from detector.clip.backbone import BackboneError
    from detector.data.images import ImageError
    from detector.detectors.names import DetectorError
    from detector.methods.base import HeadError
    from interpret.teach.tour import TourError, show

    file = image or _first_example()
    if file is None:
        return TourValues(sentence_html(NO_PICTURE), None)
    tour = tour if tour is not None and (tour.file, tour.in_use) == (file, in_use) else Tour(file, in_use, new_key())
    try:
        view = show(get_suite(in_use), _measured(tour), step, float(amount))
    except (BackboneError, DetectorError, HeadError, ImageError, TourError) as error:
        return TourValues(sentence_html(str(error)), tour)
    pictures = [_inline(picture, words) for picture, words in ((view.before, "The picture as it is"), (view.after, "The changed picture"))]
    return TourValues(view_html(view, *pictures), tour)


def _first_example() -> str | None:
    from interpret.examples import existing_examples

    return next((str(path) for path, _ in existing_examples()), None)


def _measured(tour: Tour) -> Measured:
    """What was measured of the picture as it is, from the store or now."""
    from detector.data.images import load_photo
    from interpret.teach.tour import start

    return STORE.get((tour.key, "tour"), lambda: start(get_suite(tour.in_use), load_photo(tour.file)))


def _inline(picture: np.ndarray | Image.Image, words: str) -> str:
    small = Image.fromarray(reduced(np.asarray(picture), SIDE))
    return parts.inline_picture(small, words, QUALITY)
