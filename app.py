"""The Cuescope page: lays out, wires events and renders. All numbers come from `detector`, all charts from `interpret`."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import threading  # noqa: E402
from dataclasses import replace  # noqa: E402

import gradio as gr  # noqa: E402

from interpret.examples import existing_examples, make_examples  # noqa: E402
from interpret.words import ABOUT, HOW  # noqa: E402

MAX_UPLOAD = "64mb"
HALF_AN_HOUR, SIX_HOURS = 1800, 21_600

CSS = """
.gradio-container {max-width: 1240px !important; margin: 0 auto !important}
#title h1 {margin-bottom: 0} #title p {margin-top: .2em; opacity: .8}
.card {border-left: 6px solid #6e7681; border-radius: 8px; padding: 14px 18px; background: var(--block-background-fill)}
.card h2 {margin: 0 0 6px; font-size: 1.5rem} .card p {margin: 6px 0}
.card.synthetic, .card.bad {border-color: #d55e00} .card.real {border-color: #0072b2}
.card .big {font-size: 1.9rem; font-weight: 650} .card .big span {font-size: .95rem; font-weight: 400; opacity: .8}
.card .facts {font-size: .85rem; opacity: .8}
.card .scale {position: relative; height: 10px; border-radius: 5px; background: linear-gradient(90deg, #0072b2, #c9ccd1, #d55e00)}
.card .scale i {position: absolute; top: -4px; width: 4px; height: 18px; margin-left: -2px; border-radius: 2px;
  background: var(--body-text-color); box-shadow: 0 0 0 2px var(--block-background-fill)}
.card .ends {display: flex; justify-content: space-between; font-size: .8rem; opacity: .8}
.reading p {margin: 2px 0 8px}
#story th, #story th *, #story .body-cell, #story .body-cell * {font-family: var(--font) !important; font-size: .86rem;
  word-break: normal !important;  overflow-wrap: normal !important; font-variant-numeric: tabular-nums}
.gradio-container .plot-container, .gradio-container .js-plotly-plot {max-width: 100%}
@media (max-width: 760px) {
  #story th, #story th *, #story .body-cell, #story .body-cell * {font-size: .72rem !important}
  #story th, #story .body-cell, #story .cell-wrap {padding: 2px !important}
  .stack {flex-direction: column; flex-wrap: nowrap}
  .stack > * {width: 100% !important; min-width: 0 !important; flex-grow: 0}
}
"""

THEME = gr.themes.Soft(
    primary_hue="blue", font=["system-ui", "Segoe UI", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)

RENDERED = 16  # components of the story, in the order of `_story`

LAUNCH = {"theme": THEME, "css": CSS, "max_file_size": MAX_UPLOAD, "run_history": False, "footer_links": ["api"],
          "show_error": True}

WELCOME = '<div class="card"><h2>Drop an image</h2><p>Or paste one, or choose an example. The verdict appears here.</p></div>'

_suite_lock = threading.Lock()
_suite = None


def get_suite():
    """The embedded suite, loaded once, when first needed."""
    global _suite
    with _suite_lock:
        if _suite is None:
            from detector import Suite

            _suite = Suite.load()
    return _suite


# --- actions -------------------------------------------------------------------------------------------------------


def analyze(image: str | None) -> tuple[dict | None, str | None]:
    """Analyse one image file.

    Args:
        image: the image file, as it is.

    Returns:
        The same JSON object that the command line writes; `error` holds one sentence if the file is no usable image.
        Beside it, for the page only, the file it belongs to: the input may hold another one by the time it is shown.
    """
    if not image:
        return None, None
    from detector.images import ImageError
    from detector.suite import Analysis

    try:
        analysis = get_suite().analyze(image)
    except ImageError as error:
        analysis = Analysis(None, error=str(error), backbone=get_suite().backbone.name)
    return replace(analysis, file=os.path.basename(image)).to_dict(), image  # the folder is the server's own business


def render(image: str | None, analysis: dict | None) -> list:
    """Turn the JSON object into what the page shows; nothing of an earlier image stays."""
    from interpret import figures, report

    if not analysis or analysis.get("error"):
        card = report.verdict_card(analysis) if analysis else WELCOME
        return [card, gr.Column(visible=False), *[None] * RENDERED]
    from detector.images import load_photo

    suite = get_suite()
    photo = load_photo(image)
    view = suite.backbone.view(photo)
    return [
        report.verdict_card(analysis), gr.Column(visible=True),
        report.summary(analysis), report.method_rows(analysis), view.pixels, report.view_reading(view),
        report.descriptor_reading(analysis), figures.descriptor_chart(analysis, suite.heads.get("physical")),
        figures.descriptor_rows(analysis),
        report.concept_reading(analysis), figures.concept_chart(analysis), figures.concept_rows(analysis),
        report.unit_reading(analysis), figures.unit_chart(analysis), figures.unit_rows(analysis),
        report.residual_reading(analysis), figures.residual_chart(photo.pixels, suite.heads.get("residual")),
        figures.residual_rows(analysis),
    ]


# --- layout --------------------------------------------------------------------------------------------------------


def _input_column() -> tuple[gr.Image, gr.Button]:
    image = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", height=320,
                     buttons=["fullscreen"], elem_id="image")
    # Gradio would open the file here and, where it is no image, show its own error with a path of this machine
    image.preprocess = lambda payload: payload.path if payload else None
    return image, gr.Button("Analyze", variant="primary", elem_id="analyze")


def _examples(image: gr.Image) -> None:
    examples = existing_examples()
    if examples:
        gr.Examples([[str(path)] for path, _ in examples], [image], label="Examples, each made on this machine",
                    example_labels=[label for _, label in examples], examples_per_page=len(examples))


def _panel(title: str, how: str) -> None:
    gr.Markdown(f"## {title}")
    with gr.Accordion("How it works", open=False):
        gr.Markdown(HOW[how])


def _table(headers: list[str], label: str, widths: list[str], rows: int = 8) -> gr.Dataframe:
    return gr.Dataframe(headers=headers, label=label, column_widths=widths, interactive=False, wrap=True,
                        max_height=60 + 36 * rows)


def _plot(label: str, elem_id: str) -> gr.Plot:
    return gr.Plot(label=label, show_label=False, elem_id=elem_id)


def _methods_panel() -> list:
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=3):
            _panel("Methods", "methods")
            table = _table(["method", "probability of synthetic", "share of verdict"], "Methods: shares in logits",
                           ["46%", "27%", "27%"])
            text = gr.Textbox(label="Summary to copy", lines=4, buttons=["copy"], interactive=False)
        with gr.Column(scale=2):
            gr.Markdown("## The exact pixels")
            seen = gr.Image(label="What CLIP saw", format="png", interactive=False, height=220,
                            buttons=["fullscreen", "download"])
            where = gr.Markdown(elem_classes="reading")
    return [text, table, seen, where]


def _chart_panel(title: str, name: str, label: str, headers: list[str], caption: str, widths: list[str], rows: int) -> list:
    """Heading, how it works, one sentence, the chart and beside it the same numbers as a table."""
    _panel(title, name)
    reading = gr.Markdown(elem_classes="reading")
    with gr.Row(elem_classes="stack"):
        return [reading, _plot(label, name), _table(headers, caption, widths, rows)]


def _story() -> tuple[gr.Column, list]:
    """Everything below the verdict, hidden until there is a result."""
    with gr.Column(visible=False, elem_id="story") as story:
        outputs = [
            *_methods_panel(),
            *_chart_panel("Fifteen physical descriptors", "descriptors", "Descriptors: this image between real and synthetic",
                          ["descriptor", "value", "% real", "% synth.", "logits"],
                          "Value, percentile among real and among synthetic images, contribution",
                          ["38%", "20%", "13%", "15%", "14%"], 15),
            *_chart_panel("Photographic concepts", "concepts", "Concepts that push the concept model most",
                          ["positive pole", "negative pole", "activation", "logits"],
                          "All concepts: activation and contribution", ["33%", "33%", "18%", "16%"], 10),
            *_chart_panel("Orthogonal units", "units", "What each unit contributes",
                          ["unit", "rises with", "activation", "logits"], "Units: activation and contribution",
                          ["11%", "53%", "19%", "17%"], 9),
            *_chart_panel("Pixel residual", "residual", "Residual spectrum: this image, mean real, mean synthetic",
                          ["part", "logits"], "Contribution of each part", ["70%", "30%"], 7),
        ]
    return story, outputs


def build_demo() -> gr.Blocks:
    """The whole page. Loads no weights: that happens with the first image."""
    with gr.Blocks(title="Cuescope", analytics_enabled=False, delete_cache=(HALF_AN_HOUR, SIX_HOURS)) as demo:
        gr.Markdown("# Cuescope\nWhy does a CLIP-based detector call an image AI-generated?", elem_id="title")
        with gr.Tab("Analyze"):
            with gr.Row(equal_height=False, elem_classes="stack"):
                with gr.Column(scale=2, min_width=300):
                    image, button = _input_column()
                with gr.Column(scale=3, min_width=300):
                    card = gr.HTML(WELCOME, elem_id="verdict")
                    with gr.Accordion("What do these numbers mean?", open=False):
                        gr.Markdown(ABOUT)
            _examples(image)
            story, outputs = _story()
            with gr.Accordion("All numbers (JSON)", open=False):
                numbers = gr.JSON(label="Analysis", show_label=False)
        analysed = gr.State()
        gr.on([image.change, button.click], analyze, image, [numbers, analysed], api_name="analyze", concurrency_id="model",
              trigger_mode="always_last").then(
            render, [analysed, numbers], [card, story, *outputs], api_visibility="private", concurrency_id="model")
    return demo


def launch() -> None:
    """Make the examples, start loading the model, open the page."""
    make_examples()
    threading.Thread(target=get_suite, daemon=True).start()
    demo = build_demo()
    demo.queue(max_size=64, default_concurrency_limit=1)
    demo.launch(**LAUNCH)


if __name__ == "__main__":
    launch()
