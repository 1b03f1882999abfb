"""Charts of a labelled set of images: logits by class, ROC curve, calibration curve."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from interpret.render.figures import INK, NEUTRAL, REAL, SYNTHETIC, _layout

HEIGHT = 320


def _square(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    _layout(figure, 0, x_title).update_layout(height=HEIGHT, showlegend=True)
    return figure.update_yaxes(title={"text": y_title, "font": {"size": 12}}, autorange=True, gridcolor="rgba(128,128,128,0.25)")


def logit_histogram(labels: np.ndarray, logits: np.ndarray, bins: int = 30) -> go.Figure:
    """How many images of each class (N,) have which logit; to the right speaks for synthetic."""
    edges = np.linspace(float(logits.min()), float(logits.max()) + 1e-9, bins + 1)
    middles, figure = (edges[1:] + edges[:-1]) / 2, go.Figure()
    for label, (name, colour) in enumerate((("real", REAL), ("synthetic", SYNTHETIC))):
        counts = np.histogram(logits[labels == label], edges)[0]
        figure.add_bar(x=middles.tolist(), y=counts.tolist(), name=name, marker={"color": colour}, opacity=0.6)
    return _square(figure, "← real · logit · synthetic →", "images").update_layout(barmode="overlay", bargap=0)


def roc_chart(labels: np.ndarray, logits: np.ndarray) -> go.Figure:
    """Share of synthetic images above each threshold against the share of real ones above it."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(labels, logits)
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "dash": "dot"}, name="chance")
    figure.add_scatter(x=false.tolist(), y=true.tolist(), mode="lines", line={"color": INK, "width": 2.5}, name="this set")
    return _square(figure, "real images called synthetic", "synthetic images called synthetic")


def calibration_chart(labels: np.ndarray, logits: np.ndarray) -> go.Figure:
    """Share of synthetic images among those of a probability, both classes weighing the same; on the dotted line it is as it says."""
    from detector.evaluation.metrics import reliability

    bins = reliability(labels, logits)["bins"]
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "dash": "dot"}, name="calibrated")
    points = {"x": [row["probability"] for row in bins], "y": [row["synthetic"] for row in bins]}
    sizes = [6 + 2 * np.sqrt(row["images"]) for row in bins]
    figure.add_scatter(**points, mode="lines+markers", line={"color": INK}, marker={"size": sizes}, name="this set")
    return _square(figure, "probability of synthetic", "share of synthetic images")


GROUPS = (REAL, SYNTHETIC, "rgb(0,158,115)", "rgb(204,121,167)", "rgb(180,140,20)", "rgb(86,160,200)", "rgb(140,86,75)", NEUTRAL)
FIXED = {"real": REAL, "synthetic": SYNTHETIC, "inconclusive": NEUTRAL}


def map_chart(places: np.ndarray, values: list, numbers: list[int], names: list[str]) -> go.Figure:
    """A dot for each image at its place (N, 2); values: numbers or words that colour it; numbers: which image a dot is."""
    figure = go.Figure()
    if values and isinstance(next((value for value in values if value is not None), ""), str):
        for place, group in enumerate(sorted(set(values))):
            rows = [index for index, value in enumerate(values) if value == group]
            _dots(figure, places, rows, (numbers, names), FIXED.get(group, GROUPS[place % len(GROUPS)]), group)
    else:
        numbers_of = [float("nan") if value is None else value for value in values]
        _dots(figure, places, list(range(len(values))), (numbers, names), numbers_of, "value")
        scale = [[0, REAL], [0.5, "rgb(220,220,220)"], [1, SYNTHETIC]]
        figure.update_traces(marker={"colorscale": scale, "showscale": True, "colorbar": {"thickness": 10}}, showlegend=False)
    _layout(figure, 0, "").update_layout(height=480, showlegend=True)
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False}
    return figure.update_xaxes(**bare).update_yaxes(**bare, autorange=True)


def _dots(figure: go.Figure, places: np.ndarray, rows: list[int], about: tuple[list[int], list[str]], colour, name: str) -> None:
    numbers, names = about
    figure.add_scatter(
        x=places[rows, 0].tolist(),
        y=places[rows, 1].tolist(),
        mode="markers",
        name=name,
        marker={"color": colour, "size": 8, "opacity": 0.8},
        customdata=[numbers[row] for row in rows],
        text=[names[row] for row in rows],
        hovertemplate="%{customdata}: %{text}<extra></extra>",
    )
