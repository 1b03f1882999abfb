"""Charts as plotly figures. Blue is real and orange synthetic everywhere: a pair that the colour-blind can tell apart.

Every chart has a table with the same numbers (`*_rows`), because a chart cannot be read aloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from detector.clip.attributes import OPERATIONS
from detector.methods.physical.features import MEANING, NAMES, PAPER_CORE
from detector.records import AnalysisRecord, ConceptRecord, OrthogonalRecord

if TYPE_CHECKING:  # torch comes with the first image, not with the page
    from detector.methods.physical.head import PhysicalHead
    from detector.methods.residual.head import ResidualHead
    from interpret.concepts import DropCurve

REAL, SYNTHETIC, NEUTRAL = "rgb(0,114,178)", "rgb(213,94,0)", "rgb(110,118,129)"
INK = "rgb(120,60,160)"  # this image: readable on the light and on the dark page
REAL_SOFT, SYNTHETIC_SOFT = "rgba(0,114,178,0.22)", "rgba(213,94,0,0.55)"
BARS = 12  # contributions shown; the table has all


def colour_of(logit: float) -> str:
    """The colour of the side that a contribution in logits speaks for."""
    return SYNTHETIC if logit > 0 else REAL


def _layout(figure: go.Figure, rows: int, x_title: str, x_range: list[float] | None = None) -> go.Figure:
    """One look for all charts; transparent, so that it fits the light and the dark page."""
    figure.update_layout(
        height=90 + 26 * rows,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 13, "color": NEUTRAL},
        bargap=0.35,
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0},
        showlegend=False,
        dragmode=False,
    )
    grid = "rgba(128,128,128,0.25)"
    figure.update_xaxes(
        title={"text": x_title, "font": {"size": 12}}, range=x_range, gridcolor=grid, fixedrange=True, zerolinecolor="rgb(128,128,128)"
    )
    figure.update_yaxes(automargin=True, autorange="reversed", gridcolor="rgba(0,0,0,0)", fixedrange=True)
    return figure


def words_of(name: str) -> str:
    """A descriptor's name with spaces."""
    return name.replace("_", " ")


# --- descriptors ---------------------------------------------------------------------------------------------------


def descriptor_chart(record: AnalysisRecord, head: PhysicalHead | None) -> go.Figure | None:
    """Where each descriptor lies: the dot is this image, on the scale of percentiles among real reference images.

    The blue band holds the middle half of the real, the orange bar the middle half of the synthetic images. None without
    the head that knows the reference images.
    """
    if head is None:
        return None
    from detector.methods.physical.head import percentiles

    names = [words_of(name) + (" ★" if name in PAPER_CORE else "") for name in NAMES]
    low, middle, high = (percentiles(head.synthetic[q], head.real) for q in (25, 50, 75))
    figure = go.Figure()
    figure.add_vrect(x0=25, x1=75, fillcolor=REAL_SOFT, line_width=0, layer="below")
    for y, (start, end) in enumerate(zip(low, high, strict=True)):
        figure.add_shape(type="line", x0=start, x1=end, y0=y, y1=y, line={"color": SYNTHETIC_SOFT, "width": 7}, layer="below")
    figure.add_scatter(
        x=middle.tolist(),
        y=names,
        mode="markers",
        hovertemplate="synthetic median %{x:.0f}<extra>%{y}</extra>",
        marker={"symbol": "line-ns", "size": 13, "line": {"color": SYNTHETIC, "width": 3}},
    )
    places = [record["physical_percentiles"][name]["real"] for name in NAMES]
    values = [record["physical"][name] for name in NAMES]
    text = ["not defined" if value is None else f"{value:.4g}" for value in values]
    hover = [f"this image: {value}<br>high: {MEANING[name]}" for name, value in zip(NAMES, text, strict=True)]
    figure.add_scatter(
        x=places,
        y=names,
        mode="markers",
        customdata=hover,
        hovertemplate="%{customdata}<br>percentile %{x:.0f}<extra></extra>",
        marker={"size": 12, "color": INK, "line": {"color": "white", "width": 2}},
    )
    return _layout(figure, len(NAMES), "percentile among real images", [-3, 103])


def descriptor_rows(record: AnalysisRecord, native: Sequence[float] | np.ndarray | None = None) -> list[list]:
    """Descriptor, value at 256 pixels and at native scale, percentile among real and synthetic images, share in logits."""
    rows = []
    for j, name in enumerate(NAMES):
        place = record.get("physical_percentiles", {}).get(name, {"real": None, "synthetic": None})
        share = record.get("physical_contributions", {}).get(name)
        whole = None if native is None or not np.isfinite(native[j]) else float(native[j])
        rows.append(
            [
                words_of(name),
                _text(record["physical"][name], "{:.3g}"),
                _text(whole, "{:.3g}"),
                _text(place["real"], "{:.0f}"),
                _text(place["synthetic"], "{:.0f}"),
                _text(share, "{:+.2f}"),
            ]
        )
    return rows + bias_row(record, "physical", ["bias", "", "", "", ""], "{:+.2f}")


def bias_row(record: AnalysisRecord, method: str, start: list[str], form: str) -> list[list]:
    """The last row of a table of contributions: the bias, which is the logit minus the contributions. Nothing without the method."""
    score = record.get("detectors", {}).get(method)
    return [[*start, form.format(score["bias"])]] if score else []


def _text(value: float | None, form: str) -> str:
    return "not defined" if value is None else form.format(value)


def selection_chart(result: dict) -> go.Figure:
    """Heatmap of descriptor × source from `Selection.to_dict()`: orange where a higher value speaks for synthetic, blue where a
    lower one does, with the sign and the AUROC in each cell; the best scored on top, ★ paper's core, ● chosen by these data."""
    order = np.argsort(-np.asarray(result["score"]), kind="stable").tolist()
    names = [result["descriptors"][j] for j in order]
    labels = [words_of(n) + (" ★" if n in result["paper_core"] else "") + (" ●" if n in result["chosen"] else "") for n in names]
    values = [[row[j] for row in result["relation"].values()] for j in order]
    text = [["+" if v > 0 else "−" if v < 0 else "0" for v in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(result["relation"]),
            y=labels,
            text=text,
            texttemplate="%{text}",
            zmin=-1,
            zmax=1,
            customdata=[[(v + 1) / 2 for v in row] for row in values],
            colorscale=[[0, REAL], [0.5, "rgb(245,245,245)"], [1, SYNTHETIC]],
            colorbar={"title": "2·AUROC − 1"},
            hovertemplate="%{y}, %{x}: AUROC %{customdata:.2f}<extra></extra>",
        )
    )
    return _layout(figure, len(names), "synthetic source")


# --- signed contributions ------------------------------------------------------------------------------------------


def contribution_chart(labels: list[str], values: list[float], hover: list[str]) -> go.Figure:
    """Signed bars in logits: to the right (orange) for synthetic, to the left (blue) for real."""
    figure = go.Figure(
        go.Bar(
            x=values,
            y=labels,
            orientation="h",
            marker_color=[colour_of(v) for v in values],
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    reach = max([abs(v) for v in values] + [0.05]) * 1.15
    return _layout(figure, len(values), "← leans towards real · leans towards synthetic →", [-reach, reach])


def pole(concept: ConceptRecord) -> str:
    """The phrase of the pole that the image is nearer to."""
    return concept["positive"] if concept["activation"] > 0 else concept["negative"]


def _edit_mark(concept: ConceptRecord) -> str:
    """A mark for concepts that an operation can bring about, which the embedded model was taught and tested on."""
    return " ✓" if concept["name"] in OPERATIONS else ""


def concept_chart(record: AnalysisRecord) -> go.Figure | None:
    """The concepts that push the concept model's logit most, named by the pole that the image is nearer to."""
    top = record.get("concepts", [])[:BARS]
    if not top:
        return None
    hover = [f"{c['positive']} ↔ {c['negative']}<br>activation {c['activation']:+.3f}, contribution {c['contribution']:+.3f}" for c in top]
    return contribution_chart([pole(c) + _edit_mark(c) for c in top], [c["contribution"] for c in top], hover)


def concept_rows(record: AnalysisRecord) -> list[list]:
    """Positive pole, negative pole, activation, contribution in logits; the largest contribution first."""
    return [
        [c["positive"] + _edit_mark(c), c["negative"], f"{c['activation']:+.3f}", f"{c['contribution']:+.3f}"]
        for c in record.get("concepts", [])
    ] + bias_row(record, "concepts", ["bias", "", ""], "{:+.3f}")


def unit_label(orthogonal: OrthogonalRecord, index: int) -> str:
    """A unit's number and the phrase that names it most strongly, or "unnamed"."""
    if not orthogonal["named"][index]:
        return f"{index + 1}: unnamed"
    by_correlation = orthogonal["names"][index] or orthogonal["text_span"][index]
    return f"{index + 1}: {by_correlation[0]['pole']}"


def unit_chart(record: AnalysisRecord) -> go.Figure | None:
    """Contributions of the orthogonal head's units."""
    orthogonal = record.get("orthogonal")
    if not orthogonal:
        return None
    labels = [unit_label(orthogonal, i) for i in range(len(orthogonal["named"]))]
    hover = [
        f"activation {a:+.3f}, contribution {c:+.3f}" for a, c in zip(orthogonal["activations"], orthogonal["contributions"], strict=True)
    ]
    return contribution_chart(labels, orthogonal["contributions"], hover)


def _unit_names(orthogonal: OrthogonalRecord, index: int) -> tuple[str, str]:
    """What is nearest by correlation and by TextSpan, in words with their strength; weak ones are said to be."""
    weak = "" if orthogonal["named"][index] else "unnamed; nearest: "
    named = "; ".join(f"{n['pole']} (r = {n['correlation']:.2f})" for n in orthogonal["names"][index][:2])
    if not named:
        weak = "no reference images here"
    spanned = "; ".join(f"{step['pole']} ({100 * step['cumulative']:.0f} %)" for step in orthogonal["text_span"][index][:2])
    return weak + named, f"{spanned or 'nothing'}. Chance: {100 * orthogonal['chance'][index]:.0f} %"


def unit_rows(record: AnalysisRecord) -> list[list]:
    """Unit, names by correlation, names by TextSpan, activation, contribution in logits; the bias last."""
    orthogonal = record.get("orthogonal")
    if not orthogonal:
        return []
    rows = [
        [str(i + 1), *_unit_names(orthogonal, i), f"{activation:+.3f}", f"{contribution:+.3f}"]
        for i, (activation, contribution) in enumerate(zip(orthogonal["activations"], orthogonal["contributions"], strict=True))
    ]
    return [*rows, ["bias", "", "", "", f"{orthogonal['bias']:+.3f}"]]


# --- probing -------------------------------------------------------------------------------------------------------


def cosine_chart(cosines: list[float]) -> go.Figure | None:
    """How far each unit's direction points along a typed concept's, −1 to 1; no side for real or synthetic."""
    if not cosines:
        return None
    labels = [f"unit {i + 1}" for i in range(len(cosines))]
    figure = go.Figure(
        go.Bar(x=cosines, y=labels, orientation="h", marker_color=INK, hovertemplate="%{y}: cosine %{x:+.3f}<extra></extra>")
    )
    reach = max([abs(v) for v in cosines] + [0.1]) * 1.15
    return _layout(figure, len(cosines), "cosine of the unit's direction with the concept's", [-reach, reach])


def drop_chart(curve: DropCurve | None, what: str) -> go.Figure | None:
    """The head's AUROC on the reference images, or its logit for this image, against the number of directions dropped.

    what: "auroc" or "logit". Bands hold nine in ten of the random draws.
    """
    if curve is None:
        return None
    values, k = getattr(curve, what), [str(count) for count in curve.k]
    figure = go.Figure()
    for kind, name, colour in (("isotropic", "random", NEUTRAL), ("natural", "random, as images vary", REAL)):
        band = "rgba(110,118,129,0.20)" if kind == "isotropic" else REAL_SOFT
        figure.add_scatter(
            x=k + k[::-1],
            y=values[f"{kind} high"] + values[f"{kind} low"][::-1],
            fill="toself",
            fillcolor=band,
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(x=k, y=values[f"{kind} mean"], name=name, mode="lines+markers", line={"color": colour, "width": 2})
    figure.add_scatter(x=k, y=values["named"], name="the strongest", mode="lines+markers", line={"color": SYNTHETIC, "width": 3})
    _layout(figure, 8, "directions dropped").update_layout(showlegend=True)
    figure.update_xaxes(type="category")
    title = "AUROC on reference images" if what == "auroc" else "logit of this image"
    return figure.update_yaxes(autorange=True, title=title)


# --- residual ------------------------------------------------------------------------------------------------------


def curve_chart(curves: dict[str, dict[str, np.ndarray]], layer: str, measure: str) -> go.Figure:
    """A heatmap's deletion or insertion curve among those of maps that know nothing of the detector.

    curves: map → measure → logits towards the side decided for; `layer` is the map in question.
    """
    figure, dashes = go.Figure(), iter(("dot", "dash", "dashdot"))
    for name, map_curves in curves.items():
        is_map, values = name == layer, map_curves[measure]
        line = {"color": INK, "width": 3} if is_map else {"color": NEUTRAL, "width": 2, "dash": next(dashes, "solid")}
        figure.add_scatter(
            x=np.linspace(0, 100, len(values)).tolist(),
            y=values.tolist(),
            name="this map" if is_map else name,
            mode="lines",
            line=line,
            hovertemplate=f"{name}: %{{y:+.2f}} logits at %{{x:.0f}} %<extra></extra>",
        )
    what = "deletion: % blurred" if measure == "deletion" else "insertion: % brought back"
    _layout(figure, 8, f"{what}, the map's highest places first").update_layout(showlegend=True)
    figure.update_yaxes(autorange=True, title={"text": "logit towards its side", "font": {"size": 12}}, gridcolor="rgba(128,128,128,0.25)")
    return figure


def residual_rows(record: AnalysisRecord) -> list[list]:
    """Group of residual features and its contribution in logits."""
    rows = [[name, f"{value:+.2f}"] for name, value in record.get("residual", {}).items()]
    return rows + bias_row(record, "residual", ["bias"], "{:+.2f}")


def residual_chart(pixels: np.ndarray, head: ResidualHead | None) -> go.Figure | None:
    """Luminance residual spectrum minus the mean real one, in log power: 0 is typically real, orange typically synthetic."""
    if head is None:
        return None
    from detector.methods.residual import features as residual

    frequency, spectrum = residual.spectrum(pixels)
    lines = (
        ("mean real", 0 * spectrum, REAL, 2),
        ("mean synthetic", head.spectrum_synthetic - head.spectrum_real, SYNTHETIC, 3),
        ("this image", spectrum - head.spectrum_real, INK, 3),
    )
    figure = go.Figure()
    for name, curves, colour, width in lines:
        figure.add_scatter(
            x=frequency.tolist(),
            y=curves[0].tolist(),
            name=name,
            mode="lines",
            line={"color": colour, "width": width},
            hovertemplate="%{x:.3f} cycles per pixel: %{y:+.2f}<extra>" + name + "</extra>",
        )
    _layout(figure, 8, "frequency (cycles per pixel)").update_layout(showlegend=True)
    return figure.update_yaxes(autorange=True, title="log power against mean real")
