"""The quiz "photographed or made?": its questions, what a visitor answers, and the score against the detector. All choices are ours.

A verdict of "inconclusive" is neither right nor wrong: it gives the detector no point and is counted on its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.data.collections import ImageFile
from interpret.examples import DRAWINGS
from interpret.what_if import Settings, changed_photo

if TYPE_CHECKING:
    from detector.data.images import Photo

ROUND = 8  # questions at most, half of them of each kind
PART = 0.7  # of each side of an example that a question shows, so that few examples give many questions
PARTS = [Settings(left=x, top=y, right=x + PART, bottom=y + PART) for x in (0.0, 1 - PART) for y in (0.0, 1 - PART)]
NAMES = ("photographed", "made")  # by label
KINDS = {"Photograph": 0, "Edited photograph": 0, "Synthetic": 1}  # first words of an example's line → label
UNSURE = "inconclusive"
ONE_KIND = (
    "The quiz needs pictures of both kinds: photographs in a folder named real, made ones in a folder named synthetic, "
    "both in one zip archive."
)


class QuizError(ValueError):
    """One sentence that says why there is no such step of a quiz."""


@dataclass(frozen=True)
class Question:
    """file: holds the picture. label: 0 photographed, 1 made. about: what the picture is, for after the guess. crop: the part shown."""

    file: ImageFile
    label: int
    about: str
    crop: Settings = field(default_factory=Settings)

    def photo(self) -> Photo:
        """The picture as the visitor and the detector see it. DataError or ImageError, one sentence, where it cannot be read."""
        return changed_photo(self.file.photo(), self.crop)


@dataclass(frozen=True)
class Answer:
    """guess: the visitor's label, 0 photographed, 1 made. verdict: the detector's: real, synthetic or inconclusive. label: the truth."""

    guess: int
    verdict: str
    label: int

    @property
    def visitor_is_right(self) -> bool:
        """Whether the visitor's guess is the truth."""
        return self.guess == self.label

    @property
    def detector_is_right(self) -> bool | None:
        """Whether the verdict is the truth; None for "inconclusive"."""
        return None if self.verdict == UNSURE else (self.verdict == "synthetic") == (self.label == 1)


@dataclass(frozen=True)
class Score:
    """Right answers of visitor and detector, and how often the detector was inconclusive, of `count` questions."""

    visitor: int
    detector: int
    inconclusive: int
    count: int


@dataclass(frozen=True)
class Quiz:
    """A round. answers: one for each question that was answered, in order. position: of the question shown, from 0."""

    questions: tuple[Question, ...]
    answers: tuple[Answer, ...] = ()
    position: int = 0

    @property
    def question(self) -> Question:
        """The question shown. QuizError where the round is over."""
        if self.is_over:
            raise QuizError("The round is over; start another one.")
        return self.questions[self.position]

    @property
    def is_answered(self) -> bool:
        """Whether the question shown has its answer."""
        return len(self.answers) > self.position

    @property
    def is_over(self) -> bool:
        """Whether the last question was passed."""
        return self.position >= len(self.questions)

    @property
    def score(self) -> Score:
        """The score so far."""
        rights = [answer.detector_is_right for answer in self.answers]
        visitor = sum(answer.visitor_is_right for answer in self.answers)
        return Score(visitor, rights.count(True), rights.count(None), len(self.answers))

    def answered(self, guess: int, verdict: str) -> Quiz:
        """The round with an answer to the question shown. QuizError where it has one already, or the round is over."""
        question = self.question
        if self.is_answered:
            raise QuizError("This picture has been answered; go on to the next one.")
        return replace(self, answers=(*self.answers, Answer(guess, verdict, question.label)))

    def following(self) -> Quiz:
        """The round at its next question. QuizError while the question shown is not answered."""
        if not self.is_over and not self.is_answered:
            raise QuizError("Guess first: photographed or made?")
        return replace(self, position=min(self.position + 1, len(self.questions)))

    def readable(self) -> tuple[Quiz, Photo | None]:
        """The round without the next questions whose pictures cannot be read, and the picture of the question shown, None at the end."""
        from detector.data.datasets import DataError
        from detector.data.images import ImageError

        quiz = self
        while not quiz.is_over:
            try:
                return quiz, quiz.question.photo()
            except (DataError, ImageError):
                left = quiz.questions[: quiz.position] + quiz.questions[quiz.position + 1 :]
                quiz = replace(quiz, questions=left)
        return quiz, None


def from_examples(examples: Sequence[tuple[Path, str]], seed: int) -> Quiz:
    """A round over the page's examples, (file, line) each: parts of them, small drawings whole, as many of made pictures as of
    photographs. An edited photograph counts as photographed. QuizError where one kind is missing."""
    questions = [
        Question(ImageFile(path.name, path), KINDS[line.partition(":")[0]], line, crop)
        for path, line in examples
        if line.partition(":")[0] in KINDS
        for crop in ([Settings()] if path.parent == DRAWINGS else PARTS)
    ]
    return _drawn(questions, seed)


def from_collection(files: Sequence[ImageFile], seed: int) -> Quiz:
    """A round over pictures whose folders say what they are. QuizError where the folders name only one kind, or none."""
    return _drawn([Question(file, file.label, f"The file is {_short(file.name)}") for file in files if file.label is not None], seed)


def _short(name: str) -> str:
    last = name.rpartition("/")[2]
    return last if len(last) <= 60 else f"{last[:59]}…"


def _drawn(questions: Sequence[Question], seed: int) -> Quiz:
    """At most `ROUND` of them in random order, as many of one kind as of the other, so that no constant answer wins."""
    generator = random.Random(seed)
    kinds = [[question for question in questions if question.label == label] for label in (0, 1)]
    count = min(ROUND // 2, *map(len, kinds))
    if not count:
        raise QuizError(ONE_KIND)
    chosen = [question for kind in kinds for question in generator.sample(kind, count)]
    generator.shuffle(chosen)
    return Quiz(tuple(chosen))
