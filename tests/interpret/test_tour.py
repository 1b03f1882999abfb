"""The tour: each slider does what it says, and each sentence says what was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest

from detector.data.images import load_photo
from interpret.teach import tour
from interpret.teach.tour import STEPS, TourError, exchanged, moves, patched, show, start


@pytest.fixture(scope="module")
def first(suite, picture):
    return start(suite, load_photo(picture))


def test_there_are_six_steps():
    assert list(STEPS) == ["noise", "spectrum", "sharpness", "concepts", "caption", "where"]


@pytest.mark.parametrize("step", STEPS)
def test_an_amount_of_nothing_changes_nothing(suite, first, step):
    view = show(suite, first, step, 0.0)
    assert view.records[0] == view.records[1] and np.array_equal(np.asarray(view.before), np.asarray(view.after))
    assert view.sentence.endswith(".") and view.chart.startswith("<svg") and "nan" not in view.sentence


@pytest.mark.parametrize("step", STEPS)
def test_the_words_are_plain_and_one_sentence(suite, first, step):
    sentence = show(suite, first, step, 0.6).sentence
    assert sentence.endswith(".") and not re.search(r"\. [A-Z]", sentence) and not re.search("logit|cosine", sentence)


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?", text.replace("−", "-"))]


@pytest.mark.parametrize("step, name, way", [("noise", "noise_sigma", "rises"), ("sharpness", "laplacian_variance", "falls")])
def test_a_descriptor_s_sentence_holds_its_measured_values(suite, first, step, name, way):
    view = show(suite, first, step, 0.8)
    before, after = (record["physical"][name] for record in view.records)
    assert way in view.sentence and (after > before) == (way == "rises")
    assert numbers(view.sentence)[:2] == pytest.approx([before, after], rel=0.06)
    again = suite.analyze_photos([replace(first.photo, pixels=np.asarray(view.after))])[0].to_dict()
    assert again["physical"][name] == pytest.approx(after)


def test_the_spectrum_s_peak_is_that_of_the_pattern(suite, first):
    from detector.methods.residual.features import spectrum

    view = show(suite, first, "spectrum", 0.9)
    frequency, before = spectrum(first.photo.pixels)
    change = spectrum(np.asarray(view.after))[1][0] - before[0]
    assert f"at {frequency[np.abs(change).argmax()]:.2f} cycles" in view.sentence and "times higher" in view.sentence
    mild = show(suite, first, "spectrum", 0.1)
    assert numbers(mild.sentence)[1] < numbers(view.sentence)[1]


def test_the_concept_named_is_the_one_whose_contribution_moves_most(suite, first):
    view = show(suite, first, "concepts", 1.0)
    changes = {}
    for concept in view.records[1]["concepts"]:
        before = next(each for each in view.records[0]["concepts"] if each["name"] == concept["name"])
        phrase = concept["positive"] if concept["activation"] > 0 else concept["negative"]
        changes[phrase] = concept["contribution"] - before["contribution"]
    strongest = max(changes, key=lambda phrase: abs(changes[phrase]))
    assert f"“{strongest}”, towards {'synthetic' if changes[strongest] > 0 else 'real'}" in view.sentence
    assert "“heavy vignetting” rises" in view.sentence


def test_words_are_exchanged_one_by_one(suite, first):
    assert exchanged("a man on a rock.", 0) == "a man on a rock."
    assert exchanged("a man on a rock.", 1) == tour.OTHER_SCENE
    assert exchanged("a man on a rock.", 0.25).startswith("a red bus a rock") is True
    view = show(suite, first, "caption", 1.0)
    assert view.records[1]["item"]["caption"] == tour.OTHER_SCENE and tour.OTHER_SCENE in view.sentence
    assert numbers(view.sentence)[:2] == pytest.approx([record["item"]["global"] for record in view.records], abs=0.006)


def test_the_patch_is_made_and_everything_around_it_stays(first):
    pixels = first.photo.pixels
    changed, (x0, y0, x1, y1) = patched(pixels, 0.5)
    outside = np.ones(pixels.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    assert np.array_equal(changed[outside], pixels[outside])
    assert (changed[~outside] != pixels[~outside]).mean() > 0.3
    assert (x1 - x0) * (y1 - y0) == pytest.approx(0.25 * outside.size, rel=0.03)
    assert patched(pixels, 0.0)[1] is None


@pytest.mark.parametrize(
    "means, words",
    [
        ([(0.0, 0.0), (1.0, 0.2)], "points to the patch"),
        ([(0.0, 0.0), (-1.0, 0.2)], "points away from the patch"),
        ([(1.0, -1.0), (1.1, -1.0)], "hardly tells the patch apart"),
    ],
)
def test_the_map_s_sentence_follows_the_gain_inside(means, words):
    assert words in tour._where_words(means)


def test_where_measures_the_map_inside_and_outside(suite, first):
    view = show(suite, first, "where", 0.7)
    from interpret.attribution import explain

    changed, (x0, y0, x1, y1) = patched(first.photo.pixels, 0.7 * tour.PATCH)
    values = explain.explain(suite, replace(first.photo, pixels=changed), ["residual"], tour.WINDOWS).maps["residual"].values
    assert f"{np.nanmean(values[y0:y1, x0:x1]):+.2f} inside" in view.sentence.replace("−", "-")


def test_moves():
    assert moves(1, 2, "{:.0f}") == "rises from 1 to 2" and moves(2, 1, "{:.0f}") == "falls from 2 to 1"
    assert moves(1.01, 1.02, "{:.1f}") == "stays at 1.0"


def test_what_cannot_be_shown_is_one_sentence(suite, first):
    with pytest.raises(TourError, match="no step of that name"):
        show(suite, first, "<b>", 0.5)
    bare = replace(first, record={key: value for key, value in first.record.items() if key not in ("item", "concepts", "physical")})
    for step, words in (("noise", "descriptors"), ("concepts", "concepts"), ("caption", "caption")):
        with pytest.raises(TourError, match=words):
            show(suite, bare, step, 0.5)


def test_a_large_picture_is_shrunk(suite, photographs):
    import cv2

    large = cv2.resize(photographs[0], (1500, 1000))
    assert start(suite, load_photo(large)).photo.pixels[..., 0].size <= tour.PIXEL_LIMIT
