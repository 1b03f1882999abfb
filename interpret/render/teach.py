"""The quiz and the tour as HTML; what comes from a file's name or a model is escaped."""

from __future__ import annotations

from html import escape

from detector.records import AnalysisRecord
from interpret.render.overview import cues
from interpret.teach.quiz import NAMES, Answer, Question, Quiz, Score
from interpret.teach.tour import STEPS, View


def question_html(quiz: Quiz, picture: str) -> str:
    """The picture, as HTML, over the question and its number."""
    words = f"Picture {quiz.position + 1} of {len(quiz.questions)}: photographed or made?"
    return f'<figure class="slide">{picture}<figcaption><h3>{words}</h3></figcaption></figure>'


def answer_html(question: Question, answer: Answer, record: AnalysisRecord) -> str:
    """What the picture is, what both said, and the cues."""
    verdict = record.get("verdict")
    percent = f" ({100 * verdict['probability']:.0f} % synthetic)" if verdict else ""
    detector = {True: "right", False: "wrong", None: "neither right nor wrong"}[answer.detector_is_right]
    you = "✓ You are right" if answer.visitor_is_right else "✗ You are wrong"
    items = "".join(f"<li>{escape(cue)}</li>" for cue in cues(record))
    return (
        f'<div class="card" role="status"><h3>{you}: {NAMES[question.label]}</h3><p>{escape(question.about)}.</p>'
        f"<p>You said {NAMES[answer.guess]}, the detector says {escape(answer.verdict)}{percent}: it is {detector}.</p>"
        f"<h4>What the detector goes by</h4><ol>{items or '<li>Nothing that it notices.</li>'}</ol></div>"
    )


def score_html(score: Score) -> str:
    """The running score; inconclusive verdicts on their own."""
    if not score.count:
        return ""
    unsure = f" It was inconclusive {_times(score.inconclusive)}, which is no point and no mistake." if score.inconclusive else ""
    return f'<p class="score"><b>You {score.visitor} : {score.detector} detector</b> after {score.count}.{unsure}</p>'


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def summary_html(score: Score) -> str:
    """The end of a round."""
    if not score.count:
        return '<div class="card"><h3>The round is over</h3><p>None of its pictures could be read; give others.</p></div>'
    gap = score.visitor - score.detector
    words = "You win" if gap > 0 else "The detector wins" if gap < 0 else "A draw"
    return (
        f'<div class="card" role="status"><h3>{words}: you {score.visitor}, detector {score.detector} of {score.count}</h3>'
        f"<p>The detector was wrong {_times(score.count - score.detector - score.inconclusive)} and inconclusive "
        f"{_times(score.inconclusive)}. A round this short says little about either of you.</p></div>"
    )


def heading_html(step: str) -> str:
    """The number of a step and its title."""
    return f"<h3>{list(STEPS).index(step) + 1} of {len(STEPS)}. {escape(STEPS[step].title)}</h3>"


def view_html(view: View, before: str, after: str) -> str:
    """Both pictures, as HTML, each with its verdict, the sentence, and the chart."""
    captions = [f"{words}: {_verdict_words(record)}" for words, record in zip(("As it is", "Changed"), view.records, strict=True)]
    figures = "".join(
        f'<figure class="slide">{picture}<figcaption>{escape(words)}</figcaption></figure>'
        for picture, words in zip((before, after), captions, strict=True)
    )
    words = f'<div class="said">{sentence_html(view.sentence)}<div class="chart">{view.chart}</div></div>'
    return f'<div class="pair">{figures}</div>{words}'


def sentence_html(sentence: str) -> str:
    """One sentence alone."""
    return f'<p class="sentence" role="status">{escape(sentence)}</p>'


def _verdict_words(record: AnalysisRecord) -> str:
    verdict = record.get("verdict")
    return f"{verdict['label']}, {100 * verdict['probability']:.0f} % synthetic" if verdict else "no verdict"
