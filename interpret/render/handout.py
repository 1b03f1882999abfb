"""The hand-out: an analysed image on one page of paper, A4 or Letter. `document.css` prints it alone."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detector.records import AnalysisRecord
from interpret.render.cards import leaning
from interpret.render.overview import cues
from interpret.render.text import HEADLINES, advice, file_reading, method_name, scale_html
from interpret.render.trust import trust_facts

METHODS = 12  # lines at most, so that all fits one page


@cache
def program_version() -> str:
    """Of these sources, else of the installed package; "" where neither says."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    try:
        return version("cuescope")
    except PackageNotFoundError:
        return ""


def handout_html(record: AnalysisRecord, pictures: list[tuple[str, str]], moment: datetime | None = None) -> str:
    """The page as HTML.

    Args:
        record: the analysis, without an error.
        pictures: HTML of each picture and the line below it, two at most.
        moment: of the page, in UTC; None: now.

    It names no file: a file's name may say who is in the picture.
    """
    day = (moment or datetime.now(UTC)).strftime("%d %B %Y").lstrip("0")
    figures = "".join(f"<figure>{picture}<figcaption>{escape(words)}</figcaption></figure>" for picture, words in pictures)
    return (
        f'<article class="sheet"><header><h2>Photographed or made?</h2><p>Cuescope {escape(program_version())} · {day}</p></header>'
        f'<div class="sheet-pictures">{figures}</div>{_verdict(record)}{_words(record)}{_methods(record)}'
        f"<footer>{escape(file_reading(record))}. Detector: {escape(record.get('leader', '') or str(record['backbone']))}. "
        "A measurement, not a proof.</footer></article>"
    )


def _verdict(record: AnalysisRecord) -> str:
    verdict = record.get("verdict")
    if not verdict:
        return "<section><h3>No verdict</h3><p>No head is trained for this backbone yet.</p></section>"
    percent = 100 * verdict["probability"]
    return (
        f'<section class="sheet-verdict {verdict["label"]}"><h3>{HEADLINES[verdict["label"]]}</h3>'
        f"<p>{percent:.0f} % synthetic. {escape(advice(verdict))}</p>"
        f"{scale_html(percent)}</section>"
    )


def _words(record: AnalysisRecord) -> str:
    reasons = "".join(f"<li>{escape(cue)}</li>" for cue in cues(record))
    trust = "".join(f"<p>{fact}</p>" for fact in trust_facts(record)[:1])
    return (
        f"<section><h3>What speaks for it</h3><ol>{reasons or '<li>Nothing pushes to this side noticeably.</li>'}</ol></section>"
        f"<section><h3>How far to trust it</h3>{trust}</section>"
    )


def _methods(record: AnalysisRecord) -> str:
    scores = sorted(record.get("detectors", {}).items(), key=lambda item: -abs(item[1]["logit"]))[:METHODS]
    rows = "".join(
        f'<tr><th scope="row">{escape(method_name(name))}</th><td>{escape(leaning(score["logit"]))}</td>'
        f"<td>{100 * score['probability']:.0f} %</td></tr>"
        for name, score in scores
    )
    return f"<section><h3>Method by method</h3><table>{rows}</table></section>" if rows else ""
