"""One image method by method: a grid of cards, each of which opens its panel."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any, Generic, NamedTuple, TypeVar

import gradio as gr
from gradio.events import Dependency

from detector.records import AnalysisRecord
from interpret.panels import components as parts
from interpret.panels.charts import (
    CONCEPTS,
    RESIDUAL,
    UNITS,
    ChartPanel,
    ChartTexts,
    ChartValues,
    DescriptorValues,
    MethodsValues,
    build_chart,
    build_descriptors,
    build_methods,
    show_concepts,
    show_descriptors,
    show_methods,
    show_residual,
    show_units,
)
from interpret.panels.item import CaptionValues, build_caption, show_caption, wire_caption
from interpret.panels.probe import ProbeValues, build_probe, show_probe, wire_probe
from interpret.panels.sdd import HeatmapValues, build_heatmap, show_heatmap, wire_heatmap
from interpret.panels.service import CurrentImage, PanelSource, photo_of, suite_of
from interpret.panels.stability import StabilityValues, build_stability, show_stability, wire_stability
from interpret.render import text as report
from interpret.render.cards import CARDS, card_html, failed_card
from interpret.render.text import PANEL_NAMES

Components = TypeVar("Components")  # of a panel: the dataclass that its `build` gives

WELCOME = '<div class="card"><h2>Drop an image</h2><p>Or paste one, or choose an example. The verdict appears here.</p></div>'

WORKING = '<div class="card" data-working><h2>Analysing …</h2></div>'
STOPPED = """(card, progress) => progress.includes("<progress") ? [
  card.includes("data-working") ? '<div class="card"><h2>Stopped</h2><p>Press Analyze to start again.</p></div>' : card,
  '<div class="progress" role="status">Stopped. What is here stays; press Analyze to start again.</div>'] : [card, progress]"""


@dataclass(frozen=True)
class Panel(Generic[Components]):
    """One card of the page and the panel that it opens.

    key: as in `PANEL_NAMES` and `CARDS`. build: lays out the components. values: the names of the components that `show` fills.
    show: their values for an analysed image. wire: makes the events of the panel and returns those that use the model. cost: seconds
    that `show` takes on one core, roughly; the cheap panels come first. methods: those that the panel explains.
    """

    key: str
    build: Callable[[], Components]
    values: type[NamedTuple]
    show: Callable[[PanelSource], NamedTuple]
    wire: Callable[[Components, gr.State], list[Dependency]] = lambda components, current: []
    cost: float = 0.0
    methods: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The panel's name, the same everywhere."""
        return PANEL_NAMES[self.key]


def chart_panel(texts: ChartTexts, show: Callable[[PanelSource], ChartValues], cost: float) -> Panel[ChartPanel]:
    """A panel of one chart."""
    return Panel(texts.method, partial(build_chart, texts), ChartValues, show, cost=cost, methods=(texts.method,))


PANELS: tuple[Panel, ...] = (
    Panel("methods", build_methods, MethodsValues, show_methods),
    chart_panel(RESIDUAL, show_residual, cost=0.05),
    # the ticket of this panel starts work that takes long
    Panel("sdd", build_heatmap, HeatmapValues, show_heatmap, wire_heatmap, cost=1.0, methods=("sdd",)),
    Panel("physical", build_descriptors, DescriptorValues, show_descriptors, cost=0.5, methods=("physical", "physical_clip")),
    chart_panel(CONCEPTS, show_concepts, cost=0.02),
    chart_panel(UNITS, show_units, cost=0.02),
    Panel("item", build_caption, CaptionValues, show_caption, wire_caption, cost=0.1, methods=("item",)),
    Panel("stability", build_stability, StabilityValues, show_stability, wire_stability),
    Panel("probe", build_probe, ProbeValues, show_probe, wire_probe, cost=0.03),
)


@dataclass(frozen=True)
class Place:
    """Where a panel stands on the page. card: its name, a small chart and a sentence. column: the panel, which the card's button opens.
    components: what the panel's `build` gives."""

    card: gr.HTML
    column: gr.Column
    components: Any


# Reads from the page whether the panel is open, so that a card that is drawn again meanwhile changes nothing.
OPEN = """() => {{
  const panel = document.getElementById("place-{key}");
  return [{{__type__: "update", visible: !(panel && panel.offsetParent)}}];
}}"""
ON_BUTTON = "element.addEventListener('click', (event) => event.target.closest('button') && trigger('click'));"


def build_story() -> list[Place]:
    """Everything below the first screen: a card for each panel, and the panel, hidden until the card's button opens it."""
    places = []
    with gr.Column(elem_id="story"):
        gr.HTML("<h2>What each method says</h2>", elem_classes="heard")
        for panel in PANELS:
            card = gr.HTML("", elem_id=f"card-{panel.key}", elem_classes="method", visible=False, js_on_load=ON_BUTTON)
            with gr.Column(visible=False, elem_id=f"place-{panel.key}", elem_classes="opened") as column:
                place = Place(card, column, panel.build())
            card.click(None, None, column, js=OPEN.format(key=panel.key), show_progress="hidden")
            places.append(place)
    return places


def place_of(places: list[Place], key: str) -> Place:
    """The place of the panel with that key."""
    return next(place for panel, place in zip(PANELS, places, strict=True) if panel.key == key)


def leader_first(record: AnalysisRecord) -> str:
    """CSS in HTML that moves the card of the detector that leads before the others; "" for a fusion."""
    method = report.leading_method(record)
    panel = next((panel for panel in PANELS if method in panel.methods), None)
    return f"<style>#card-{panel.key}, #place-{panel.key} {{order: -1}}</style>" if panel else ""


def wire_story(places: list[Place], current: gr.State) -> list[Dependency]:
    """The events inside the panels. Returns those that use the model, for `cancels`."""
    return [event for panel, place in zip(PANELS, places, strict=True) for event in panel.wire(place.components, current)]


# --- showing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The part of the page above the cards. card: the verdict. progress: one line. downloads: the row of buttons."""

    card: gr.HTML
    progress: gr.HTML
    downloads: gr.Row


class HeadValues(NamedTuple):
    """Values of `Head`."""

    card: str
    progress: str
    downloads: gr.Row


def wire_values(analysis: Dependency, current: gr.State, head: Head, places: list[Place]) -> list[Dependency]:
    """Show an analysis: first the verdict, then panel after panel, the cheap first, each by an event of its own.

    Not by one generator: Gradio's browser side drops updates of a generator that come in quick succession. Returns the events, for
    `cancels`.
    """
    options: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_id": "panels",
        "trigger_mode": "always_last",
        "show_progress": "hidden",
    }
    cards = [place.card for place in places]
    events = [analysis.success(show_head, current, [*parts.outputs(head, HeadValues), *cards], **options)]
    order = sorted(range(len(PANELS)), key=lambda index: PANELS[index].cost)
    for done, index in enumerate(order, start=1):
        panel, place = PANELS[index], places[index]
        show = partial(show_panel, panel, progress_words(done, len(order), PANELS[order[done]].title if done < len(order) else None))
        components = [head.progress, place.card, *parts.outputs(place.components, panel.values)]
        events.append(events[-1].success(show, current, components, **options))
    return events


def show_head(current: CurrentImage | None) -> list:
    """Verdict card, progress, downloads' row, and all cards with their names only; no cards for an image that cannot be used."""
    usable = current is not None and not current.record["error"]
    return [*show_verdict(current), *[gr.HTML(card_html(panel.key, None), visible=usable) for panel in PANELS]]


def show_verdict(current: CurrentImage | None) -> HeadValues:
    """Verdict card, progress, and the downloads' row."""
    if current is None:
        return HeadValues(WELCOME, "", gr.Row(visible=False))
    failed = bool(current.record["error"])
    words = "" if failed else progress_words(0, len(PANELS), PANEL_NAMES["methods"])
    return HeadValues(report.verdict_card(current.record) + leader_first(current.record), words, gr.Row(visible=not failed))


def show_panel(panel: Panel, progress: str, current: CurrentImage | None) -> list:
    """Progress, the panel's card, and the values of its components.

    A panel that fails has a card that says so and opens nothing, so that the others are still shown.
    """
    nothing = [gr.skip()] * (1 + len(panel.values._fields))
    if current is None or current.record["error"]:
        return [gr.skip(), *nothing]
    try:
        values = panel.show(PanelSource(current, suite_of(current), photo_of(current)))
        return [progress, card_html(panel.key, CARDS[panel.key](current.record), current.record), *values]
    except Exception:
        logging.getLogger(__name__).exception("The panel %s could not be shown.", panel.title)
        sentence = f"{panel.title} could not be shown"
        return [progress_line(f"{sentence}; the rest follows."), failed_card(panel.key, f"{sentence}."), *nothing[1:]]


def progress_words(done: int, total: int, following: str | None) -> str:
    """HTML: how many panels are shown and which comes next, for the eye and for a screen reader."""
    if following is None:
        return progress_line(f"Complete: {total} cards.")
    return progress_line(f"{done} of {total} cards; next: {following}", done / total)


def start_script(emptied: int, hidden: int) -> str:
    """JavaScript for the moment in which an image is chosen: nothing of the last one stays. How many components to empty and to hide."""
    updates = [""] * emptied + [{"__type__": "update", "visible": False}] * hidden
    return f"() => {json.dumps([WORKING, progress_line('Reading the image, then all methods at once', None), *updates])}"


def progress_line(words: str, share: float | None = 1.0) -> str:
    """HTML: one line, and a bar unless all is done; share None: under way for nobody knows how long."""
    value = "" if share is None else f' value="{share:.3f}"'
    bar = "" if share == 1.0 else f'<progress max="1"{value} aria-hidden="true"></progress>'
    return f'<div class="progress" role="status">{bar}<span>{escape(words)}</span></div>'
