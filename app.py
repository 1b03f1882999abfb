"""The Cuescope page: lays out, wires events and renders. All numbers come from `detector`, all charts from `interpret`."""

from __future__ import annotations

import os

from interpret.panels.uploads import choose_folder, keep_swept

# Before Gradio is imported:
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nobody is told of a start
choose_folder()

import contextlib  # noqa: E402
import threading  # noqa: E402
from typing import Any  # noqa: E402

import gradio as gr  # noqa: E402

from interpret.examples import existing_examples, make_examples  # noqa: E402
from interpret.panels.downloads import build_downloads, wire_downloads  # noqa: E402
from interpret.panels.gate import Page, image_file, page_files  # noqa: E402
from interpret.panels.mcp import build_tools, mcp_wanted  # noqa: E402
from interpret.panels.memory import give_back_freed_memory  # noqa: E402
from interpret.panels.model import build_model, wire_model  # noqa: E402
from interpret.panels.queueing import open_queue  # noqa: E402
from interpret.panels.service import analyze, load_first  # noqa: E402
from interpret.panels.story import STOPPED, WELCOME, Head, build_story, start_script, wire_story, wire_values  # noqa: E402
from interpret.render.words import about  # noqa: E402
from interpret.tabs.batch import build_batch  # noqa: E402
from interpret.tabs.compare import build_compare  # noqa: E402
from interpret.tabs.links import ANALYZE, AnalyzeLinks  # noqa: E402
from interpret.tabs.train import build_train  # noqa: E402
from interpret.tabs.what_if import build_what_if  # noqa: E402

MAX_UPLOAD = "64mb"  # as `detector.data.images.MAX_BYTES`, which also holds for images that come by address

CSS = """
.gradio-container {max-width: 1240px !important; margin: 0 auto !important}
#title h1 {margin-bottom: 0} #title p {margin-top: .2em; opacity: .8}
.card {border-left: 6px solid #6e7681; border-radius: 8px; padding: 14px 18px; background: var(--block-background-fill)}
.card h2 {margin: 0 0 6px; font-size: 1.5rem} .card p {margin: 6px 0}
.card.synthetic, .card.bad {border-color: #d55e00} .card.real {border-color: #0072b2}
.card .big {font-size: 1.9rem; font-weight: 650; line-height: 1.2} .card .big span {font-size: .95rem; font-weight: 400; opacity: .8}
.card .facts {font-size: .85rem; opacity: .8}
.card .scale {position: relative; height: 10px; border-radius: 5px; background: linear-gradient(90deg, #0072b2, #c9ccd1, #d55e00)}
.card .scale i {position: absolute; top: -4px; width: 4px; height: 18px; margin-left: -2px; border-radius: 2px;
  background: var(--body-text-color); box-shadow: 0 0 0 2px var(--block-background-fill)}
.card .ends {display: flex; justify-content: space-between; font-size: .8rem; opacity: .8}
.views {display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 12px}
.views figure {margin: 0} .views img {width: 100%; border-radius: 6px; image-rendering: pixelated}
.views figcaption {font-size: .8rem; opacity: .85; margin-top: 4px; line-height: 1.3}
#heatmap-picture .image-container {min-height: 240px}  /* its place before it is loaded, which is when it comes into view */
.progress {display: flex; align-items: center; gap: 10px; font-size: .85rem; opacity: .85; min-height: 1.6em}
.reading p {margin: 2px 0 8px} .reading .html-container {padding: 0 !important}
.reading p > em:only-child {font-style: normal; font-size: .85rem; opacity: .8}
.reading, #caption-view label {overflow-wrap: anywhere}
.evidence i {display: block; height: 12px; border-radius: 6px; background-color: #fff}
.evidence i.signed {background-image: linear-gradient(90deg, var(--below), #fff, var(--above))}
.evidence i.unsigned {background-image: linear-gradient(90deg, #fff, var(--above))}
.evidence p {display: flex; justify-content: space-between; font-size: .8rem; opacity: .85; margin: 3px 0 0}
#story th, #story th *, #story .body-cell, #story .body-cell *, #all-detectors th *, #all-detectors .body-cell * {
  font-family: var(--font) !important; font-size: .86rem;
  word-break: normal !important;  overflow-wrap: normal !important; font-variant-numeric: tabular-nums}
#stability-table {contain: inline-size}  /* as many columns as methods: let it scroll, not widen the page */
#heatmap .sizing-body td {white-space: normal !important}
.gradio-container .plot-container, .gradio-container .js-plotly-plot {max-width: 100%}
@media (max-width: 1100px) {
  #story th, #story th * {font-size: .72rem !important} #story th, #story td, #story .cell-wrap {padding-inline: 3px !important}
}
.tab-wrapper {contain: inline-size}  /* what does not fit goes into a menu; it widens no page */
@media (max-width: 760px) {
  .tab-container button {padding-inline: 9px !important}
  .tabs {margin-inline: -20px; width: calc(100% + 40px) !important; max-width: none !important}
  #story th, #story th * {font-size: .66rem !important}
  #story .body-cell, #story .body-cell * {font-size: .72rem !important}
  #story th, #story .body-cell, #story .cell-wrap {padding: 2px !important}
  .stack {flex-direction: column; flex-wrap: nowrap}
  .stack > * {width: 100% !important; min-width: 0 !important; flex-grow: 0}
}
"""

THEME = gr.themes.Soft(
    primary_hue="blue",
    font=["system-ui", "Segoe UI", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)

LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "css": CSS,
    "max_file_size": MAX_UPLOAD,
    "footer_links": ["api"],
    "show_error": True,
    "run_history": False,  # it would keep visitors' images and results in the browser of a shared computer
    "enable_monitoring": False,  # its page shows who asked what and when
    "state_session_capacity": 100,  # Gradio copies the page's layout for each, 0.4 MB; the one used least recently goes first
    "ssr_mode": False,  # pages made on the server need Node, and are not what the tests drive
}

# One analysis at a time: the model uses all cores, so two at once would only both be late. Events that use the model share
# `concurrency_id="model"`, downloads have a line of their own, so that they hold up no analysis. Who finds 64 jobs waiting, or
# has too many there already (`interpret/panels/queueing.py`), is told to come back. `api_open` would let scripts pass the line.
QUEUE: dict[str, Any] = {"max_size": 64, "default_concurrency_limit": 1, "api_open": False}


def _input_column() -> tuple[gr.Image, gr.Button, gr.Button]:
    image = gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        label="Image",
        height=320,
        buttons=["fullscreen"],
        elem_id="image",
    )
    setattr(image, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
    with gr.Row():
        return (
            image,
            gr.Button("Analyze", variant="primary", elem_id="analyze", scale=3),
            gr.Button("Cancel", elem_id="cancel", min_width=90, scale=1),
        )


def _examples(image: gr.Image) -> None:
    examples = existing_examples()
    if examples:
        gr.Examples(
            [[str(path)] for path, _ in examples],
            [image],
            label="Examples, each made on this machine",
            example_labels=[label for _, label in examples],
            examples_per_page=len(examples),
        )


def _analyze_tab(page: gr.Blocks, tabs: gr.Tabs) -> AnalyzeLinks:
    with gr.Row(equal_height=False, elem_classes="stack"):
        with gr.Column(scale=2, min_width=300):
            image, button, cancel = _input_column()
        with gr.Column(scale=3, min_width=300):
            card = gr.HTML(WELCOME, elem_id="verdict")
            progress = gr.HTML("", elem_id="progress")
            downloads = build_downloads()
            with gr.Accordion("What do these numbers mean?", open=False):
                gr.Markdown(about())
            model = build_model()
    _examples(image)
    current = gr.State()
    places = build_story()
    with gr.Accordion("All numbers (JSON)", open=False):
        numbers = gr.JSON(label="Analysis", show_label=False)
    hidden = [downloads.row, *[place.column for place in places]]
    triggers = [image.change, button.click]
    start = gr.on(triggers, None, None, [card, progress, *hidden], js=start_script(len(hidden)), show_progress="hidden")
    analysis = start.then(
        analyze,
        [image, model.in_use, model.training, model.writer],
        [numbers, current],
        api_name="analyze",
        concurrency_id="model",
        trigger_mode="always_last",
        show_progress="minimal",
        show_progress_on=progress,
    )
    panel_events = wire_values(analysis, current, Head(card, progress, downloads.row), places)
    actions = wire_story(places, current)  # after the analysis, whose endpoint is the first
    gr.on(triggers, None, cancels=[*panel_events, *actions])  # panels of the last image that are still to come, and work on it
    stop: dict[str, Any] = {"fn": None, "inputs": [card, progress], "outputs": [card, progress], "js": STOPPED, "show_progress": "hidden"}
    cancel.click(**stop, cancels=[analysis, *panel_events, *actions])
    analysis.failure(**stop)
    wire_downloads(downloads, current)
    wire_model(model)
    return AnalyzeLinks(page, tabs, image, model.in_use, model.note)


def build_demo() -> gr.Blocks:
    """The whole page. Loads no weights: that happens with the first image."""
    with Page(title="Cuescope", analytics_enabled=False) as demo:
        gr.Markdown("# Cuescope\nWhy does a CLIP-based detector call an image AI-generated?", elem_id="title")
        with gr.Tabs() as tabs:
            with gr.Tab("Analyze", id=ANALYZE):
                links = _analyze_tab(demo, tabs)
            with gr.Tab("Compare"):
                build_compare(links)
            with gr.Tab("What if"):
                build_what_if(links)
            with gr.Tab("Batch"):
                build_batch(links)
            with gr.Tab("Train"):
                build_train(links)
        if mcp_wanted():
            build_tools(demo)
    return demo


def launch() -> None:
    """Make the examples, start loading the model, open the page; with `GRADIO_MCP_SERVER=True` also for MCP clients."""
    give_back_freed_memory()
    with contextlib.suppress(OSError):  # a folder that cannot be written to: the page does without examples
        make_examples()
    threading.Thread(target=load_first, daemon=True).start()
    demo = build_demo()
    threading.Thread(target=keep_swept, args=(page_files(demo), threading.Event()), daemon=True).start()
    open_queue(demo, **QUEUE)
    demo.launch(**LAUNCH)


if __name__ == "__main__":
    launch()
