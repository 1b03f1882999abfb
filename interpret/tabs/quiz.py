"""The quiz "photographed or made?": guess first, then the cues and the score. What a picture is stays on the server until the guess."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from detector.data.datasets import DataError
from detector.records import AnalysisRecord
from interpret.panels import components as parts
from interpret.panels.service import get_suite
from interpret.panels.stored_maps import reduced
from interpret.render import teach as words
from interpret.tabs.inputs import files_of, folder_choice, many_files
from interpret.tabs.links import AnalyzeLinks
from interpret.tabs.slides import full_screen_button
from interpret.teach.quiz import NAMES, UNSURE, Quiz, QuizError, from_collection, from_examples

SIDE, QUALITY = 1_000, 95  # pixels and JPEG quality of the picture on the page: the visitor's eyes get nearly what the detector reads
ABOUT = "Guess first; then see what the detector says and what it goes by."
FOCUS_NEXT = "() => { setTimeout(() => document.querySelector('#quiz-next')?.focus(), 150) }"


@dataclass(frozen=True)
class QuizTab:
    """files, allowed: pictures of the visitor's own. start: the button. question: the picture. choices: the row of both buttons,
    photographed and made. guess: which of them. answer, score: HTML. following: the button. quiz: the round, of this session."""

    files: gr.File
    allowed: gr.Dropdown
    start: gr.Button
    question: gr.HTML
    choices: gr.Row
    photographed: gr.Button
    made: gr.Button
    guess: gr.Textbox
    answer: gr.HTML
    following: gr.Button
    score: gr.HTML
    quiz: gr.State


class QuizValues(NamedTuple):
    """Values of `QuizTab`, in the order in which the endpoints give them."""

    question: str
    choices: gr.Row
    answer: str
    following: gr.Button
    score: str
    quiz: Quiz | None


class AnswerValues(NamedTuple):
    """Values of `QuizTab` after a guess; the picture stays."""

    choices: gr.Row
    answer: str
    following: gr.Button
    score: str
    quiz: Quiz | None


def build_quiz(links: AnalyzeLinks) -> None:
    """The part, and what its buttons do."""
    tab = _layout()
    outputs, answers = parts.outputs(tab, QuizValues), parts.outputs(tab, AnswerValues)
    panels: dict[str, Any] = {"concurrency_id": "panels", "trigger_mode": "once", "show_progress_on": tab.question}
    tab.start.click(quiz_start, [tab.files, tab.allowed], outputs, api_name="quiz_start", **panels)
    tab.following.click(quiz_next, tab.quiz, outputs, api_name="quiz_next", **panels)
    line: dict[str, Any] = {"concurrency_id": "model", "trigger_mode": "once", "show_progress_on": tab.answer}
    for label, button in enumerate((tab.photographed, tab.made)):
        name: dict[str, Any] = {"api_visibility": "private"} if label else {"api_name": "quiz_guess"}
        script = f"(guess, in_use, quiz) => ['{NAMES[label]}', in_use, quiz]"
        event = button.click(quiz_guess, [tab.guess, links.in_use, tab.quiz], answers, js=script, **name, **line)
        event.success(None, None, None, js=FOCUS_NEXT, show_progress="hidden")


def _layout() -> QuizTab:
    with gr.Column(elem_id="teach-quiz", elem_classes="lesson"):
        with gr.Row(elem_classes="lesson-head"):
            gr.Markdown(ABOUT)
            full_screen_button("teach-quiz")
        with gr.Row(elem_classes="stack", equal_height=False):
            with gr.Column(scale=3, min_width=280):
                question = gr.HTML("", elem_id="quiz-question")
            with gr.Column(scale=2, min_width=280):
                with gr.Row(visible=False, elem_id="quiz-choices") as choices:
                    photographed = gr.Button("Photographed", variant="primary", min_width=110, elem_id="quiz-photographed")
                    made = gr.Button("Made", variant="primary", min_width=110, elem_id="quiz-made")
                answer = gr.HTML("", elem_id="quiz-answer")
                score = gr.HTML("", elem_id="quiz-score")
                following = gr.Button("Next", variant="primary", visible=False, elem_id="quiz-next")
        start = gr.Button("Start a round", elem_id="quiz-start")
        with gr.Accordion("Pictures of your own", open=False, elem_classes="own"):
            gr.Markdown(
                "A zip archive with photographs in a folder named `real` and made pictures in one named `synthetic`; "
                "without one, the quiz shows parts of the examples."
            )
            files, allowed = many_files("Zip archives", "quiz-files"), folder_choice("A folder of this server")
    guess = gr.Textbox(NAMES[0], visible=False, label="guess")
    return QuizTab(files, allowed, start, question, choices, photographed, made, guess, answer, following, score, gr.State())


# --- actions -------------------------------------------------------------------------------------------------------


def quiz_start(files: list[str] | None, allowed: str = "") -> QuizValues:
    """Start a round of the quiz "photographed or made?" in this session.

    Args:
        files: zip archives with folders named real and synthetic; none for the examples.
        allowed: a folder that the server offers, beside or in place of the uploads; "" for none.

    Returns:
        The first picture in HTML; nothing about it; the score.
    """
    from interpret.examples import existing_examples

    seed = secrets.randbits(32)
    try:
        quiz = from_collection(files_of(files, allowed), seed) if files or allowed else from_examples(existing_examples(), seed)
    except (DataError, QuizError) as error:
        return _only(str(error))
    return _shown(quiz)


def quiz_guess(guess: str = NAMES[0], in_use: str = "embedded", quiz: Quiz | None = None) -> AnswerValues:
    """Answer the picture that the quiz shows in this session, then see what it is.

    Args:
        guess: photographed or made.
        in_use: the backbone or detector that plays against the visitor.

    Returns:
        What the picture is, what the detector says and what it goes by, in HTML; the score.
    """
    from detector.clip.backbone import BackboneError
    from detector.data.images import ImageError
    from detector.detectors.names import DetectorError
    from detector.methods.base import HeadError

    if refusal := parts.refusal(guess, NAMES, "answer"):
        return _stays(refusal, quiz)
    if quiz is None:
        return _stays("Start a round first.", quiz)
    try:
        question = quiz.question
        record: AnalysisRecord = get_suite(in_use).analyze_photos([question.photo()])[0].to_dict()
        verdict = record.get("verdict")
        quiz = quiz.answered(NAMES.index(guess), verdict["label"] if verdict else UNSURE)
    except (BackboneError, DataError, DetectorError, HeadError, ImageError, QuizError) as error:
        return _stays(str(error), quiz)
    answer = words.answer_html(question, quiz.answers[-1], record)
    return AnswerValues(gr.Row(visible=False), answer, gr.Button(visible=True), words.score_html(quiz.score), quiz)


def quiz_next(quiz: Quiz | None = None) -> QuizValues:
    """Go on to the next picture of the quiz of this session, or to the end of the round.

    Returns:
        The picture in HTML, or the summary at the end of the round; nothing about the picture; the score.
    """
    if quiz is None:
        return _only("Start a round first.")
    try:
        return _shown(quiz.following())
    except QuizError as error:
        return QuizValues(gr.skip(), gr.skip(), _line(str(error)), gr.skip(), gr.skip(), quiz)


def _shown(quiz: Quiz) -> QuizValues:
    """The question that comes next, or the end."""
    from PIL import Image

    quiz, photo = quiz.readable()
    score = words.score_html(quiz.score)
    if photo is None:
        return QuizValues(words.summary_html(quiz.score), gr.Row(visible=False), "", gr.Button(visible=False), "", quiz)
    picture = parts.inline_picture(Image.fromarray(reduced(photo.pixels, SIDE)), "The picture in question", QUALITY)
    return QuizValues(words.question_html(quiz, picture), gr.Row(visible=True), "", gr.Button(visible=False), score, quiz)


def _only(sentence: str) -> QuizValues:
    return QuizValues("", gr.Row(visible=False), _line(sentence), gr.Button(visible=False), "", None)


def _stays(sentence: str, quiz: Quiz | None) -> AnswerValues:
    """A sentence; all else stays as it is."""
    return AnswerValues(gr.skip(), _line(sentence), gr.skip(), gr.skip(), quiz)


def _line(sentence: str) -> str:
    return f'<p role="status">{escape(sentence)}</p>'
