"""interpret/render/figures.py: charts show the analysis' own numbers, on the right side, and tables agree with them."""

import json

import numpy as np
import pytest

from detector.data.images import load_photo
from detector.methods.physical.features import NAMES
from interpret.render import figures


@pytest.fixture(scope="module")
def record(suite, picture):
    return suite.analyze(picture).to_dict()


def test_descriptor_chart_places_the_image(suite, record):
    figure = figures.descriptor_chart(record, suite.heads["physical"])
    own = figure.data[1]
    assert list(own.x) == [record["physical_percentiles"][name]["real"] for name in NAMES]
    assert len(own.y) == 15 and sum("★" in label for label in own.y) == 5


def test_contributions_point_and_colour_by_their_sign(record):
    figure = figures.concept_chart(record)
    bars = figure.data[0]
    assert list(bars.x) == [c["contribution"] for c in record["concepts"][: figures.BARS]]
    assert all((colour == figures.SYNTHETIC) == (x > 0) for x, colour in zip(bars.x, bars.marker.color, strict=True))
    for label, concept in zip(bars.y, record["concepts"], strict=False):
        assert label.startswith(concept["positive"] if concept["activation"] > 0 else concept["negative"])


def test_tables_hold_what_the_charts_show(record):
    described = figures.descriptor_rows(record)
    assert {row[2] for row in described} == {"not defined", ""}
    native = figures.descriptor_rows(record, [0.5, np.nan, *[1.0] * 13])
    assert [row[2] for row in native[:3]] == ["0.5", "not defined", "1"]
    assert [row[0] for row in described] == [*(name.replace("_", " ") for name in NAMES), "bias"]
    assert sum(float(row[5]) for row in described) == pytest.approx(record["detectors"]["physical"]["logit"], abs=0.08)
    assert float(figures.concept_rows(record)[0][3]) == pytest.approx(record["concepts"][0]["contribution"], abs=5e-4)
    units = figures.unit_rows(record)
    assert all("Chance" in row[2] for row in units[:-1])
    assert sum(float(row[4]) for row in units) == pytest.approx(record["detectors"]["orthogonal"]["logit"], abs=6e-3)


def test_a_descriptor_that_is_not_defined_says_so(suite, record):
    odd = json.loads(json.dumps(record))
    odd["physical"]["spectral_slope"] = None
    odd["physical_percentiles"]["spectral_slope"] = {"real": None, "synthetic": None}
    row = next(row for row in figures.descriptor_rows(odd) if row[0] == "spectral slope")
    assert row[1:4] == ["not defined"] * 3
    figures.descriptor_chart(odd, suite.heads["physical"]).to_json()


def test_an_unnamed_unit_is_called_so():
    found = {"named": [True, False], "names": [[{"pole": "soft blur"}], [{"pole": "haze"}]], "text_span": [[], []]}
    assert [figures.unit_label(found, i) for i in (0, 1)] == ["1: soft blur", "2: unnamed"]


def test_residual_chart_is_relative_to_the_mean_real_image(suite, picture):
    head = suite.heads["residual"]
    figure = figures.residual_chart(load_photo(picture).pixels, head)
    assert np.allclose(figure.data[0].y, 0)
    np.testing.assert_allclose(figure.data[1].y, (head.spectrum_synthetic - head.spectrum_real)[0], rtol=1e-5)


def test_selection_chart_has_a_cell_for_each_descriptor_and_source_with_its_sign():
    values = [0.5, -0.4, *[0.0] * 13]
    result = {
        "descriptors": list(NAMES),
        "paper_core": [NAMES[0]],
        "chosen": [NAMES[1]],
        "score": [0.1, 0.2, *[0.0] * 13],
        "relation": {"one": values, "two": values},
    }
    heatmap = figures.selection_chart(result).data[0]
    assert np.shape(heatmap.z) == (15, 2) and heatmap.y[0].endswith("●") and heatmap.y[1].endswith("★")
    assert heatmap.text[0][0] == "−" and heatmap.text[1][1] == "+" and heatmap.text[2][0] == "0"
