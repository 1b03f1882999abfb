"""Teach: the quiz keeps its answer to itself, the tour and the hand-out answer in HTML, bad input gets one sentence."""

import re
from datetime import UTC, datetime

import pytest
from sets import archive, jpeg, pictures

from interpret.panels import service
from interpret.panels.links import step_of
from interpret.render.handout import METHODS, handout_html
from interpret.render.text import verdict_card
from interpret.tabs import handout, quiz, tour
from interpret.teach.tour import STEPS


@pytest.fixture(autouse=True)
def loaded(suite, monkeypatch, tmp_path):
    monkeypatch.setitem(service._suites, "embedded", suite)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.delenv("CUESCOPE_FOLDERS", raising=False)
    (tmp_path / "uploads").mkdir()


@pytest.fixture
def own(tmp_path):
    """A zip archive of two real and two synthetic pictures."""
    files = {f"{name}/{name}-{i}.jpg": jpeg(p) for k, name in enumerate(("real", "synthetic")) for i, p in enumerate(pictures(2, k))}
    return [str(archive(tmp_path / "set.zip", files))]


def test_a_round_from_the_first_picture_to_the_summary(own, suite):
    values = quiz.quiz_start(own)
    for number in range(1, 5):
        assert f"Picture {number} of 4" in values.question and values.choices.visible and not values.following.visible
        question = values.quiz.question
        answer = quiz.quiz_guess("made", quiz=values.quiz)
        truth = ("photographed", "made")[question.label]
        assert f"You are {'right' if question.label else 'wrong'}: {truth}" in answer.answer
        assert question.file.name.rpartition("/")[2] in answer.answer  # told after the guess alone
        verdict = suite.analyze_photos([question.photo()])[0].verdict
        assert f"the detector says {verdict.label} ({100 * verdict.probability:.0f} % synthetic)" in answer.answer
        assert 1 <= answer.answer.count("<li>") <= 3 and answer.following.visible and not answer.choices.visible
        values = quiz.quiz_next(answer.quiz)
    score = values.quiz.score
    assert values.answer == "" and not values.choices.visible
    assert score.visitor == 2 and f"you 2, detector {score.detector} of 4" in values.question


def test_nothing_but_the_state_on_the_server_holds_the_answer_before_the_guess(own):
    values = quiz.quiz_start(own)
    sent = re.sub(r"base64,[^\"]+", "", values.question) + values.answer + values.score
    assert not re.search(r"real|synthetic|\.jpg|\.zip", sent) and "/" not in re.sub(r"</|image/jpeg", "", sent)


def test_a_state_is_small(own):
    import pickle

    values = quiz.quiz_start(own)
    assert len(pickle.dumps(values.quiz)) < 4_000  # no pixels, no analysis


def test_a_second_guess_and_a_step_too_early_are_refused(own):
    first = quiz.quiz_start(own).quiz
    early = quiz.quiz_next(first)
    assert "Guess first" in early.answer and early.quiz == first
    answered = quiz.quiz_guess("made", quiz=first).quiz
    again = quiz.quiz_guess("photographed", quiz=answered)
    assert "has been answered" in again.answer and again.quiz == answered


def test_bad_input_gets_one_sentence(own, tmp_path):
    one_kind = str(archive(tmp_path / "one.zip", {"real/a.jpg": jpeg(pictures(1)[0])}))
    for values, words in (
        (quiz.quiz_start([one_kind]), "both kinds"),
        (quiz.quiz_start(None, "<b>"), "No folder of that name"),
        (quiz.quiz_next(None), "Start a round first"),
        (quiz.quiz_guess("made"), "Start a round first"),
        (quiz.quiz_guess("<b>", quiz=quiz.quiz_start(own).quiz), "There is no answer of that name"),
        (quiz.quiz_guess("made", "<b>", quiz.quiz_start(own).quiz), "not offered here"),
    ):
        assert words in values.answer and "<b>" not in values.answer and values.answer.count("<p") == 1


def test_the_examples_are_asked_about_where_nothing_is_given(monkeypatch, tmp_path):
    import interpret.examples as examples

    made = examples.make_examples(tmp_path / "examples")
    monkeypatch.setattr(examples, "existing_examples", lambda: made)
    values = quiz.quiz_start(None)
    assert "Picture 1 of 8" in values.question and not re.search("china|flower|Synthetic", values.question)
    monkeypatch.setattr(examples, "existing_examples", lambda: [])
    assert "both kinds" in quiz.quiz_start(None).answer


# --- tour ----------------------------------------------------------------------------------------------------------


def test_a_step_gives_both_pictures_a_sentence_and_a_chart(picture):
    first = tour.show_step(picture, step="sharpness", amount=0.5)
    assert first.view.count("<img") == 2 and first.view.count("<svg") == 1 and first.view.count('class="sentence"') == 1
    second = tour.show_step(picture, step="sharpness", amount=1, tour=first.tour)
    assert second.tour == first.tour and second.view != first.view


def test_the_picture_is_measured_once(picture, monkeypatch):
    from interpret.teach import tour as steps

    calls, real = [], steps.start
    monkeypatch.setattr(steps, "start", lambda *values: calls.append(1) or real(*values))
    first = tour.show_step(picture, step="sharpness", amount=0)
    tour.show_step(picture, step="noise", amount=0, tour=first.tour)
    assert len(calls) == 1
    tour.show_step(picture, "embedded/sdd", "noise", 0, first.tour)
    assert len(calls) == 2  # another detector


def test_wrong_values_of_the_tour_get_one_sentence(picture, tmp_path, monkeypatch):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no")
    monkeypatch.setattr(tour, "_first_example", lambda: None)
    for values, words in (
        (tour.show_step(picture, step="<b>"), "no step of that name"),
        (tour.show_step(picture, "<b>"), "not offered here"),
        (tour.show_step(str(broken)), "not an image"),
        (tour.show_step(None), "There is no picture"),
    ):
        assert words in values.view and "<b>" not in values.view and values.view.count("<p") == 1


def test_a_link_names_a_step():
    assert step_of("?tab=Teach&part=Tour&step=where") == "where" and step_of("") == ""
    assert tour.open_step(step_of("?step=caption"))[0] == "caption"
    opened = tour.open_step("<b>")
    assert opened.step == "noise" and "1 of 6" in opened.heading and opened.amount.label == STEPS["noise"].slider


# --- hand-out ------------------------------------------------------------------------------------------------------


def test_the_hand_out_holds_what_belongs_on_it(picture):
    record, current = service.analyze(picture)
    page = handout.make_handout(current)
    assert page.count("<img") == 2 and "temple" not in page and picture not in page
    verdict = record["verdict"]
    assert f"{100 * verdict['probability']:.0f} % synthetic" in page and f'class="sheet-verdict {verdict["label"]}"' in page
    assert page.count("<tr>") == len(record["detectors"]) and page.count("<ol>") == 1
    assert "How far to trust it" in page and "get a label" in page
    assert f"Cuescope {handout_version()}" in page and re.search(r"\d+ [A-Z][a-z]+ 20\d\d", page)


def handout_version() -> str:
    import tomllib

    from paths import ROOT

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_hand_out_is_bounded_and_escaped(picture):
    record, _ = service.analyze(picture)
    score = next(iter(record["detectors"].values()))
    many = record | {"detectors": {f"<b>{i}": score for i in range(40)}, "leader": "<i>"}
    page = handout_html(many, [], datetime(2026, 1, 2, tzinfo=UTC))
    assert page.count("<tr>") == METHODS and "<b>" not in page and "<i>" not in page and "2 January 2026" in page


def test_without_an_image_the_hand_out_is_one_sentence(tmp_path):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no")
    record, current = service.analyze(str(broken))
    assert "Analyse an image first" in handout.make_handout(None) == handout.make_handout(current)
    assert "cannot be analysed" in verdict_card(record)
