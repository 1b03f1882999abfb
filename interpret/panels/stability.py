"""Stability: the same picture saved again, resized, blurred, cropped and mirrored; computed after all cards are
filled, or when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr
from gradio.events import Dependency

from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, PanelSource, from_store, photo_of, suite_of

if TYPE_CHECKING:
    from interpret.stability import Stability

NOT_YET = "Being tried; press the button if nothing comes."


@dataclass(frozen=True)
class StabilityPanel:
    """start: the button. reading: under which changes the verdict flips. chart, table: the same numbers twice."""

    start: gr.Button
    reading: gr.Markdown
    chart: gr.Plot
    table: gr.Dataframe


class StabilityValues(NamedTuple):
    """Values of `StabilityPanel`, in the order in which the endpoint gives them."""

    reading: str
    chart: gr.Plot
    table: gr.Dataframe


def build_stability() -> StabilityPanel:
    """A button, and what it brings."""
    parts.heading("stability", "stability")
    with gr.Row(elem_classes="stack"):
        gr.Markdown("Does the verdict hold when the same picture is saved again, resized, blurred, cropped or mirrored?")
        start = gr.Button("Try again", scale=0, min_width=120, elem_id="try-changes")
    reading = gr.Markdown(NOT_YET, elem_classes="reading", elem_id="stability-reading")
    chart = parts.plot("Verdict and methods, from the image as it is down through the changes", "stability", visible=False)
    with gr.Accordion("Numbers", open=False, elem_classes="numbers"):
        table = gr.Dataframe(
            label="Probability of synthetic under each change",
            interactive=False,
            wrap=True,
            max_height=560,
            visible=False,
            elem_id="stability-table",
        )
    return StabilityPanel(start, reading, chart, table)


def show_stability(source: PanelSource) -> StabilityValues:
    """A new image: nothing of the last one's result."""
    return _only(NOT_YET)


def wire_stability(panel: StabilityPanel, current: gr.State) -> list[Dependency]:
    """The event of the button, which uses the model."""
    outputs = parts.outputs(panel, StabilityValues)
    return [panel.start.click(try_changes, current, outputs, api_name="stability", concurrency_id="model", show_progress_on=panel.reading)]


def try_changes(current: CurrentImage | None) -> StabilityValues:
    """Analyse changed copies of the image analysed last in this session: JPEG, WebP, resized, blurred, cropped, mirrored.

    Returns:
        Under which changes the verdict flips, in words; a chart; a table with the verdict and every method for each change.
    """
    if current is None or current.evidence is None:
        return _only("Analyse an image first.")
    return stability_values(changes_of(current))


def changes_of(current: CurrentImage) -> Stability:
    """What the changed copies of an image get, from the store or computed now."""
    from interpret.stability import stability

    return from_store(current, "stability", lambda: stability(suite_of(current), photo_of(current)))


def stability_values(result: Stability) -> StabilityValues:
    """The panel for a result."""
    from interpret import stability

    table = {"headers": stability.headers(result), "data": stability.rows(result)}
    words = f"**{stability.verdict_sentence(result)}** {stability.details(result)}"
    return StabilityValues(words, parts.chart(stability.stability_chart(result)), gr.Dataframe(table, visible=True))


def _only(sentence: str) -> StabilityValues:
    """A sentence, without chart and table."""
    return StabilityValues(sentence, parts.chart(None), gr.Dataframe(visible=False))
