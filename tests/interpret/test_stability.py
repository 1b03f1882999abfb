"""interpret/stability.py: flips are found and said, in passes of bounded size, for whatever methods there are."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.special import expit

from detector.analysis import Analysis
from detector.data.images import load_photo
from detector.data.perturbations import VARIANTS
from detector.detectors.names import DetectorName
from detector.suite import Suite
from detector.verdict.fusion import Verdict
from interpret import stability as module
from interpret.render.text import method_name
from interpret.stability import PIXEL_LIMIT, Outcome, Stability, details, headers, rows, stability, stability_chart, verdict_sentence

NAMES = [variant.name for variant in VARIANTS]


class Sharpness:
    """Stands in for a suite: calls an image synthetic where neighbouring pixels differ much, real where they differ little."""

    released = Suite(None, {}, {}, None).released
    roster = SimpleNamespace(leading=None, names={"sharpness": DetectorName("pixels", "sharpness")})

    def __init__(self):
        self.passes = []

    def analyze_photos(self, photos):
        self.passes.append([photo.width * photo.height for photo in photos])
        return [self._analysis(photo.pixels) for photo in photos]

    @staticmethod
    def _analysis(pixels):
        logit = float(np.abs(np.diff(pixels.astype(float), axis=1)).mean()) - 30
        label = "synthetic" if logit > 5 else "real" if logit < -5 else "inconclusive"
        return Analysis(
            None, detectors={"sharpness": {"probability": float(expit(logit))}}, verdict=Verdict(label, float(expit(logit)), logit, {}, 0)
        )


@pytest.fixture(scope="module")
def noise():
    return load_photo(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))


def test_a_picture_known_to_flip_flips_where_its_noise_is_lost(noise):
    found = stability(Sharpness(), noise)
    assert [outcome.name for outcome in found.outcomes] == NAMES
    assert found.outcomes[0].label == "synthetic"
    # noise survives a crop, a mirror and mild compression; a blur of one pixel takes nearly all of it
    assert "blur 1 px" in {o.name for o in found.flips} and "mirrored" not in {o.name for o in found.flips}
    assert {o.label for o in found.flips if o.name == "blur 1 px"} == {"real"}
    sentence = verdict_sentence(found)
    assert sentence.startswith("The verdict flips from synthetic to real when the image is ") and "blurred by 1 px" in sentence


def test_a_picture_known_to_hold_holds():
    found = stability(Sharpness(), load_photo(np.full((80, 80, 3), 120, np.uint8)))
    assert not found.flips and verdict_sentence(found) == "The verdict stays real under all 11 changes."


def test_passes_are_bounded_in_pictures_and_in_pixels_with_the_same_result(noise, monkeypatch):
    whole, parts = Sharpness(), Sharpness()
    monkeypatch.setattr(module, "PASS_SIZE", 100)
    expected = stability(whole, noise)
    assert len(whole.passes) == 1
    monkeypatch.undo()
    assert stability(few := Sharpness(), noise).outcomes == expected.outcomes
    assert max(map(len, few.passes)) == module.PASS_SIZE
    monkeypatch.setattr("detector.suite.BATCH_PIXELS", 40_000)
    assert stability(parts, noise).outcomes == expected.outcomes
    assert len(parts.passes) > 3 and max(map(sum, parts.passes)) <= 40_000
    assert [count for counts in parts.passes for count in counts] == whole.passes[0]


def test_a_huge_picture_is_shrunk_and_said_to_be(noise, monkeypatch):
    monkeypatch.setattr(module, "PIXEL_LIMIT", 3000)
    found = stability(Sharpness(), noise)
    assert found.shrunk and "first shrunk" in details(found)
    assert not stability(Sharpness(), load_photo(noise.pixels[:50, :60])).shrunk


def test_the_largest_pass_fits_the_bound():
    from detector.suite import BATCH_PIXELS

    assert PIXEL_LIMIT * 1.5**2 <= BATCH_PIXELS  # even the enlargement of the largest picture


def test_changes_that_a_format_cannot_hold_are_left_out_and_named():
    found = stability(Sharpness(), load_photo(np.full((1, 20_000, 3), 90, np.uint8)))
    assert found.left_out == ("WebP 80",) and len(found.outcomes) == 11
    assert "WebP 80" in details(found) and "under all 10 changes" in verdict_sentence(found)


# --- with the shipped model ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(suite, picture):
    return stability(suite, load_photo(picture))


def test_as_it_is_agrees_with_the_analysis(suite, picture, found):
    analysis = suite.analyze(picture)
    first = found.outcomes[0]
    assert first.label == analysis.verdict.label and first.probability == pytest.approx(analysis.verdict.probability, abs=1e-4)
    assert set(first.probabilities) == set(suite.heads)
    for method, probability in first.probabilities.items():
        assert probability == pytest.approx(analysis.detectors[method]["probability"], abs=1e-4)


def test_a_variant_is_scored_like_the_changed_file(suite, picture, found):
    own = dict(zip(NAMES, found.outcomes, strict=True))["JPEG 50"]
    data = cv2.imencode(".jpg", cv2.cvtColor(load_photo(picture).pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    saved = suite.analyze(data.tobytes())
    assert own.probability == pytest.approx(saved.verdict.probability, abs=0.02)  # decoders round differently


def test_a_copy_whose_caption_says_nothing_leaves_item_out_there_alone(suite, picture, monkeypatch):
    photo = load_photo(picture)
    own, without = suite.analyze(photo), suite.analyze(photo, caption="?!")
    assert "item" not in without.detectors
    answers = iter([own, *[without] * 50])
    monkeypatch.setattr(Suite, "analyze_photos", lambda self, photos, caption=None: [next(answers) for _ in photos])
    found = stability(suite, photo)
    assert found.outcomes[0].probabilities["item"] is not None
    assert all(outcome.probabilities["item"] is None for outcome in found.outcomes[1:])
    column = headers(found).index(method_name("item"))
    assert [row[column] for row in rows(found)][1:] == ["–"] * (len(found.outcomes) - 1)
    assert "Image against caption" not in details(found)
    stability_chart(found)


def test_any_subset_of_methods_and_none_of_the_verdict(suite, picture):
    small = Suite(suite.backbone, {"physical": suite.heads["physical"]}, {}, None)
    found = stability(small, load_photo(picture))
    assert found.band is None and {tuple(o.probabilities) for o in found.outcomes} == {("physical",)}
    assert verdict_sentence(found).startswith("There is no verdict") and rows(found)[0][1] == "none"
    assert [trace.name for trace in stability_chart(found).data] == ["Physical descriptors"]


def test_a_tiny_picture_gets_no_label_but_an_answer(suite):
    found = stability(suite, load_photo(np.zeros((1, 1, 3), np.uint8)))
    assert {outcome.label for outcome in found.outcomes} == {"inconclusive"} and len(rows(found)) == 12


def test_the_method_that_moves_most_is_named():
    outcomes = (
        Outcome("as it is", "", {"physical": 0.5, "concepts": 0.2}, "real", 0.1),
        Outcome("JPEG 50", "saved as JPEG 50", {"physical": 0.6, "concepts": 0.2}, "real", 0.3),
        Outcome("mirrored", "mirrored", {"physical": 0.5, "concepts": 0.9}, "real", 0.2),
    )
    assert details(Stability(outcomes)) == (
        "Its probability lies between 10 % and 30 %. Most moved of the methods: Photographic concepts, "
        "from 20 % to 90 % when the image is mirrored."
    )


def test_chart_and_table_show_the_same_numbers(found, suite):
    figure, table = stability_chart(found), rows(found)
    assert len(figure.data) == len(suite.heads) + 1 and figure.data[-1].name == "Verdict"
    for column, method in enumerate(suite.heads, start=2):
        trace = figure.data[column - 2]
        assert list(trace.x) == [outcome.probabilities[method] for outcome in found.outcomes] and list(trace.y) == NAMES
        assert [row[column] for row in table] == [f"{100 * x:.0f} %" for x in trace.x]
    assert [row[1] for row in table] == [f"{100 * o.probability:.0f} % {o.label}" for o in found.outcomes]
    assert {len(row) for row in table} == {len(headers(found))}
    field = figure.layout.shapes[0]
    assert (field.x0, field.x1) == pytest.approx(tuple(expit(edge) for edge in suite.fusion.band))


# --- words ---------------------------------------------------------------------------------------------------------


def told(first: str, **labels: str) -> str:
    """The sentence for a picture with label `first` whose changes, by their words, get other labels."""
    outcomes = [Outcome(words, words.replace("_", " "), {}, label, 0.5) for words, label in {"as_it_is": first, **labels}.items()]
    return verdict_sentence(Stability(tuple(outcomes)))


@pytest.mark.parametrize(
    "sentence, expected",
    [
        (told("synthetic", saved_as_JPEG_50="real"), "The verdict flips from synthetic to real when the image is saved as JPEG 50."),
        (
            told("real", mirrored="real", saved_as_JPEG_70="synthetic", saved_as_JPEG_50="synthetic", mirrored_twice="synthetic"),
            "The verdict flips from real to synthetic when the image is saved as JPEG 70, JPEG 50 or mirrored twice.",
        ),
        (
            told("synthetic", blurred="real", mirrored="inconclusive"),
            "The verdict flips from synthetic to real when the image is blurred, and it changes from synthetic to inconclusive "
            "when the image is mirrored.",
        ),
        (told("inconclusive", mirrored="synthetic"), "The verdict changes from inconclusive to synthetic when the image is mirrored."),
        (told("inconclusive", mirrored="inconclusive"), "The verdict stays inconclusive under all 1 changes."),
    ],
)
def test_flips_in_words(sentence, expected):
    assert sentence == expected
