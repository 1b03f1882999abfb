"""Plotly figures as static SVG: the charts of `figures`, drawn without a script for a page that must stand on its own.

Two kinds suffice for them: rows with words (bars, dots, bands) and curves over a number. Anything else is a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, LABELS, ROW, MARGIN = 860, 260, 26, 12  # pixels; LABELS is the column of words at the left
CURVES = 300  # height in pixels of the area of curves
TEXT = 'font-family="system-ui,sans-serif" font-size="13" fill="currentColor"'

Scale = Callable[[float], float]


def to_svg(figure: go.Figure, label: str) -> str:
    """An `<svg>` element that shows the figure; `label` is read to those who cannot see it.

    Raises ValueError for a figure that is neither rows nor curves.
    """
    kinds = {trace.type for trace in figure.data}
    if not kinds or kinds - {"bar", "scatter"}:
        raise ValueError(f"No SVG for charts of the kind {', '.join(sorted(kinds)) or 'nothing'}.")
    rows = isinstance(figure.data[0].y[0], str)
    height, content = _rows(figure) if rows else _curves(figure)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(content)}</svg>"
    )


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    """From numbers to pixels; a range without extent lies in the middle."""
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) between low and high."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(round(number * step, 10)) for number in range(first, last + 1)]


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {TEXT}>{escape(words)}</text>'


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{escape(colour)}" stroke-width="{width}"/>'


def _x_axis(figure: go.Figure, low: float, high: float, x: Scale, bottom: float) -> list[str]:
    """Grid lines with their numbers, and the title below."""
    grid = [
        _line(x(value), 0, x(value), bottom, "rgba(128,128,128,0.3)") + _text(x(value), bottom + 16, f"{value:g}")
        for value in ticks(low, high)
    ]
    return [*grid, _text((x(low) + x(high)) / 2, bottom + 36, figure.layout.xaxis.title.text or "")]


# --- rows with words -----------------------------------------------------------------------------------------------


def _rows(figure: go.Figure) -> tuple[int, list[str]]:
    """Bars and dots, a row for each word, the first on top; shapes behind them."""
    words = list(dict.fromkeys(word for trace in figure.data for word in trace.y))
    bottom = ROW * len(words)
    low, high = figure.layout.xaxis.range or _extent([trace.x for trace in figure.data])
    x, y = _linear(low, high, LABELS, WIDTH - MARGIN), lambda row: ROW * row + ROW / 2
    content = [
        *_x_axis(figure, low, high, x, bottom),
        *[_shape(shape, x, y, bottom) for shape in figure.layout.shapes],
        *[_text(LABELS - 10, y(row) + 5, word, "end") for row, word in enumerate(words)],
    ]
    for trace in figure.data:
        for index, (value, word) in enumerate(zip(trace.x, trace.y, strict=True)):
            if value is not None and np.isfinite(value):
                content.append(_mark(trace, index, x, float(value), y(words.index(word))))
    return bottom + 46, content


def _shape(shape, x: Scale, y: Scale, bottom: float) -> str:
    """A band over all rows, or a bar that belongs to one row."""
    if shape.type == "line":
        return _line(x(shape.x0), y(shape.y0), x(shape.x1), y(shape.y1), shape.line.color, shape.line.width)
    return f'<rect x="{x(shape.x0)}" y="0" width="{x(shape.x1) - x(shape.x0):.1f}" height="{bottom}" fill="{shape.fillcolor}"/>'


def _mark(trace, index: int, x: Scale, value: float, middle: float) -> str:
    """A bar from zero, an upright stroke, or a dot."""
    colours = trace.marker.color
    colour: str = colours if isinstance(colours, str) else colours[index] if colours else "currentColor"
    if trace.type == "bar":
        start, end = sorted((x(0.0), x(value)))
        return f'<rect x="{start}" y="{middle - 8}" width="{end - start:.1f}" height="16" fill="{escape(colour)}"/>'
    if trace.marker.symbol == "line-ns":
        return _line(x(value), middle - 7, x(value), middle + 7, trace.marker.line.color, trace.marker.line.width)
    return f'<circle cx="{x(value)}" cy="{middle}" r="6" fill="{escape(colour)}" stroke="white" stroke-width="2"/>'


# --- curves --------------------------------------------------------------------------------------------------------


def _curves(figure: go.Figure) -> tuple[int, list[str]]:
    """One polyline for each trace, with a legend above."""
    low, high = _extent([trace.x for trace in figure.data])
    bottom_value, top_value = _extent([trace.y for trace in figure.data])
    x, y = _linear(low, high, 60, WIDTH - MARGIN), _linear(bottom_value, top_value, CURVES, 34)
    content = [
        *_x_axis(figure, low, high, x, CURVES),
        *[
            _text(52, y(value) + 4, f"{value:g}", "end") + _line(60, y(value), WIDTH - MARGIN, y(value), "rgba(128,128,128,0.3)")
            for value in ticks(bottom_value, top_value)
        ],
    ]
    if title := figure.layout.yaxis.title.text:
        content.append(f'<g transform="translate(14 {CURVES / 2}) rotate(-90)">{_text(0, 0, title)}</g>')
    for number, trace in enumerate(figure.data):
        points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(trace.x, trace.y, strict=True) if np.isfinite(b))
        left = 60 + 200 * number
        content += [
            f'<polyline points="{points}" fill="none" stroke="{trace.line.color}" stroke-width="{trace.line.width or 2}"/>',
            _line(left, 14, left + 24, 14, trace.line.color, 3),
            _text(left + 30, 18, trace.name or "", "start"),
        ]
    return CURVES + 46, content


def _extent(series: Sequence[Sequence[float]]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(values, np.float64) for values in series])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


# --- small charts for cards ----------------------------------------------------------------------------------------

SMALL, SMALL_ROW, SMALL_LABELS = 340, 22, 160  # pixels: width, height of a row, width of the words at the left
LONGEST_LABEL = 20  # characters


def _small(height: float, label: str, content: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SMALL} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(content)}</svg>"
    )


def _small_label(words: str, row: int) -> str:
    short = words if len(words) <= LONGEST_LABEL else words[: LONGEST_LABEL - 1].rstrip() + "…"
    return _text(SMALL_LABELS - 8, SMALL_ROW * row + 16, short, "end")


def small_bars(rows: Sequence[tuple[str, float]], label: str, neutral: bool = False) -> str:
    """Signed bars, a row for each (words, value): to the right and orange above 0, to the left and blue below; neutral: in one colour
    from the left. The longest fills its side. `label` and the values are read to those who cannot see the chart."""
    reach = max([abs(value) for _, value in rows] + [1e-9])
    zero = SMALL_LABELS + 4 if neutral else (SMALL_LABELS + SMALL) / 2
    x = _linear(0 if neutral else -reach, reach, zero if neutral else SMALL_LABELS + 4, SMALL - 4)
    content = [_line(zero, 0, zero, SMALL_ROW * len(rows), "rgba(128,128,128,0.6)")]
    for row, (words, value) in enumerate(rows):
        start, end = sorted((zero, x(abs(value) if neutral else value)))
        kind = "neutral" if neutral else "synthetic" if value > 0 else "real"
        bar = f'<rect class="{kind}" x="{start}" y="{SMALL_ROW * row + 5}" width="{max(1.0, end - start):.1f}" height="12" rx="2"/>'
        content += [_small_label(words, row), bar]
    words = "; ".join(f"{words} {value:+.2f}" for words, value in rows)
    return _small(SMALL_ROW * len(rows), f"{label}: {words}", content)


def small_dots(rows: Sequence[tuple[str, float]], label: str) -> str:
    """A dot for each (words, percentile from 0 to 100); the band holds the middle half."""
    x = _linear(0, 100, SMALL_LABELS + 4, SMALL - 8)
    height = SMALL_ROW * len(rows)
    content = [f'<rect class="band" x="{x(25)}" y="0" width="{x(75) - x(25):.1f}" height="{height}"/>']
    for row, (words, place) in enumerate(rows):
        y = SMALL_ROW * row + SMALL_ROW / 2
        line = _line(x(0), y, x(100), y, "rgba(128,128,128,0.35)")
        content += [_small_label(words, row), line, f'<circle class="neutral" cx="{x(place)}" cy="{y}" r="5"/>']
    words = "; ".join(f"{words} {place:.0f}" for words, place in rows)
    return _small(height, f"{label}: {words}", content)


def small_grid(regions: Sequence[Sequence[float | None]], label: str) -> str:
    """3 × 3 fields, the stronger the colour the stronger the evidence: orange for synthetic, blue for real."""
    reach = max([abs(value) for row in regions for value in row if value is not None] + [1e-9])
    content = []
    for row, values in enumerate(regions):
        for column, value in enumerate(values):
            kind, opacity = ("real", 0.0) if value is None else ("synthetic" if value > 0 else "real", abs(value) / reach)
            place = f'x="{92 + 52 * column}" y="{37 * row}" width="50" height="35" rx="3"'
            content.append(f'<rect class="field" {place}/><rect class="{kind}" {place} fill-opacity="{opacity:.2f}"/>')
    return _small(110, label, content)


def small_columns(columns: Sequence[tuple[float, str | None]], label: str) -> str:
    """A column for each (probability, label of the verdict), the first set apart; the line is one half."""
    width = (SMALL - 30) / max(1, len(columns))
    content = [_line(0, 55, SMALL, 55, "rgba(128,128,128,0.6)")]
    for index, (probability, kind) in enumerate(columns):
        left, height = index * width + (14 if index else 2), max(2.0, 106 * probability)
        content.append(
            f'<rect class="{kind if kind in ("real", "synthetic") else "unsure"}" x="{left:.1f}" y="{108 - height:.1f}" '
            f'width="{width - 6:.1f}" height="{height:.1f}" rx="2"/>'
        )
    words = ", ".join(f"{100 * probability:.0f} %" for probability, _ in columns)
    return _small(110, f"{label}: {words}", content)
