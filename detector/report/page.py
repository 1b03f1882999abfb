"""The page: one HTML file without scripts or requests, every picture inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np

from detector.report import measures
from detector.report.duplicates import COSINE, same_files, similar_pictures
from detector.report.measures import Auroc, Distribution
from detector.report.table import CLASSES, VERDICT, Group, ScoreTable
from detector.report.thumbnails import thumbnails

MISTAKES = 12  # of each class
CONCEPTS = 25  # rows of the table of concepts
EXAMPLES = 20  # sets of duplicates
DRIFT = 0.2  # Kolmogorov-Smirnov distance from which on a cell is marked (choice)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root {color-scheme: light dark}
body {font: 15px/1.5 system-ui, "Segoe UI", sans-serif; max-width: 1200px; margin: 0 auto; padding: 16px}
h2 {margin: 32px 0 4px} p {margin: 6px 0} small {opacity: .75} summary {cursor: pointer; padding: 4px 0}
.scroll {overflow-x: auto} table {border-collapse: collapse; font-variant-numeric: tabular-nums}
th, td {text-align: left; padding: 3px 8px; border-bottom: 1px solid rgba(128,128,128,.35); white-space: nowrap}
td.n {text-align: right} svg {display: block}
.pictures {display: flex; flex-wrap: wrap; gap: 10px} figure {margin: 0; width: 140px; font-size: 12px; overflow-wrap: anywhere}
figure img {max-width: 128px; max-height: 128px}
"""


def page(table: ScoreTable, title: str) -> str:
    """The report on a table of scores as the text of an HTML file. title: name of the table, without what leads to it."""
    sections = [
        _overview(table),
        _aurocs(table),
        _mistakes(table),
        _calibration(table),
        _distributions(table),
        _drift(table),
        _concepts(table),
        _duplicates(table),
    ]
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>Cuescope data set report</title><style>{STYLE}</style>'
        f"</head><body><header><h1>Data set report</h1><p>{escape(title)} · {moment} · backbone "
        f"{escape(str(table.facts.get('backbone', 'not named')))}</p></header><main>{''.join(sections)}</main>"
        "<footer><p><small>A measurement, not a proof.</small></p></footer></body></html>"
    )


# --- pieces ------------------------------------------------------------------------------------------------------------


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _text(words: str) -> str:
    return f"<p>{escape(words)}</p>"


def _cell(value: object, shade: float = 0.0) -> str:
    """A cell. shade: −1 (blue) to 1 (orange), 0 for none."""
    colour = "213,94,0" if shade > 0 else "0,114,178"
    style = f' style="background:rgba({colour},{min(abs(shade), 1) * 0.6:.2f})"' if shade else ""
    number = ' class="n"' if isinstance(value, (int, float)) else ""
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"<td{number}{style}>{escape(text)}</td>"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """headers: words; rows: cells that are HTML already."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in headers)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _bars(counts: np.ndarray, label: str) -> str:
    """A small histogram."""
    top = max(int(counts.max()), 1)
    heights = [round(26 * int(count) / top, 1) for count in counts]
    bars = "".join(f'<rect x="{4 * i}" y="{26 - h}" width="3.5" height="{h}" fill="currentColor"/>' for i, h in enumerate(heights) if h)
    return f'<td><svg width="{4 * len(counts)}" height="26" role="img" aria-label="{escape(label)}">{bars}</svg></td>'


# --- sections ----------------------------------------------------------------------------------------------------------


def _overview(table: ScoreTable) -> str:
    ((rows, failed),) = table.rows("SELECT count(*), count(error) FROM scores")
    groups = _table(["source", "class", "pictures"], [_group_cells(group) for group in table.groups])
    reasons = table.rows("SELECT error, count(*) AS n FROM scores WHERE error IS NOT NULL GROUP BY error ORDER BY n DESC, error LIMIT 10")
    unread = _table(["reason", "pictures"], [[_cell(reason), _cell(count)] for reason, count in reasons]) if reasons else ""
    return _section("Overview", _text(f"{rows:,} rows; {failed:,} of the pictures could not be read."), groups, unread)


def _group_cells(group: Group) -> list[str]:
    return [_cell(group.source), _cell("" if group.truth is None else CLASSES[group.truth]), _cell(group.rows)]


def _auroc_cell(value: Auroc | None) -> str:
    return _cell(f"{value.value:.3f} ({value.low:.3f}–{value.high:.3f})", 2 * (value.value - 0.5)) if value else _cell("–")


def _aurocs(table: ScoreTable) -> str:
    """Detectors against synthetic sources, and of the verdict real against synthetic sources."""
    detectors = {name: measures.auroc_row(table.column(column), table) for name, column in table.logits.items()}
    sources = list(dict.fromkeys(source for row in detectors.values() for source in row))
    if not sources:
        return _section("How well the classes are told apart", _text("This needs pictures of both classes, in folders real and synthetic."))
    first = _table(["detector", *sources], [[_cell(name), *(_auroc_cell(row.get(s)) for s in sources)] for name, row in detectors.items()])
    words = "AUROC of each detector, each synthetic source against all real pictures, with 95 % intervals (DeLong)."
    parts = [_text(words), first]
    if VERDICT in table.logits:
        pairs = measures.auroc_pairs(table.column(table.logits[VERDICT]), table)
        fakes = list(dict.fromkeys(source for row in pairs.values() for source in row))
        rows = [[_cell(name), *(_auroc_cell(row.get(source)) for source in fakes)] for name, row in pairs.items()]
        parts += [_text("AUROC of the verdict, each real source (rows) against each synthetic one (columns)."), _table(["", *fakes], rows)]
    return _section("How well the classes are told apart", *parts)


def _mistakes(table: ScoreTable) -> str:
    if VERDICT not in table.logits or not {0, 1} & {group.truth for group in table.groups}:
        return ""
    parts = []
    for truth, order, words in (
        (0, "DESC", "Real pictures that look most synthetic"),
        (1, "ASC", "Synthetic pictures that look most real"),
    ):
        sign = ">" if truth == 0 else "<"
        query = f"""SELECT key, source, logit FROM scores WHERE error IS NULL AND truth = ? AND logit {sign} 0
            ORDER BY logit {order}, key LIMIT ?"""
        rows = table.rows(query, truth, MISTAKES)
        images = thumbnails([key for key, _, _ in rows])
        figures = "".join(_figure(key, source or "", f"logit {logit:+.2f}", images.get(key)) for key, source, logit in rows)
        parts.append(f'<h3>{words}</h3><div class="pictures">{figures or "<p>None.</p>"}</div>')
    return _section("The worst mistakes", *parts)


def _figure(key: str, source: str, words: str, image: str | None) -> str:
    picture = f'<img src="{image}" alt="{escape(source)}">' if image else "<p>The picture is not here any more.</p>"
    name = key.rpartition("/")[2]
    return f"<figure>{picture}<figcaption>{escape(words)}<br>{escape(source)}<br>{escape(name)}</figcaption></figure>"


def _calibration(table: ScoreTable) -> str:
    result = measures.calibration(table, table.column(table.logits[VERDICT])) if VERDICT in table.logits else None
    if result is None:
        return ""
    rows = [[_cell(round(row["probability"], 3)), _cell(round(row["synthetic"], 3)), _cell(row["images"])] for row in result["bins"]]
    words = f"Expected calibration error {result['ece']:.3f}, from 0 (calibrated) to 1; both classes weigh the same."
    return _section(
        "Calibration of the verdict",
        _text(words),
        _curve(result["bins"]),
        _table(["mean probability", "share synthetic", "pictures"], rows),
    )


def _curve(bins: Sequence[dict]) -> str:
    points = " ".join(f"{10 + 200 * row['probability']:.1f},{210 - 200 * row['synthetic']:.1f}" for row in bins)
    return (
        '<svg width="220" height="220" role="img" aria-label="share of synthetic pictures over the mean probability">'
        '<rect x="10" y="10" width="200" height="200" fill="none" stroke="rgba(128,128,128,.5)"/>'
        '<line x1="10" y1="210" x2="210" y2="10" stroke="rgba(128,128,128,.8)" stroke-dasharray="4"/>'
        f'<polyline points="{points}" fill="none" stroke="#d55e00" stroke-width="2"/></svg>'
    )


def _distributions(table: ScoreTable) -> str:
    columns = {f"logit of {name}": column for name, column in table.logits.items()} | {name: name for name in table.descriptors}
    parts = []
    for name, column in columns.items():
        rows = measures.distributions(table.column(column), table)
        if rows:
            opened = " open" if column == "logit" else ""
            body = _table(["source", "pictures", "mean", "deviation", "5 %", "median", "95 %", ""], map(_distribution_cells, rows))
            scale = f"<small>Histograms from {rows[0].low:.4g} to {rows[0].high:.4g}.</small>"
            parts.append(f"<details{opened}><summary>{escape(name)}</summary>{body}{scale}</details>")
    return _section("Distribution of scores and descriptors by source", *parts)


def _distribution_cells(row: Distribution) -> list[str]:
    numbers = [_cell(row.rows), *map(_cell, (float(row.mean), float(row.deviation), *map(float, row.percentiles)))]
    return [_cell(row.group.title), *numbers, _bars(row.counts, f"distribution of {row.group.title}")]


def _drift(table: ScoreTable) -> str:
    references = measures.references(table)
    columns = [name for name in (*table.logits.values(), *table.descriptors) if name in references.values]
    rows = []
    for name in columns:
        distances = measures.drift(table.column(name), references.values[name], table)
        cells = [
            _cell(round(d, 2), d if d >= DRIFT else 0) if (d := distances.get(code)) is not None else _cell("–") for code in _codes(table)
        ]
        rows.append([_cell(name), *cells])
    words = (
        "Kolmogorov-Smirnov distance, 0 to 1, of each source from the images of its class that the heads were validated on (sources of "
        f"no class: from the real ones); {DRIFT} and more is coloured. Where a source lies far away, the detectors' figures need not hold."
    )
    parts = [_text(words), _table(["", *(group.title for group in table.groups)], rows)] if rows else []
    return _section("Drift against the reference tables", *parts, _text(references.note) if references.note else "")


def _codes(table: ScoreTable) -> range:
    return range(len(table.groups))


def _concepts(table: ScoreTable) -> str:
    if "concepts" not in table.columns:
        return ""
    usage = measures.concept_usage(table)
    if not usage.size or not np.isfinite(usage).any():
        return ""
    names = table.facts["concepts"] or [f"concept {place + 1}" for place in range(usage.shape[1])]
    strength = np.nanmax(np.abs(usage), axis=0)
    top = float(strength.max()) or 1.0
    shade: Callable[[float], str] = lambda value: _cell("–") if np.isnan(value) else _cell(f"{value:+.3f}", value / top)  # noqa: E731
    order = np.argsort(-strength)[:CONCEPTS]
    rows = [[_cell(names[place]), *(shade(float(value)) for value in usage[:, place])] for place in order]
    words = f"Mean contribution in logits, above 0 speaks for synthetic; the {len(order)} strongest of {usage.shape[1]} concepts."
    return _section("Concepts by source", _text(words), _table(["concept", *(group.title for group in table.groups)], rows))


def _duplicates(table: ScoreTable) -> str:
    count, sets = same_files(table, EXAMPLES)
    parts = [_text(f"{count:,} files are there more than once, byte for byte."), *(_text(" = ".join(map(_name, keys))) for keys in sets)]
    column = next((name for name in ("projected", "pooled") if name in table.columns), None)
    if column is None:
        return _section("Duplicates", *parts, _text("Similar pictures are looked for where the table holds embeddings (score --features)."))
    pairs, cut = similar_pictures(table, column)
    keys = table.keys([place for pair in pairs[:EXAMPLES] for place in pair[1:]])
    words = f"{'At least ' if cut else ''}{len(pairs):,} pairs of pictures have a cosine of {COSINE} or more between their embeddings."
    rows = [
        [_cell(round(cosine, 4)), *(_cell(f"{_name(key)} ({source})") for key, source in (keys[a], keys[b]))]
        for cosine, a, b in pairs[:EXAMPLES]
    ]
    return _section("Duplicates", *parts, _text(words), _table(["cosine", "", ""], rows) if rows else "")


def _name(key: str) -> str:
    return key.rpartition("/")[2]
