"""The story of one image from top to bottom: one panel after another, each with a sentence, a chart and its table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.item import build_caption, show_caption, wire_caption
from interpret.panels.probe import build_probe, show_probe, wire_probe
from interpret.panels.sdd import build_heatmap, show_heatmap, wire_heatmap
from interpret.panels.service import Seen, Shown, photo_of, suite_of
from interpret.panels.stability import build_stability, show_stability, wire_stability
from interpret.render import figures
from interpret.render import text as report

WELCOME = '<div class="card"><h2>Drop an image</h2><p>Or paste one, or choose an example. The verdict appears here.</p></div>'

WORKING = '<div class="card" data-working><h2>Analysing …</h2></div>'
STOPPED = """(card, progress) => progress.includes("<progress") ? [
  card.includes("data-working") ? '<div class="card"><h2>Stopped</h2><p>Press Analyze to start again.</p></div>' : card,
  '<div class="progress" role="status">Stopped. What is here stays; press Analyze to start again.</div>'] : [card, progress]"""


@dataclass(frozen=True)
class Panel:
    """One part of the story.

    build lays out the components; show gives their values, one for each, for an analysed image; wire makes their events and returns
    those that use the model.
    title: said while the panel is on its way. cost: seconds that show takes on one core, roughly; the cheap come first.
    """

    build: Callable[[], list]
    show: Callable[[Shown], list]
    wire: Callable[[list, gr.State], list] = lambda components, seen: []
    title: str = ""
    cost: float = 0.0


# --- methods -------------------------------------------------------------------------------------------------------


def build_methods() -> list:
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=3):
            parts.heading("Methods", "methods")
            table = parts.table(
                ["method", "probability of synthetic", "share of verdict"], "Methods: shares in logits", ["46%", "27%", "27%"], 10
            )
            good = parts.reading()
            text = gr.Textbox(label="Summary to copy", lines=4, buttons=["copy"], interactive=False)
        with gr.Column(scale=2):
            gr.Markdown("## The exact pixels")
            view = gr.Image(label="What CLIP saw", format="png", interactive=False, height=220, buttons=["fullscreen", "download"])
            where = parts.reading()
    return [good, text, table, view, where]


def show_methods(shown: Shown) -> list:
    view = shown.suite.backbone.view(shown.photo)
    record = shown.record
    return [
        parts.trust(record, "verdict"),
        report.summary(record),
        report.method_rows(record),
        parts.picture_file(view.pixels),
        report.view_reading(view),
    ]


# --- a sentence, a chart, a table ----------------------------------------------------------------------------------


def chart_panel(
    title: str,
    name: str,
    method: str,
    label: str,
    headers: list[str],
    caption: str,
    widths: list[str],
    rows: int,
    show: Callable[[Shown], list],
    cost: float,
) -> Panel:
    """Heading, how it works, one sentence, how good it is, the chart and beside it the same numbers as a table.

    method: as in an analysis' "detectors". show gives the sentence, the chart and the table's rows.
    """

    def build() -> list:
        parts.heading(title, name)
        reading, good = parts.reading(), parts.reading()
        with gr.Row(elem_classes="stack"):
            return [reading, good, parts.plot(label, name), parts.table(headers, caption, widths, rows)]

    def show_all(shown: Shown) -> list:
        reading, *rest = show(shown)
        return [reading, parts.trust(shown.record, method), *rest]

    return Panel(build, show_all, title=title, cost=cost)


def show_descriptors(shown: Shown) -> list:
    from detector.methods.physical.features import describe

    record = shown.record
    return [
        report.descriptor_reading(record),
        figures.descriptor_chart(record, shown.suite.heads.get("physical")),
        figures.descriptor_rows(record, describe(shown.photo.pixels)),
    ]


DESCRIPTORS = chart_panel(
    "Fifteen physical descriptors",
    "descriptors",
    "physical",
    "Descriptors: this image between real and synthetic",
    ["descriptor", "256 px", "native", "% real", "% synth.", "logits"],
    "Value at two scales, percentile among real and among synthetic images, contribution",
    ["32%", "16%", "16%", "11%", "13%", "12%"],
    15,
    show_descriptors,
    cost=0.5,
)


def build_descriptors() -> list:
    return [*DESCRIPTORS.build(), parts.reading(), gr.HTML(elem_id="views", label="What four of them see")]


def show_descriptors_and_views(shown: Shown) -> list:
    from interpret.render.descriptor_views import gallery

    return [*DESCRIPTORS.show(shown), parts.plain(report.text_reading(shown.record)), gallery(shown.photo.pixels)]


def show_concepts(shown: Shown) -> list:
    return [report.concept_reading(shown.record), figures.concept_chart(shown.record), figures.concept_rows(shown.record)]


def show_units(shown: Shown) -> list:
    return [report.unit_reading(shown.record), figures.unit_chart(shown.record), figures.unit_rows(shown.record)]


def show_residual(shown: Shown) -> list:
    chart = figures.residual_chart(shown.photo.pixels, shown.suite.heads.get("residual"))
    return [report.residual_reading(shown.record), chart, figures.residual_rows(shown.record)]


PANELS = (
    Panel(build_methods, show_methods, title="Methods"),
    Panel(build_descriptors, show_descriptors_and_views, title=DESCRIPTORS.title, cost=DESCRIPTORS.cost),
    chart_panel(
        "Photographic concepts",
        "concepts",
        "concepts",
        "Concepts that push the concept model most",
        ["positive pole", "negative pole", "activation", "logits"],
        "All concepts: activation and contribution",
        ["31%", "31%", "21%", "17%"],
        10,
        show_concepts,
        cost=0.02,
    ),
    chart_panel(
        "Orthogonal units",
        "units",
        "orthogonal",
        "What each unit contributes",
        ["#", "follows (correlation)", "spanned by (variance so far)", "activation", "logits"],
        "Units: names by two methods, activation and contribution",
        ["7%", "30%", "29%", "19%", "15%"],
        9,
        show_units,
        cost=0.02,
    ),
    Panel(build_caption, show_caption, wire_caption, "Picture and words", cost=0.1),
    Panel(build_probe, show_probe, wire_probe, "Probe it", cost=0.03),
    Panel(build_heatmap, show_heatmap, wire_heatmap, "Where the evidence lies", cost=1.0),  # its ticket starts work that takes long
    chart_panel(
        "Pixel residual",
        "residual",
        "residual",
        "Residual spectrum: this image, mean real, mean synthetic",
        ["part", "logits"],
        "Contribution of each part",
        ["70%", "30%"],
        7,
        show_residual,
        cost=0.05,
    ),
    Panel(build_stability, show_stability, wire_stability, "Stability"),
)


@dataclass(frozen=True)
class Place:
    """Where a panel stands on the page: its column, hidden until there is something to show, and its components."""

    column: gr.Column
    components: list


def build_story() -> list[Place]:
    """Everything below the verdict, one place for each panel."""
    places = []
    with gr.Column(elem_id="story"):
        for panel in PANELS:
            with gr.Column(visible=False) as column:
                places.append(Place(column, panel.build()))
    return places


def wire_story(places: list[Place], seen: gr.State) -> list:
    """The events inside the panels. Returns those that use the model, for `cancels`."""
    return [event for panel, place in zip(PANELS, places, strict=True) for event in panel.wire(place.components, seen)]


# --- showing -------------------------------------------------------------------------------------------------------


def wire_showing(analysis, seen: gr.State, head: list, places: list[Place]) -> list:
    """Show an analysis: first the verdict, then panel after panel, the cheap first, each by an event of its own.

    Not by one generator: Gradio's browser side drops updates of a generator that follow one another quickly.
    head: verdict card, progress and the downloads' row. Returns the events, for `cancels`.
    """
    _, progress, _ = head
    way = {"api_visibility": "private", "concurrency_id": "panels", "trigger_mode": "always_last", "show_progress": "hidden"}
    events = [analysis.success(show_verdict, seen, head, **way)]
    order = sorted(range(len(PANELS)), key=lambda index: PANELS[index].cost)
    for done, index in enumerate(order, start=1):
        following = PANELS[order[done]].title if done < len(order) else None
        outputs = [places[index].column, *places[index].components]
        show = partial(show_panel, PANELS[index], len(outputs), progress_words(done, len(order), following))
        events.append(events[-1].success(show, seen, [progress, *outputs], **way))
    return events


def usable(seen: Seen | None) -> bool:
    return seen is not None and not seen.record.get("error")


def show_verdict(seen: Seen | None) -> list:
    """Verdict card, progress, and the downloads' row."""
    if not usable(seen):
        return [report.verdict_card(seen.record) if seen else WELCOME, "", gr.Row(visible=False)]
    return [report.verdict_card(seen.record), progress_words(0, len(PANELS), "Methods"), gr.Row(visible=True)]


def show_panel(panel: Panel, count: int, progress: str, seen: Seen | None) -> list:
    """Progress, the panel's column, and the values of its components; count: of the column and its components.

    A panel that fails is left out and said to be, so that it takes no other with it.
    """
    if not usable(seen):
        return [gr.skip()] * (1 + count)
    try:
        return [progress, gr.Column(visible=True), *panel.show(Shown(seen, suite_of(seen), photo_of(seen)))]
    except Exception:
        logging.getLogger(__name__).exception("The panel %s could not be shown.", panel.title)
        return [progress_line(f"{panel.title} could not be shown; the rest follows."), *[gr.skip()] * count]


def progress_words(done: int, total: int, following: str | None) -> str:
    """HTML: how many panels are shown and which comes next, for the eye and for a screen reader."""
    if following is None:
        return progress_line(f"Complete: {total} panels.")
    return progress_line(f"{done} of {total} panels; next: {following}", done / total)


def started(columns: int) -> str:
    """JavaScript for the moment in which an image is chosen: nothing of the last one stays. columns: how many to hide."""
    hidden = [{"__type__": "update", "visible": False}] * columns
    return f"() => {json.dumps([WORKING, progress_line('Reading the image, then all methods at once', None), *hidden])}"


def progress_line(words: str, share: float | None = 1.0) -> str:
    """HTML: one line, and a bar unless all is done; share None: under way for nobody knows how long."""
    value = "" if share is None else f' value="{share:.3f}"'
    bar = "" if share == 1.0 else f'<progress max="1"{value} aria-hidden="true"></progress>'
    return f'<div class="progress" role="status">{bar}<span>{escape(words)}</span></div>'
