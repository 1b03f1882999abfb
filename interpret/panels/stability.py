"""Stability: the same picture saved again, resized, blurred, cropped and mirrored; computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from gradio.events import Dependency

from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, PanelSource, photo_of, suite_of

NOT_YET = "Not tried on this image yet."


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
    parts.heading("Stability", "stability")
    with gr.Row(elem_classes="stack"):
        gr.Markdown("Does the verdict hold when the same picture is saved again, resized, blurred, cropped or mirrored?")
        start = gr.Button("Try it", scale=0, min_width=120, elem_id="try-changes")
    reading = gr.Markdown(NOT_YET, elem_classes="reading", elem_id="stability-reading")
    chart = parts.plot("Verdict and methods, from the image as it is down through the changes", "stability", visible=False)
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
    from interpret import stability

    result = stability.stability(suite_of(current), photo_of(current))
    table = {"headers": stability.headers(result), "data": stability.rows(result)}
    words = f"**{stability.verdict_sentence(result)}** {stability.details(result)}"
    return StabilityValues(words, parts.chart(stability.stability_chart(result)), gr.Dataframe(table, visible=True))


def _only(sentence: str) -> StabilityValues:
    """A sentence, without chart and table."""
    return StabilityValues(sentence, parts.chart(None), gr.Dataframe(visible=False))
