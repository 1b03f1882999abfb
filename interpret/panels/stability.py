"""Stability: the same picture saved again, resized, blurred, cropped and mirrored; computed when asked for."""

from __future__ import annotations

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.service import Seen, Shown, photo_of, suite_of

NOT_YET = "Not tried on this image yet."


def build_stability() -> list:
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
    return [start, reading, chart, table]


def show_stability(shown: Shown) -> list:
    """A new image: nothing of the last one's result."""
    return [gr.skip(), NOT_YET, gr.Plot(visible=False), gr.Dataframe(visible=False)]


def wire_stability(components: list, seen: gr.State) -> list:
    start, *outputs = components
    return [start.click(try_changes, seen, outputs, api_name="stability", concurrency_id="model", show_progress_on=outputs[0])]


def try_changes(seen: Seen | None) -> tuple[str, object, object]:
    """Analyse changed copies of the image analysed last in this session: JPEG, WebP, resized, blurred, cropped, mirrored.

    Args:
        seen: the image analysed last; kept by the session, so that a client names none.

    Returns:
        Under which changes the verdict flips, in words; a chart; a table with the verdict and every method for each change.
    """
    if seen is None or seen.evidence is None:
        return "Analyse an image first.", parts.chart(None), gr.Dataframe(visible=False)
    from interpret import stability

    found = stability.stability(suite_of(seen), photo_of(seen))
    table = {"headers": stability.headers(found), "data": stability.rows(found)}
    words = f"**{stability.verdict_sentence(found)}** {stability.details(found)}"
    return words, parts.chart(stability.stability_chart(found)), gr.Dataframe(table, visible=True)
