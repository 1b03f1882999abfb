"""Taking the result away: a report as one HTML file, and the JSON record."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import gradio as gr

from interpret.panels.service import Seen, photo_of, suite_of
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
    files = tuple(gr.File(label=label, visible=False) for label in ("HTML report", "JSON record"))
    return Downloads(row, report, record, files)


def wire_downloads(downloads: Downloads, seen: gr.State) -> None:
    """Make the file when asked for, then hand it over."""
    ways = ((downloads.report, make_report, "report"), (downloads.record, make_record, "json_record"))
    for (button, make, name), file in zip(ways, downloads.files, strict=True):
        made = button.click(make, seen, file, api_name=name, concurrency_id="panels", show_progress="hidden")
        made.success(None, file, None, js=HAND_OVER, show_progress="hidden")


def make_report(seen: Seen | None) -> str:
    """The report on the image analysed last in this session: one HTML file without scripts that needs no network.

    Returns:
        The HTML file.
    """
    from interpret.render.html_report import html_report

    record = _record_of(seen)
    return _file(html_report(record, suite_of(seen), photo_of(seen)), record, "html")


def make_record(seen: Seen | None) -> str:
    """All numbers on the image analysed last in this session, as the JSON object that the command line writes.

    Returns:
        The JSON file.
    """
    record = _record_of(seen)
    return _file(json.dumps(record, indent=1, ensure_ascii=False), record, "json")


def _record_of(seen: Seen | None) -> dict:
    if seen is None or seen.record.get("error"):
        raise gr.Error("Analyse an image first.", print_exception=False)
    return seen.record


def _file(text: str, record: dict, ending: str) -> str:
    """A file in a folder of its own beside the uploads, swept as they are, under a name that any system takes."""
    from gradio.processing_utils import save_bytes_to_cache

    from interpret.render.html_report import safe_stem

    return save_bytes_to_cache(text.encode(), f"cuescope-{safe_stem(record['file'])}.{ending}", os.path.join(folder(), "taken"))
