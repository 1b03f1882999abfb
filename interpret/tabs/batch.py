"""Batch: many images at once, with a table, a map, measures and files to take away. A browser that reloads goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from typing import Any, NamedTuple

import gradio as gr

from detector.data.datasets import DataError
from interpret.batch import SORTS, Batch, View
from interpret.panels import components as parts
from interpret.panels.service import get_suite
from interpret.panels.uploads import folder
from interpret.tabs.batch_files import build_exports
from interpret.tabs.inputs import files_of, folder_choice, many_files
from interpret.tabs.jobs import JOBS, batch_of
from interpret.tabs.links import ANALYZE, AnalyzeLinks

SLICE = 3.0  # seconds of one turn at the model, after which the next visitor gets theirs (choice)
PAGE_ROWS = 50  # images in one page of the table
FEWEST_OF_A_MAP = 5
ABOUT = (
    "Many images, zip archives of some, or a folder of the server. The work goes on while this page is open, also after a reload. Folders "
    "named real and synthetic say what the images are; then the verdicts are measured against them."
)
HEADERS = ["number", "picture", "file", "folder", "verdict", "synthetic, %", "logit", "strongest concept"]
KINDS: Any = ["number", "html", "str", "str", "str", "number", "number", "str"]
REMEMBER = "(key) => { sessionStorage.setItem('cuescope-batch', key || ''); return key }"
RECALL = "() => sessionStorage.getItem('cuescope-batch') || ''"
# A dot that is clicked puts its number into the field and presses the button beside it, as the keyboard does.
CLICKS = """() => { setTimeout(function listen(tries = 20) {
  const chart = document.querySelector("#batch-map .js-plotly-plot"), input = document.querySelector("#batch-number input");
  if ((!chart || !chart.on || !input) && tries > 0) return setTimeout(() => listen(tries - 1), 250);
  if (!chart || !chart.on || chart.dataset.listens) return;
  chart.dataset.listens = "1";
  chart.on("plotly_click", (event) => {
    input.value = event.points[0].customdata;
    input.dispatchEvent(new Event("input", {bubbles: true}));
    setTimeout(() => document.querySelector("#batch-open").click(), 300);
  });
}, 250) }"""
MAPS = ["PCA", "t-SNE"] + (["UMAP"] if find_spec("umap") else [])


@dataclass(frozen=True)
class BatchTab:
    """files, allowed: the images. start, cancel: the buttons. key: of the batch; timer: asks for its next slice. progress: one line.
    result: all below. sort, verdict, folder, concept, page: the view of the table. number, show: a picture to open in Analyze. method,
    colour, draw: of the map. measures, roc, calibration: against the folders' names."""

    files: gr.File
    allowed: gr.Dropdown
    start: gr.Button
    cancel: gr.Button
    key: gr.Textbox
    timer: gr.Timer
    progress: gr.HTML
    result: gr.Column
    sort: gr.Dropdown
    verdict: gr.Dropdown
    folder: gr.Dropdown
    concept: gr.Dropdown
    page: gr.Number
    table: gr.Dataframe
    number: gr.Number
    show: gr.Button
    method: gr.Dropdown
    colour: gr.Dropdown
    draw: gr.Button
    map: gr.Plot
    measures: gr.Markdown
    roc: gr.Plot
    calibration: gr.Plot


class StepValues(NamedTuple):
    """Values of `BatchTab` after each slice."""

    progress: str
    timer: gr.Timer
    result: gr.Column
    folder: gr.Dropdown
    concept: gr.Dropdown
    colour: gr.Dropdown
    measures: str
    roc: gr.Plot
    calibration: gr.Plot


def build_batch(links: AnalyzeLinks) -> None:
    """The tab, and what its buttons do."""
    tab = _layout()
    view: list[Any] = [tab.key, tab.sort, tab.verdict, tab.folder, tab.concept, tab.page]
    panels: dict[str, Any] = {"concurrency_id": "panels", "show_progress": "hidden"}
    steps = parts.outputs(tab, StepValues)

    def show_table(event: Any, name: str | bool = False) -> None:
        visibility: Any = {"api_name": name} if name else {"api_visibility": "private"}
        event(batch_view, view, tab.table, **visibility, **panels)

    start = tab.start.click(
        batch_start, [tab.files, tab.allowed, links.in_use, tab.key], [tab.key, tab.progress, tab.timer], api_name="batch_start", **panels
    )
    start.success(None, tab.key, tab.key, js=REMEMBER)
    step = tab.timer.tick(
        batch_step, tab.key, steps, api_name="batch_step", concurrency_id="model", trigger_mode="once", show_progress="hidden"
    )
    show_table(step.success, "batch_view")
    back = links.page.load(None, None, tab.key, js=RECALL)
    shown = back.then(batch_resume, tab.key, steps, api_visibility="private", **panels)
    show_table(shown.success)
    for control in (tab.sort, tab.verdict, tab.folder, tab.concept, tab.page):
        show_table(control.input)
    tab.cancel.click(batch_cancel, tab.key, [tab.progress, tab.timer], api_name="batch_cancel", **panels)
    tab.show.click(batch_open, [tab.key, tab.number], [links.image, links.tabs], api_name="batch_open", **panels)
    tab.table.select(_number_of, None, tab.number, api_visibility="private", **panels).success(
        batch_open, [tab.key, tab.number], [links.image, links.tabs], api_visibility="private", **panels
    )
    drawn = tab.draw.click(batch_map, [tab.key, tab.method, tab.colour], tab.map, api_name="batch_map", concurrency_id="map")
    drawn.success(None, None, None, js=CLICKS)
    with tab.result:
        build_exports(tab.key)


def _layout() -> BatchTab:
    gr.Markdown(ABOUT)
    files = many_files("Images or zip archives", "batch-files")
    allowed = folder_choice("A folder of this server")
    with gr.Row():
        start = gr.Button("Analyze all", variant="primary", elem_id="batch-start")
        cancel = gr.Button("Cancel", min_width=90, scale=0, elem_id="batch-cancel")
    key, timer = gr.Textbox("", visible=False, label="batch"), gr.Timer(0.5, active=False)
    progress = gr.HTML("", elem_id="batch-progress")
    with gr.Column(visible=False, elem_id="batch-result") as result:
        measures = gr.Markdown(elem_classes="reading", elem_id="batch-measures")
        with gr.Row(elem_classes="stack"):
            roc, calibration = parts.plot("ROC curve", "batch-roc", False), parts.plot("Calibration curve", "batch-calibration", False)
        controls = _view_controls()
        table = gr.Dataframe(
            headers=HEADERS, datatype=KINDS, label="Images", interactive=False, wrap=True, max_height=520, elem_id="batch-table",
            column_widths=["80px", "80px", "190px", "170px", "140px", "130px", "90px", "210px"],
        )  # fmt: skip
        with gr.Row():
            number = gr.Number(1, label="Image number", precision=0, elem_id="batch-number", min_width=120)
            show = gr.Button("Open it in Analyze", elem_id="batch-open")
        gr.Markdown("## Map of the backbone's features: images that lie close look alike to it", elem_classes="section")
        with gr.Row():
            method = gr.Dropdown(MAPS, value="PCA", label="Map", min_width=120)
            colour = parts.accept_any(gr.Dropdown(["folder", "verdict"], value="verdict", label="Colour", min_width=160))
            draw = gr.Button("Draw the map", elem_id="batch-draw")
        chart = parts.plot("Map of the images; a click on a dot opens the image in Analyze", "batch-map", visible=False)
    inputs = (files, allowed, start, cancel, key, timer, progress, result)
    return BatchTab(*inputs, *controls, table, number, show, method, colour, draw, chart, measures, roc, calibration)


def _view_controls() -> tuple[gr.Dropdown, gr.Dropdown, gr.Dropdown, gr.Dropdown, gr.Number]:
    with gr.Row(elem_id="batch-view"):
        sort = gr.Dropdown([(words, name) for name, words in SORTS.items()], value="number", label="Sort", min_width=150)
        verdicts = [("all", ""), *[(name, name) for name in ("synthetic", "real", "inconclusive")]]
        verdict = gr.Dropdown(verdicts, value="", label="Verdict", min_width=120)
        source = parts.accept_any(gr.Dropdown([("all", "")], value="", label="Folder", min_width=120))
        concept = parts.accept_any(gr.Dropdown([("all", "")], value="", label="Strong concept", min_width=150))
        page = gr.Number(1, label="Page", precision=0, minimum=1, min_width=80)
    return sort, verdict, source, concept, page


# --- actions -------------------------------------------------------------------------------------------------------


def batch_start(files: list[str] | None, allowed: str = "", in_use: str = "embedded", former: str = "") -> tuple[str, str, gr.Timer]:
    """Take up a batch of images. Nothing is analysed yet: that is what /batch_step does, slice by slice.

    Args:
        files: image files or zip archives.
        allowed: a folder that the server offers, beside or in place of the uploads; "" for none.
        in_use: the backbone or detector in use.
        former: the key of the batch before, which is forgotten; "" for none.

    Returns:
        The key of the batch, a secret of its visitor; one line in HTML.
    """
    from interpret.batch import progress_line

    try:
        batch = Batch(files_of(files, allowed), in_use)
        JOBS.drop(former)
        key = JOBS.put(batch)
    except DataError as error:
        return former, _line(str(error)), gr.Timer(active=False)
    return key, _line(progress_line(batch), 0.0), gr.Timer(active=True)


def batch_step(key: str) -> StepValues:
    """Analyse the next images of a batch for a few seconds.

    Args:
        key: the key that /batch_start gave.

    Returns:
        One line on the progress, with the time left; the choices of the table's filters; measures and curves once all is done.
    """
    from detector.clip.backbone import BackboneError
    from detector.detectors.names import DetectorError
    from detector.methods.base import HeadError
    from interpret.batch import advance

    try:
        batch = JOBS.get(key)
        advance(batch, get_suite(batch.choice), SLICE)
    except (BackboneError, DataError, DetectorError, HeadError) as error:
        return _only(str(error))
    return _state(batch)


def batch_resume(key: str) -> StepValues:
    """What is known of a batch, after the browser has loaded the page again; its slices go on."""
    if not key:
        return _only("")
    try:
        return _state(JOBS.get(key))
    except DataError as error:
        return _only(str(error))


def batch_cancel(key: str) -> tuple[str, gr.Timer]:
    """Stop a batch after the images in work; what is done stays.

    Args:
        key: the key that /batch_start gave.

    Returns:
        One line in HTML.
    """
    from interpret.batch import progress_line

    batch = batch_of(key)
    batch.stopped = True
    return _line(progress_line(batch)), gr.Timer(active=False)


def batch_view(key: str, sort: str = "number", verdict: str = "", source: str = "", concept: str = "", page: float = 1) -> list[list[Any]]:
    """One page of the table of a batch.

    Args:
        key: the key that /batch_start gave.
        sort: number, file, synthetic, real, unsure, concept or mistakes.
        verdict: synthetic, real or inconclusive; "" for all.
        source: a folder; "" for all.
        concept: a concept, for the images in which it is among the five that contribute most; "" for all.
        page: from 1, fifty images each; the last page for a number beyond it.

    Returns:
        Rows: number, thumbnail as HTML, file, folder, verdict, probability in percent, logit, strongest concept or what is wrong.
    """
    from interpret.batch import select_rows, table_row

    if not key:
        return []
    batch = batch_of(key)
    rows = select_rows(batch, View(sort, verdict, source, concept))
    last = max(len(rows) - 1, 0) // PAGE_ROWS
    first = PAGE_ROWS * min(max(int(page or 1), 1) - 1, last)
    return [table_row(batch, row) for row in rows[first : first + PAGE_ROWS]]


def batch_open(key: str, number: float | None) -> tuple[str, gr.Tabs]:
    """Open an image of a batch in Analyze.

    Args:
        key: the key that /batch_start gave.
        number: the image's number, from 1.

    Returns:
        The image file.
    """
    from gradio.processing_utils import save_bytes_to_cache

    batch = batch_of(key)
    place = int(number or 0) - 1
    if not 0 <= place < len(batch.files):
        raise gr.Error(f"Choose a number from 1 to {len(batch.files)}.", print_exception=False)
    try:
        data = batch.files[place].read()
    except DataError as error:
        raise gr.Error(str(error), print_exception=False) from error
    from gradio_client.utils import strip_invalid_filename_characters

    name = strip_invalid_filename_characters(batch.files[place].name.rpartition("/")[2]) or "image"
    return save_bytes_to_cache(data, name, folder()), gr.Tabs(selected=ANALYZE)


def batch_map(key: str, method: str = "PCA", colour: str = "verdict") -> gr.Plot:
    """A map of the images of a batch: close to one another where the backbone's pooled features are.

    Args:
        key: the key that /batch_start gave.
        method: PCA, t-SNE, or UMAP where it is installed.
        colour: folder, verdict, "concept: NAME" or "descriptor: NAME".

    Returns:
        A chart with a dot for each image.
    """
    import numpy as np

    from interpret.batch import colours, embedding
    from interpret.render.curves import map_chart

    batch = batch_of(key)
    rows = batch.usable
    if len(rows) < FEWEST_OF_A_MAP or method not in MAPS:
        raise gr.Error(f"A map needs {FEWEST_OF_A_MAP} images, and one of the methods {', '.join(MAPS)}.", print_exception=False)
    places = embedding(np.stack([row.pooled for row in rows]), method)
    return parts.chart(map_chart(places, colours(batch, colour)[: len(rows)], [row.number for row in rows], [row.file for row in rows]))


# --- helpers -------------------------------------------------------------------------------------------------------


def _number_of(event: gr.SelectData) -> int:
    """The number in the row that was chosen, wherever the browser has sorted it to."""
    return int(event.row_value[0])


def _state(batch: Batch) -> StepValues:
    from interpret.batch import colour_choices, labels_and_logits, measures_sentence, progress_line
    from interpret.render.curves import calibration_chart, roc_chart

    folders = sorted({row.folder for row in batch.rows if row.folder})
    sources, concepts = (gr.Dropdown([("all", ""), *[(name, name) for name in names]]) for names in (folders, batch.concepts))
    measured = batch.labelled and not batch.running
    roc, calibration = (parts.chart(draw(*labels_and_logits(batch)) if measured else None) for draw in (roc_chart, calibration_chart))
    words = measures_sentence(batch) if measured else ""
    done = len(batch.rows) / max(len(batch.files), 1)
    shown = gr.Column(visible=bool(batch.rows))
    line = _line(progress_line(batch), done if batch.running else None)
    colour = gr.Dropdown(colour_choices(batch))
    return StepValues(line, gr.Timer(active=batch.running), shown, sources, concepts, colour, words, roc, calibration)


def _only(sentence: str) -> StepValues:
    """A sentence, and nothing below it."""
    skip: Any = gr.skip()
    hidden = parts.chart(None)
    return StepValues(_line(sentence), gr.Timer(active=False), gr.Column(visible=False), skip, skip, skip, "", hidden, hidden)


def _line(sentence: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<progress max="1" value="{share:.4f}"></progress>'
    return f'<div class="progress" role="status">{bar}{escape(sentence)}</div>'
