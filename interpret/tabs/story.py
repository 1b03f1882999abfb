"""The story of one image from top to bottom: one panel after another, each with a sentence, a chart and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from interpret import figures, report
from interpret.tabs import parts
from interpret.tabs.probe import build_probe, show_probe, wire_probe
from interpret.tabs.service import Seen, suite_of
from interpret.tabs.stability import build_stability, show_stability, wire_stability

WELCOME = '<div class="card"><h2>Drop an image</h2><p>Or paste one, or choose an example. The verdict appears here.</p></div>'


@dataclass(frozen=True)
class Shown:
    """What the panels draw from. photo: decoded again, because pixels are not kept in the session."""

    seen: Seen
    suite: object
    photo: object

    @property
    def record(self) -> dict:
        return self.seen.record


@dataclass(frozen=True)
class Panel:
    """build lays out a panel's components; show gives their values, one for each, for an analysed image; wire its events."""

    build: Callable[[], list]
    show: Callable[[Shown], list]
    wire: Callable[[list, gr.State], None] = lambda components, seen: None


# --- methods -------------------------------------------------------------------------------------------------------


def build_methods() -> list:
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=3):
            parts.heading("Methods", "methods")
            table = parts.table(["method", "probability of synthetic", "share of verdict"], "Methods: shares in logits",
                                ["46%", "27%", "27%"])
            text = gr.Textbox(label="Summary to copy", lines=4, buttons=["copy"], interactive=False)
        with gr.Column(scale=2):
            gr.Markdown("## The exact pixels")
            view = gr.Image(label="What CLIP saw", format="png", interactive=False, height=220, buttons=["fullscreen", "download"])
            where = parts.reading()
    return [text, table, view, where]


def show_methods(shown: Shown) -> list:
    view = shown.suite.backbone.view(shown.photo)
    return [report.summary(shown.record), report.method_rows(shown.record), view.pixels, report.view_reading(view)]


# --- a sentence, a chart, a table ----------------------------------------------------------------------------------


def chart_panel(title: str, name: str, label: str, headers: list[str], caption: str, widths: list[str], rows: int,
                show: Callable[[Shown], list]) -> Panel:
    """Heading, how it works, one sentence, the chart and beside it the same numbers as a table."""

    def build() -> list:
        parts.heading(title, name)
        reading = parts.reading()
        with gr.Row(elem_classes="stack"):
            return [reading, parts.plot(label, name), parts.table(headers, caption, widths, rows)]

    return Panel(build, show)


def build_descriptors() -> list:
    outputs = chart_panel("Fifteen physical descriptors", "descriptors", "Descriptors: this image between real and synthetic",
                          ["descriptor", "256 px", "native", "% real", "% synth.", "logits"],
                          "Value at two scales, percentile among real and among synthetic images, contribution",
                          ["32%", "16%", "16%", "11%", "13%", "12%"], 15, show_descriptors).build()
    text = parts.reading()
    views = gr.HTML(elem_id="views", label="What four of them see")
    return [*outputs, text, views]


def show_descriptors(shown: Shown) -> list:
    from detector.physical import describe
    from interpret.descriptor_views import gallery

    record, pixels = shown.record, shown.photo.pixels
    return [report.descriptor_reading(record), figures.descriptor_chart(record, shown.suite.heads.get("physical")),
            figures.descriptor_rows(record, describe(pixels)), parts.plain(report.text_reading(record)), gallery(pixels)]


def show_concepts(shown: Shown) -> list:
    return [report.concept_reading(shown.record), figures.concept_chart(shown.record), figures.concept_rows(shown.record)]


def show_units(shown: Shown) -> list:
    return [report.unit_reading(shown.record), figures.unit_chart(shown.record), figures.unit_rows(shown.record)]


def show_residual(shown: Shown) -> list:
    chart = figures.residual_chart(shown.photo.pixels, shown.suite.heads.get("residual"))
    return [report.residual_reading(shown.record), chart, figures.residual_rows(shown.record)]


PANELS = (
    Panel(build_methods, show_methods),
    Panel(build_descriptors, show_descriptors),
    chart_panel("Photographic concepts", "concepts", "Concepts that push the concept model most",
                ["positive pole", "negative pole", "activation", "logits"], "All concepts: activation and contribution",
                ["33%", "33%", "18%", "16%"], 10, show_concepts),
    chart_panel("Orthogonal units", "units", "What each unit contributes",
                ["unit", "follows (correlation)", "spanned by (variance so far)", "activation", "logits"],
                "Units: names by two methods, activation and contribution", ["8%", "32%", "30%", "16%", "14%"], 9, show_units),
    Panel(build_probe, show_probe, wire_probe),
    chart_panel("Pixel residual", "residual", "Residual spectrum: this image, mean real, mean synthetic", ["part", "logits"],
                "Contribution of each part", ["70%", "30%"], 7, show_residual),
    Panel(build_stability, show_stability, wire_stability),
)


def build_story() -> tuple[gr.Column, list[list]]:
    """Everything below the verdict, hidden until there is a result; each panel's components in a list of their own."""
    with gr.Column(visible=False, elem_id="story") as story:
        outputs = [panel.build() for panel in PANELS]
    return story, outputs


def wire_story(components: list[list], seen: gr.State) -> None:
    """The events inside the panels."""
    for panel, own in zip(PANELS, components, strict=True):
        panel.wire(own, seen)


def render(seen: Seen | None, sizes: list[int]) -> list:
    """Verdict card, the story's visibility, and the values of all panels; without a result the story is hidden.

    sizes: the number of components of each panel.
    """
    if seen is None or seen.record.get("error"):
        card = report.verdict_card(seen.record) if seen else WELCOME
        return [card, gr.Column(visible=False), *[gr.skip()] * sum(sizes)]
    from detector.images import load_photo

    shown = Shown(seen, suite_of(seen), load_photo(seen.file))
    values = [value for panel in PANELS for value in panel.show(shown)]
    return [report.verdict_card(seen.record), gr.Column(visible=True), *values]
