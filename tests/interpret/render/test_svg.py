"""interpret/render/svg.py: positions worked out by hand, and text that stays text."""

import re
import xml.etree.ElementTree as ET

import plotly.graph_objects as go
import pytest

from interpret.render import figures
from interpret.render.svg import LABELS, MARGIN, ROW, WIDTH, ticks, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_ticks_are_round_numbers_within_the_range():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(-0.11, 0.11) == pytest.approx([-0.1, -0.05, 0, 0.05, 0.1])
    assert ticks(3, 3) == [3]


def test_bars_start_at_zero_and_end_at_their_value():
    figure = figures.contribution_chart(["one", "two"], [1.0, -0.5], ["", ""])
    bars = [r for r in ET.fromstring(to_svg(figure, "bars")).iter(f"{SVG}rect")]
    half = (WIDTH - MARGIN - LABELS) / 2
    assert float(bars[0].get("x")) == pytest.approx(LABELS + half, abs=0.1)
    assert float(bars[0].get("width")) == pytest.approx(half / 1.15, abs=0.2)  # the axis reaches 1.15 times the largest bar
    assert float(bars[1].get("x")) + float(bars[1].get("width")) == pytest.approx(LABELS + half, abs=0.1)
    assert float(bars[1].get("width")) == pytest.approx(half / 2.3, abs=0.2)
    assert float(bars[1].get("y")) - float(bars[0].get("y")) == ROW
    assert [b.get("fill") for b in bars] == [figures.SYNTHETIC, figures.REAL]


def test_curves_have_a_point_for_each_finite_value():
    figure = go.Figure()
    figure.add_scatter(x=[0, 1, 2], y=[0.0, float("nan"), 4.0], name="a<b", line={"color": "rgb(1,2,3)", "width": 2})
    root = ET.fromstring(to_svg(figure, "curves"))
    points = root.find(f"{SVG}polyline").get("points").split()
    assert len(points) == 2 and points[0].startswith("60") and points[1].startswith(str(WIDTH - MARGIN))
    assert float(points[0].split(",")[1]) > float(points[1].split(",")[1])  # larger values lie higher
    assert "a<b" in "".join(root.itertext())


def test_a_value_that_is_not_defined_has_no_mark():
    figure = go.Figure()
    figure.add_scatter(x=[1.0, None], y=["a", "b"], mode="markers", marker={"color": "rgb(1,2,3)"})
    assert len(re.findall("<circle", to_svg(figure, "dots"))) == 1


def test_words_are_escaped_and_other_charts_refused():
    figure = figures.contribution_chart(["<script>alert(1)</script>"], [1.0], [""])
    text = to_svg(figure, '"><script>')
    assert "<script" not in text and ET.fromstring(text) is not None
    with pytest.raises(ValueError, match="heatmap"):
        to_svg(go.Figure(go.Heatmap(z=[[1]])), "map")
