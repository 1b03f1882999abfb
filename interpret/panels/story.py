"""The story of one image from top to bottom: one panel after another, each with a sentence, a chart and its table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import gradio as gr
from gradio.events import Dependency

from detector.records import AnalysisRecord
from interpret.panels import components as parts
from interpret.panels.item import CaptionValues, build_caption, show_caption, wire_caption
from interpret.panels.probe import ProbeValues, build_probe, show_probe, wire_probe
from interpret.panels.sdd import HeatmapValues, build_heatmap, show_heatmap, wire_heatmap
from interpret.panels.service import CurrentImage, PanelSource, photo_of, suite_of
from interpret.panels.stability import StabilityValues, build_stability, show_stability, wire_stability
from interpret.render import figures
from interpret.render import text as report

if TYPE_CHECKING:
    import plotly.graph_objects as go

Components = TypeVar("Components")  # of a panel: the dataclass that its `build` gives

WELCOME = '<div class="card"><h2>Drop an image</h2><p>Or paste one, or choose an example. The verdict appears here.</p></div>'

WORKING = '<div class="card" data-working><h2>Analysing …</h2></div>'
STOPPED = """(card, progress) => progress.includes("<progress") ? [
  card.includes("data-working") ? '<div class="card"><h2>Stopped</h2><p>Press Analyze to start again.</p></div>' : card,
  '<div class="progress" role="status">Stopped. What is here stays; press Analyze to start again.</div>'] : [card, progress]"""


@dataclass(frozen=True)
class Panel(Generic[Components]):
    """One part of the story.

    title: what the progress line calls it. build: lays out the components. values: the names of the components that `show` fills.
    show: their values for an analysed image. wire: makes the events of the panel and returns those that use the model. cost: seconds
    that `show` takes on one core, roughly; the cheap panels come first. methods: those that the panel explains.
    """

    title: str
    build: Callable[[], Components]
    values: type[NamedTuple]
    show: Callable[[PanelSource], NamedTuple]
    wire: Callable[[Components, gr.State], list[Dependency]] = lambda components, current: []
    cost: float = 0.0
    methods: tuple[str, ...] = ()


# --- methods -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodsPanel:
    """trust: how good the verdict is. summary: text to copy. table: the methods. view, view_reading: the pixels that CLIP reads."""

    trust: gr.Markdown
    summary: gr.Textbox
    table: gr.Dataframe
    view: gr.Image
    view_reading: gr.Markdown


class MethodsValues(NamedTuple):
    """Values of `MethodsPanel`."""

    trust: str
    summary: str
    table: list[list[str]]
    view: str
    view_reading: str


def build_methods() -> MethodsPanel:
    """Table and summary of all methods, and the pixels that CLIP reads."""
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=3):
            parts.heading("Methods", "methods")
            table = parts.table(
                ["method", "probability of synthetic", "share of verdict"], "Methods: shares in logits", ["46%", "27%", "27%"], 10
            )
            trust = parts.reading()
            summary = gr.Textbox(label="Summary to copy", lines=4, buttons=["copy"], interactive=False)
        with gr.Column(scale=2):
            gr.Markdown("## The exact pixels")
            view = gr.Image(label="What CLIP reads", format="png", interactive=False, height=220, buttons=["fullscreen", "download"])
            return MethodsPanel(trust, summary, table, view, parts.reading())


def show_methods(source: PanelSource) -> MethodsValues:
    """The scores of all methods, and the pixels that CLIP reads."""
    view, record = source.suite.backbone.view(source.photo), source.record
    return MethodsValues(
        parts.trust(record, "verdict"),
        report.summary(record),
        report.method_rows(record),
        parts.picture_file(view.pixels),
        report.view_reading(view),
    )


# --- a sentence, a chart, a table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChartTexts:
    """The fixed words of a panel with a chart. title: the heading. name: key of its text in `HOW` and id of the chart. method: as in
    an analysis' "detectors". chart, table: labels. headers, widths: of the table's columns; rows: visible before it scrolls."""

    title: str
    name: str
    method: str
    chart: str
    table: str
    headers: Sequence[str]
    widths: Sequence[str]
    rows: int


@dataclass(frozen=True)
class ChartPanel:
    """reading: one sentence. trust: how good the method is. chart, table: the same numbers twice."""

    reading: gr.Markdown
    trust: gr.Markdown
    chart: gr.Plot
    table: gr.Dataframe


class ChartValues(NamedTuple):
    """Values of `ChartPanel`."""

    reading: str
    trust: str
    chart: go.Figure | None
    table: list[list[str]]


def build_chart(texts: ChartTexts) -> ChartPanel:
    """Heading, explanation, sentence, how good the method is, the chart and beside it the same numbers as a table."""
    parts.heading(texts.title, texts.name)
    reading, trust = parts.reading(), parts.reading()
    with gr.Row(elem_classes="stack"):
        chart = parts.plot(texts.chart, texts.name)
        return ChartPanel(reading, trust, chart, parts.table([*texts.headers], texts.table, texts.widths, texts.rows))


def chart_panel(texts: ChartTexts, show: Callable[[PanelSource], ChartValues], cost: float) -> Panel[ChartPanel]:
    """A panel of one chart."""
    return Panel(texts.title, partial(build_chart, texts), ChartValues, show, cost=cost, methods=(texts.method,))


DESCRIPTORS = ChartTexts(
    "Fifteen physical descriptors",
    "descriptors",
    "physical",
    "Descriptors: this image between real and synthetic",
    "Value at two scales, percentile among real and among synthetic images, contribution",
    ["descriptor", "256 px", "native", "% real", "% synth.", "logits"],
    ["32%", "16%", "16%", "11%", "13%", "12%"],
    15,
)
CONCEPTS = ChartTexts(
    "Photographic concepts",
    "concepts",
    "concepts",
    "Concepts that push the concept model most",
    "All concepts: activation and contribution",
    ["positive pole", "negative pole", "activation", "logits"],
    ["31%", "31%", "21%", "17%"],
    10,
)
UNITS = ChartTexts(
    "Orthogonal units",
    "units",
    "orthogonal",
    "What each unit contributes",
    "Units: names by two methods, activation and contribution",
    ["#", "follows (correlation)", "spanned by (variance so far)", "activation", "logits"],
    ["7%", "30%", "29%", "19%", "15%"],
    9,
)
RESIDUAL = ChartTexts(
    "Pixel residual",
    "residual",
    "residual",
    "Residual spectrum: this image, mean real, mean synthetic",
    "Contribution of each part",
    ["part", "logits"],
    ["70%", "30%"],
    7,
)


@dataclass(frozen=True)
class DescriptorPanel(ChartPanel):
    """text_reading: what CLIP's text tower reads of the descriptors. views: pictures of four descriptors."""

    text_reading: gr.Markdown
    views: gr.HTML


class DescriptorValues(NamedTuple):
    """Values of `DescriptorPanel`."""

    reading: str
    trust: str
    chart: go.Figure | None
    table: list[list[str]]
    text_reading: str
    views: str


def build_descriptors() -> DescriptorPanel:
    """The chart of the descriptors, and pictures of four of them."""
    chart = build_chart(DESCRIPTORS)
    return DescriptorPanel(**vars(chart), text_reading=parts.reading(), views=gr.HTML(elem_id="views", label="What four of them measure"))


def show_descriptors(source: PanelSource) -> DescriptorValues:
    """The descriptors at both scales, and pictures of four of them."""
    from detector.methods.physical.features import describe
    from interpret.render.descriptor_views import gallery

    record, pixels = source.record, source.photo.pixels
    return DescriptorValues(
        report.descriptor_reading(record),
        parts.trust(record, DESCRIPTORS.method),
        figures.descriptor_chart(record, source.suite.heads.get("physical")),
        figures.descriptor_rows(record, describe(pixels)),
        parts.plain(report.text_reading(record)),
        gallery(pixels),
    )


def show_concepts(source: PanelSource) -> ChartValues:
    """The concepts of the concept model."""
    record = source.record
    trust = parts.trust(record, CONCEPTS.method)
    return ChartValues(report.concept_reading(record), trust, figures.concept_chart(record), figures.concept_rows(record))


def show_units(source: PanelSource) -> ChartValues:
    """The units of the orthogonal head."""
    record = source.record
    return ChartValues(
        report.unit_reading(record), parts.trust(record, UNITS.method), figures.unit_chart(record), figures.unit_rows(record)
    )


def show_residual(source: PanelSource) -> ChartValues:
    """The residual spectrum."""
    record = source.record
    chart = figures.residual_chart(source.photo.pixels, source.suite.heads.get("residual"))
    return ChartValues(report.residual_reading(record), parts.trust(record, RESIDUAL.method), chart, figures.residual_rows(record))


PANELS: tuple[Panel, ...] = (
    Panel("Methods", build_methods, MethodsValues, show_methods),
    Panel(DESCRIPTORS.title, build_descriptors, DescriptorValues, show_descriptors, cost=0.5, methods=("physical", "physical_clip")),
    chart_panel(CONCEPTS, show_concepts, cost=0.02),
    chart_panel(UNITS, show_units, cost=0.02),
    Panel("Picture and words", build_caption, CaptionValues, show_caption, wire_caption, cost=0.1, methods=("item",)),
    Panel("Probe it", build_probe, ProbeValues, show_probe, wire_probe, cost=0.03),
    # the ticket of this panel starts work that takes long
    Panel("Where the evidence lies", build_heatmap, HeatmapValues, show_heatmap, wire_heatmap, cost=1.0, methods=("sdd",)),
    chart_panel(RESIDUAL, show_residual, cost=0.05),
    Panel("Stability", build_stability, StabilityValues, show_stability, wire_stability),
)


@dataclass(frozen=True)
class Place:
    """Where a panel stands on the page. column: hidden until there is something to show. components: what the panel's `build` gives."""

    column: gr.Column
    components: object


def build_story() -> list[Place]:
    """Everything below the verdict, one place for each panel."""
    places = []
    with gr.Column(elem_id="story"):
        for panel in PANELS:
            with gr.Column(visible=False, elem_id=place_id(panel)) as column:
                places.append(Place(column, panel.build()))
    return places


def place_id(panel: Panel) -> str:
    """The id of a panel's column on the page."""
    return "place-" + panel.title.lower().replace(" ", "-")


def leader_first(record: AnalysisRecord) -> str:
    """CSS in HTML that moves the panel of the detector that leads below the table of methods; "" for a fusion."""
    method = report.leading_method(record)
    panel = next((panel for panel in PANELS if method in panel.methods), None)
    return f"<style>#place-methods {{order: -2}} #{place_id(panel)} {{order: -1}}</style>" if panel else ""


def wire_story(places: list[Place], current: gr.State) -> list[Dependency]:
    """The events inside the panels. Returns those that use the model, for `cancels`."""
    return [event for panel, place in zip(PANELS, places, strict=True) for event in panel.wire(place.components, current)]


# --- showing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The part of the page above the story. card: the verdict. progress: one line. downloads: the row of buttons."""

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
    events = [analysis.success(show_verdict, current, parts.outputs(head, HeadValues), **options)]
    order = sorted(range(len(PANELS)), key=lambda index: PANELS[index].cost)
    for done, index in enumerate(order, start=1):
        panel, place = PANELS[index], places[index]
        show = partial(show_panel, panel, progress_words(done, len(order), PANELS[order[done]].title if done < len(order) else None))
        components = [head.progress, place.column, *parts.outputs(place.components, panel.values)]
        events.append(events[-1].success(show, current, components, **options))
    return events


def show_verdict(current: CurrentImage | None) -> HeadValues:
    """Verdict card, progress, and the downloads' row."""
    if current is None:
        return HeadValues(WELCOME, "", gr.Row(visible=False))
    failed = bool(current.record["error"])
    words = "" if failed else progress_words(0, len(PANELS), "Methods")
    return HeadValues(report.verdict_card(current.record) + leader_first(current.record), words, gr.Row(visible=not failed))


def show_panel(panel: Panel, progress: str, current: CurrentImage | None) -> list:
    """Progress, the panel's column, and the values of its components.

    A panel that fails is left out with a sentence, so that the others are still shown.
    """
    nothing = [gr.skip()] * (1 + len(panel.values._fields))
    if current is None or current.record["error"]:
        return [gr.skip(), *nothing]
    try:
        return [progress, gr.Column(visible=True), *panel.show(PanelSource(current, suite_of(current), photo_of(current)))]
    except Exception:
        logging.getLogger(__name__).exception("The panel %s could not be shown.", panel.title)
        return [progress_line(f"{panel.title} could not be shown; the rest follows."), *nothing]


def progress_words(done: int, total: int, following: str | None) -> str:
    """HTML: how many panels are shown and which comes next, for the eye and for a screen reader."""
    if following is None:
        return progress_line(f"Complete: {total} panels.")
    return progress_line(f"{done} of {total} panels; next: {following}", done / total)


def start_script(columns: int) -> str:
    """JavaScript for the moment in which an image is chosen: nothing of the last one stays. columns: how many to hide."""
    hidden = [{"__type__": "update", "visible": False}] * columns
    return f"() => {json.dumps([WORKING, progress_line('Reading the image, then all methods at once', None), *hidden])}"


def progress_line(words: str, share: float | None = 1.0) -> str:
    """HTML: one line, and a bar unless all is done; share None: under way for nobody knows how long."""
    value = "" if share is None else f' value="{share:.3f}"'
    bar = "" if share == 1.0 else f'<progress max="1"{value} aria-hidden="true"></progress>'
    return f'<div class="progress" role="status">{bar}<span>{escape(words)}</span></div>'
