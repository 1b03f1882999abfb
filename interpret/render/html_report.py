"""The whole story of one image as one HTML file that needs nothing else: no script, no network, every picture inside.

Whatever comes from the user or a model is escaped; a content policy in the file forbids scripts and requests besides.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from detector.records import AnalysisRecord
from interpret.render import figures
from interpret.render import text as report
from interpret.render.descriptor_views import data_url, gallery
from interpret.render.svg import to_svg
from interpret.render.text import PANEL_NAMES
from interpret.render.words import HOW

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from detector import Suite
    from detector.data.images import Photo

CONCEPT_ROWS = 20  # all others are in the JSON record
LONGEST_SECTION = 6_000  # characters of an unknown part of the record; a longer one is left to the JSON record
SECTION_KEYS = {
    "file",
    "width",
    "height",
    "format",
    "error",
    "backbone",
    "leader",
    "verdict",
    "detectors",
    "physical",
    "physical_contributions",
    "physical_percentiles",
    "orthogonal",
    "concepts",
    "heads",
    "residual",
    "file_facts",
}

STYLE = """
:root {color-scheme: light dark}
body {font: 15px/1.5 system-ui, "Segoe UI", sans-serif; max-width: 900px; margin: 0 auto; padding: 16px}
h1 {margin-bottom: 0} h2 {margin: 32px 0 4px} p {margin: 6px 0} small, .good, figcaption {opacity: .75}
.card {border-left: 6px solid #6e7681; border-radius: 8px; padding: 10px 18px; background: rgba(128,128,128,.1)}
.card.synthetic {border-color: #d55e00} .card.real {border-color: #0072b2} .card h2 {margin-top: 0}
.card .big {font-size: 1.8rem; font-weight: 650} .card .big span {font-size: 1rem; font-weight: 400}
.scale {position: relative; height: 10px; border-radius: 5px; background: linear-gradient(90deg, #0072b2, #c9ccd1, #d55e00)}
.scale i {position: absolute; top: -4px; width: 4px; height: 18px; margin-left: -2px; background: currentColor}
.ends {display: flex; justify-content: space-between}
table {border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums}
th, td {text-align: left; padding: 3px 8px; border-bottom: 1px solid rgba(128,128,128,.35); vertical-align: top}
td:not(:first-child):last-child {white-space: nowrap} .scroll {overflow-x: auto} .scroll svg {width: 100%; min-width: 620px}
pre {white-space: pre-wrap; overflow-wrap: anywhere}
.views {display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px}
figure {margin: 0} figure img {width: 100%; image-rendering: pixelated} .seen {max-width: 260px}
@media print {details {display: none}}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_report(record: AnalysisRecord, suite: Suite, photo: Photo, time: datetime | None = None) -> str:
    """The report on one analysed image as the text of an HTML file, below about 1 MB.

    Args:
        record: the analysis as JSON object.
        suite: what it was analysed with; gives the pixels that CLIP reads and the reference curves.
        photo: the image, decoded.
        time: of the report, in UTC; None: now.

    A part of the record that this module does not know gets a section of its own. A record with an error gives its sentence.
    """
    moment = (time or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    head = (
        f"<header><h1>Cuescope report</h1><p>{escape(record.get('file') or 'an image')} · {moment} · backbone "
        f"{escape(str(record.get('backbone')))}</p></header>{report.verdict_card(record)}"
    )
    body = "" if record.get("error") else "".join(_sections(record, suite, photo))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Cuescope report</title><style>{STYLE}</style></head><body>{head}<main>{body}</main>"
        "<footer><p><small>A measurement, not a proof: see the project's README for what was measured, on which images."
        "</small></p></footer></body></html>"
    )


def _sections(record: AnalysisRecord, suite: Suite, photo: Photo) -> list[str]:
    """What the page shows: the section of the detector that leads, then all others in the page's order."""
    sections = {**_methods(record, suite, photo), **_others(record)}
    method = report.leading_method(record)
    panel = "physical" if method == "physical_clip" else method  # one section for both
    first = [sections.pop(panel)] if panel in sections else []
    table = _table(["method", "probability of synthetic", "share of verdict"], report.method_rows(record))
    overview = [_section(PANEL_NAMES["methods"], "methods", "", table), _pixels(suite, photo)]
    return [_good("verdict", record), *first, *overview, *sections.values()]


def _methods(record: AnalysisRecord, suite: Suite, photo: Photo) -> dict[str, str]:
    """Method → its section."""
    physical, residual = suite.heads.get("physical"), suite.heads.get("residual")
    return {
        "concepts": _section(
            PANEL_NAMES["concepts"],
            "concepts",
            report.concept_reading(record),
            _good("concepts", record),
            _chart(figures.concept_chart(record), "Concepts that push the concept model most"),
            _concepts(record),
        ),
        "orthogonal": _section(
            PANEL_NAMES["orthogonal"],
            "units",
            report.unit_reading(record),
            _good("orthogonal", record),
            _chart(figures.unit_chart(record), "What each unit contributes"),
            _table(["unit", "follows (correlation)", "spanned by (variance so far)", "activation", "logits"], figures.unit_rows(record)),
        ),
        "residual": _section(
            PANEL_NAMES["residual"],
            "residual",
            report.residual_reading(record),
            _good("residual", record),
            _chart(figures.residual_chart(photo.pixels, residual), "Residual spectrum against the mean real one"),
            _table(["part", "logits"], figures.residual_rows(record)),
        ),
        "physical": _section(
            PANEL_NAMES["physical"],
            "descriptors",
            report.descriptor_reading(record),
            _good("physical", record),
            _chart(figures.descriptor_chart(record, physical), "Descriptors between real and synthetic images"),
            _descriptors(record),
            gallery(photo.pixels),
        ),
    }


def _section(title: str, how: str, reading: str, *parts: str) -> str:
    sentence = f"<p>{escape(reading)}</p>" if reading else ""
    return (
        f"<section><h2>{escape(title)}</h2>{sentence}{''.join(parts)}<details><summary>How it works</summary>"
        f"<p>{markdown(HOW[how])}</p></details></section>"
    )


def _good(method: str, record: AnalysisRecord) -> str:
    return f'<p class="good">{escape(report.speaker(record, method))}</p>'


def _table(headers: list[str], rows: list[list]) -> str:
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in headers)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _chart(figure: go.Figure | None, label: str) -> str:
    return f'<div class="scroll" tabindex="0">{to_svg(figure, label)}</div>' if figure is not None else ""


def _pixels(suite: Suite, photo: Photo) -> str:
    view = suite.backbone.view(photo)
    words = escape(report.view_reading(view))
    return (
        f'<section><h2>The exact pixels</h2><figure><img class="seen" src="{data_url(view.pixels)}" alt="What CLIP reads">'
        f"<figcaption>{words}</figcaption></figure></section>"
    )


def _concepts(record: AnalysisRecord) -> str:
    rows = figures.concept_rows(record)
    left_out = max(0, len(rows) - 1 - CONCEPT_ROWS)
    more = f"<p><small>{left_out} weaker concepts are in the JSON record.</small></p>" if left_out else ""
    return _table(["positive pole", "negative pole", "activation", "logits"], rows[:CONCEPT_ROWS] + rows[-1:] if left_out else rows) + more


def _descriptors(record: AnalysisRecord) -> str:
    rows = [[name, value, *rest] for name, value, _, *rest in figures.descriptor_rows(record)]
    return _table(["descriptor", "256 px", "% of real below", "% of synthetic below", "logits"], rows)


def _others(record: AnalysisRecord) -> dict[str, str]:
    """Key → section, for each part of the record that has none above, as indented JSON."""
    sections = {}
    for name, value in record.items():
        if name not in SECTION_KEYS and value not in (None, {}, []):
            text = json.dumps(value, indent=1, ensure_ascii=False)
            short = len(text) <= LONGEST_SECTION
            content = f"<pre>{escape(text)}</pre>" if short else "<p>Too long to print: see the JSON record.</p>"
            sections[name] = f"<section><h2>{escape(str(name))}</h2>{content}</section>"
    return sections


def markdown(text: str) -> str:
    """The little Markdown of our own texts (links, bold, italics) as HTML; everything else is escaped."""
    text = escape(text, quote=False)
    text = re.sub(r"\[([^\]]+)\]\((https://[^)\s\"]+)\)", r'<a href="\2" rel="noreferrer">\1</a>', text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def safe_stem(name: str | None) -> str:
    """A file name's stem that any system takes: at most 40 letters, digits, dots, hyphens and underscores, never empty."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip(".-_")[:40] or "image"
