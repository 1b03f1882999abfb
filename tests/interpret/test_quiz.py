"""The quiz: which questions are drawn, what an answer is worth, and what must not happen out of turn."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sets import archive, jpeg, pictures

from detector.data.collections import ImageFile, read_collection
from interpret.teach import quiz as quizzes
from interpret.teach.quiz import PART, ROUND, Quiz, QuizError, Score, from_collection, from_examples
from interpret.what_if import Settings

LINES = ("Photograph: a", "Edited photograph: b", "Synthetic: c")


def examples(folder: Path) -> list[tuple[Path, str]]:
    rows = []
    for number, (line, pixels) in enumerate(zip(LINES, pictures(3, side=200), strict=True)):
        path = folder / f"{line.split()[0].lower()}-{number}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        rows.append((path, line))
    return rows


def collection(folder: Path, real: int, synthetic: int) -> list[ImageFile]:
    counts = {"real": real, "synthetic": synthetic}
    files = {f"{name}/{i}.jpg": jpeg(p) for k, (name, n) in enumerate(counts.items()) for i, p in enumerate(pictures(n, k))}
    return read_collection([archive(folder / "set.zip", files)])


def test_a_round_over_the_examples_has_as_many_of_both_kinds(tmp_path):
    quiz = from_examples(examples(tmp_path), seed=1)
    assert len(quiz.questions) == ROUND and sum(question.label for question in quiz.questions) == ROUND // 2
    kinds = {question.about.split(":")[0]: question.label for question in quiz.questions}
    assert kinds["Synthetic"] == 1 and set(kinds) <= {"Photograph", "Edited photograph", "Synthetic"}
    assert all(label == 0 for kind, label in kinds.items() if kind != "Synthetic")
    assert len({(question.about, question.crop) for question in quiz.questions}) == ROUND  # no question twice


def test_the_seed_decides_and_the_order_mixes_the_kinds(tmp_path):
    rows = examples(tmp_path)
    assert from_examples(rows, 3) == from_examples(rows, 3)
    orders = {tuple(question.label for question in from_examples(rows, seed).questions) for seed in range(20)}
    assert len(orders) > 5


def test_a_drawing_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(quizzes, "DRAWINGS", tmp_path)
    assert {question.crop for question in from_examples(examples(tmp_path)[1:], 1).questions} == {Settings()}


def test_a_question_over_an_example_shows_a_part_of_it(tmp_path):
    rows = examples(tmp_path)
    question = from_examples(rows, 1).questions[0]
    photo, whole = question.photo(), cv2.imread(str(question.file.path))[..., ::-1]
    side = round(PART * 200)
    assert photo.pixels.shape == (side, side, 3) and photo.name is None  # no name that would tell
    y, x = round(200 * question.crop.top), round(200 * question.crop.left)
    assert np.array_equal(photo.pixels, whole[y : y + side, x : x + side])


@pytest.mark.parametrize("real, synthetic, count", [(3, 1, 2), (9, 9, ROUND), (2, 6, 4)])
def test_a_collection_is_asked_evenly_and_in_whole_pictures(tmp_path, real, synthetic, count):
    quiz = from_collection(collection(tmp_path, real, synthetic), 0)
    assert len(quiz.questions) == count and sum(question.label for question in quiz.questions) == count // 2
    assert quiz.questions[0].photo().pixels.shape == (96, 96, 3)


def test_a_collection_of_one_kind_is_refused(tmp_path):
    for files in (collection(tmp_path, 3, 0), [ImageFile("a.png", tmp_path / "a.png")], []):
        with pytest.raises(QuizError, match="both kinds"):
            from_collection(files, 0)


def play(quiz: Quiz, guesses, verdicts) -> Quiz:
    for guess, verdict in zip(guesses, verdicts, strict=True):
        quiz = quiz.answered(guess, verdict).following()
    return quiz


def test_an_inconclusive_verdict_is_neither_right_nor_wrong(tmp_path):
    quiz = from_collection(collection(tmp_path, 2, 2), 0)
    truth = [question.label for question in quiz.questions]
    words = ["synthetic" if label else "real" for label in truth]
    wrong = {"synthetic": "real", "real": "synthetic"}[words[3]]
    done = play(quiz, [truth[0], 1 - truth[1], truth[2], truth[3]], [words[0], "inconclusive", "inconclusive", wrong])
    assert done.is_over and done.score == Score(visitor=3, detector=1, inconclusive=2, count=4)


def test_nothing_happens_out_of_turn(tmp_path):
    quiz = from_collection(collection(tmp_path, 1, 1), 0)
    with pytest.raises(QuizError, match="Guess first"):
        quiz.following()
    answered = quiz.answered(0, "real")
    with pytest.raises(QuizError, match="has been answered"):
        answered.answered(1, "real")
    end = answered.following().answered(0, "real").following()
    assert end.following() == end
    for step in (lambda: end.question, lambda: end.answered(0, "real")):
        with pytest.raises(QuizError, match="The round is over"):
            step()


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path):
    quiz = from_collection(collection(tmp_path, 2, 2), 0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    bad = quizzes.Question(ImageFile("real/broken.png", broken), 0, "broken")
    readable, photo = Quiz((bad, *quiz.questions[:1], bad)).readable()
    assert photo is not None and readable.questions == (quiz.questions[0], bad)
    following, photo = readable.answered(0, "real").following().readable()
    assert photo is None and following.is_over and following.score.count == 1
