"""The Cuescope page: lays out, wires events and renders. All numbers come from `detector`, all charts from `interpret`."""

from __future__ import annotations

import os

from interpret.panels.uploads import choose_folder, keep_swept

# Before Gradio is imported:
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nobody is told of a start
choose_folder()

import contextlib  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gradio as gr  # noqa: E402

from interpret.examples import existing_examples, make_examples  # noqa: E402
from interpret.panels.downloads import build_downloads, wire_downloads  # noqa: E402
from interpret.panels.gate import Page, image_file, page_files  # noqa: E402
from interpret.panels.links import note, restore  # noqa: E402
from interpret.panels.mcp import build_tools, mcp_wanted  # noqa: E402
from interpret.panels.memory import give_back_freed_memory  # noqa: E402
from interpret.panels.model import build_model, wire_model  # noqa: E402
from interpret.panels.overview import Overview, build_over, build_words, wire_overview  # noqa: E402
from interpret.panels.queueing import finish_jobs, open_queue  # noqa: E402
from interpret.panels.service import analyze, load_first  # noqa: E402
from interpret.panels.story import STOPPED, WELCOME, Head, build_story, start_script, wire_story, wire_values  # noqa: E402
from interpret.render.words import about  # noqa: E402
from interpret.tabs.batch import build_batch  # noqa: E402
from interpret.tabs.compare import build_compare  # noqa: E402
from interpret.tabs.links import ANALYZE, AnalyzeLinks  # noqa: E402
from interpret.tabs.teach import build_teach  # noqa: E402
from interpret.tabs.train import build_train  # noqa: E402
from interpret.tabs.what_if import build_what_if  # noqa: E402

PAGE = Path(__file__).parent / "interpret" / "render"
MAX_UPLOAD = "64mb"  # as `detector.data.images.MAX_BYTES`, which also holds for images that come by address

TITLE = """<header><div><h1>Cuescope</h1><p>Why does a CLIP-based detector call an image AI-generated?</p></div>
<div id="words-switch" role="group" aria-label="Wording"><button type="button" data-words="plain">Plain</button><button type="button"
data-words="expert">Expert</button></div></header>"""

THEME = gr.themes.Soft(
    primary_hue="blue",
    font=["system-ui", "Segoe UI", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)

LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "css_paths": [PAGE / "page.css"],
    "head": "".join(
        f"<{tag}>{(PAGE / name).read_text(encoding='utf-8')}</{tag}>" for tag, name in (("style", "document.css"), ("script", "page.js"))
    ),
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


def _input_column() -> tuple[gr.Image, gr.HTML, gr.Radio, gr.Button, gr.Button]:
    with gr.Column(elem_id="stage"):
        image = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            label="Image",
            height=400,
            buttons=["fullscreen"],
            elem_id="image",
        )
        setattr(image, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
        over, switch = build_over()
    with gr.Row():
        return (
            image,
            over,
            switch,
            gr.Button("Analyze", variant="primary", elem_id="analyze", scale=3),
            gr.Button("Cancel", elem_id="cancel", min_width=90, scale=1),
        )


def _examples(image: gr.Image) -> None:
    """Thumbnails with a line on what each shows; a click analyses one."""
    examples = existing_examples()
    if not examples:
        return
    gr.Markdown("## Examples: photographs, drawings of our own generator, edits", elem_id="examples-heading")
    pictures = gr.Gallery(
        [(str(path), label) for path, label in examples],
        label="Examples",
        show_label=False,
        columns=len(examples),
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )
    names, files = [path.name for path, _ in examples], [str(path) for path, _ in examples]

    def choose(event: gr.SelectData) -> tuple[str, str]:
        return files[event.index], names[event.index]

    name = gr.Textbox(visible=False, label="example")
    chosen = pictures.select(choose, None, [image, name], api_visibility="private", concurrency_id="panels", show_progress="hidden")
    chosen.success(None, name, None, js=note("example"), show_progress="hidden")
    gr.on([image.upload, image.clear], None, None, None, js=note("example"), show_progress="hidden")  # an upload is in no link


def _links(image: gr.Image, detector: gr.Textbox, switch: gr.Radio) -> None:
    """What the address of the page says is set when the page is opened; the switch writes into it."""
    query = gr.Textbox(visible=False, label="link")
    gr.on(None, restore, query, [image, detector, switch], js="() => [location.search]", api_visibility="private", concurrency_id="panels")
    switch.input(None, switch, None, js=note("map"), show_progress="hidden")


def _analyze_tab(page: gr.Blocks, tabs: gr.Tabs) -> AnalyzeLinks:
    with gr.Row(equal_height=False, elem_classes="stack"):
        with gr.Column(scale=2, min_width=300):
            image, over, switch, button, cancel = _input_column()
        with gr.Column(scale=3, min_width=300, elem_id="answer"):
            card = gr.HTML(WELCOME, elem_id="verdict")
            overview = Overview(over, switch, *build_words())
            progress = gr.HTML("", elem_id="progress")
            downloads = build_downloads()
    _examples(image)
    current = gr.State()
    places = build_story()
    model = build_model()
    with gr.Accordion("What do these numbers mean?", open=False):
        gr.Markdown(about())
    with gr.Accordion("All numbers (JSON)", open=False):
        numbers = gr.JSON(label="Analysis", show_label=False)
    emptied = [overview.over, overview.reasons, overview.trust, overview.saved]
    hidden = [downloads.row, *[part for place in places for part in (place.card, place.column)]]
    triggers = [image.change, button.click]
    script = start_script(len(emptied), len(hidden))
    start = gr.on(triggers, None, None, [card, progress, *emptied, *hidden], js=script, show_progress="hidden")
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
    panel_events += wire_overview(overview, panel_events[0], panel_events[-1], current, places)
    actions = wire_story(places, current)  # after the analysis, whose endpoint is the first
    gr.on(triggers, None, cancels=[*panel_events, *actions])  # panels of the last image that are still to come, and work on it
    stop: dict[str, Any] = {"fn": None, "inputs": [card, progress], "outputs": [card, progress], "js": STOPPED, "show_progress": "hidden"}
    cancel.click(**stop, cancels=[analysis, *panel_events, *actions])
    analysis.failure(**stop)
    wire_downloads(downloads, current)
    wire_model(model)
    _links(image, model.in_use, switch)
    return AnalyzeLinks(page, tabs, image, model.in_use, model.note, current)


def build_demo() -> gr.Blocks:
    """The whole page. Loads no weights: that happens with the first image."""
    with Page(title="Cuescope", analytics_enabled=False) as demo:
        gr.HTML(TITLE, elem_id="title")
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
            with gr.Tab("Teach"):
                build_teach(links)
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
    finish_jobs()


if __name__ == "__main__":
    launch()
