"""Taking the result away: a report as one HTML file, and the JSON record."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import gradio as gr

from detector.records import AnalysisRecord
from interpret.panels.service import CurrentImage, photo_of, suite_of
from interpret.panels.uploads import folder

# A button of Gradio downloads what it held before the click; this hands over what the click has just made.
HAND_OVER = """(file) => {
  if (!file) return;
  const link = Object.assign(document.createElement("a"), {href: file.url, download: file.orig_name});
  document.body.append(link); link.click(); link.remove();
}"""


@dataclass(frozen=True)
class Downloads:
    """row: shown with a result. report, record: the buttons. files: where each button's file goes, never shown."""

    row: gr.Row
    report: gr.DownloadButton
    record: gr.DownloadButton
    files: tuple[gr.File, gr.File]


def build_downloads() -> Downloads:
    """Two buttons, hidden until there is a result."""
    with gr.Row(visible=False) as row:
        report = gr.DownloadButton("Download report (HTML)", size="sm", elem_id="report")
        record = gr.DownloadButton("Download numbers (JSON)", size="sm", elem_id="json-record")
    files = gr.File(label="HTML report", visible=False), gr.File(label="JSON record", visible=False)
    return Downloads(row, report, record, files)


def wire_downloads(downloads: Downloads, current: gr.State) -> None:
    """Make the file when asked for, then hand it over."""
    ways = ((downloads.report, make_report, "report"), (downloads.record, make_record, "json_record"))
    for (button, make, name), file in zip(ways, downloads.files, strict=True):
        event = button.click(make, current, file, api_name=name, concurrency_id="panels", show_progress="hidden")
        event.success(None, file, None, js=HAND_OVER, show_progress="hidden")


def make_report(current: CurrentImage | None) -> str:
    """The report on the image analysed last in this session: one HTML file without scripts that needs no network.

    Returns:
        The HTML file.
    """
    from interpret.render.html_report import html_report

    image = _required(current)
    return _file(html_report(image.record, suite_of(image), photo_of(image)), image.record, "html")


def make_record(current: CurrentImage | None) -> str:
    """All numbers on the image analysed last in this session, as the JSON object that the command line writes.

    Returns:
        The JSON file.
    """
    record = _required(current).record
    return _file(json.dumps(record, indent=1, ensure_ascii=False), record, "json")


def _required(current: CurrentImage | None) -> CurrentImage:
    """The image analysed last; gr.Error where there is none or it could not be analysed."""
    if current is None or current.record["error"]:
        raise gr.Error("Analyse an image first.", print_exception=False)
    return current


def _file(text: str, record: AnalysisRecord, ending: str) -> str:
    """A file in a folder of its own beside the uploads, swept as they are, under a name that any system takes."""
    from gradio.processing_utils import save_bytes_to_cache

    from interpret.render.html_report import safe_stem

    return save_bytes_to_cache(text.encode(), f"cuescope-{safe_stem(record['file'])}.{ending}", os.path.join(folder(), "taken"))
