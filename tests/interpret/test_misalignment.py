"""Reading ITEM: sentences, tables, boxes that are seen, heat in its place, the score among others."""

import numpy as np
import pytest

from interpret.misalignment import (
    COLOURS,
    QUOTE_LENGTH,
    ItemScores,
    as_html,
    draw_boxes,
    heat_overlay,
    histogram,
    histogram_rows,
    null_sentence,
    resize,
    rows,
    sentence,
)

ITEM = {
    "caption": "a dog with a <b>ball</b>",
    "caption_source": "user",
    "global": 0.312,
    "objects": [{"phrase": "dog", "score": 0.40, "box": [10, 20, 60, 80]}, {"phrase": "ball", "score": 0.11, "box": [50, 5, 95, 50]}],
}
EMPTY = {"caption": "", "caption_source": "embedded", "global": None, "objects": []}


def test_the_sentence_names_score_rank_source_and_the_weakest():
    assert sentence(ITEM, 0.925) == (
        "“a dog with a <b>ball</b>” (your words) matches the picture with a cosine of +0.31, better than 92 % "
        "of other images' captions; of 2 objects “ball” matches its box least (+0.11)."
    )
    assert "written from the pixels" in sentence(ITEM | {"caption_source": "embedded"})
    assert sentence(ITEM | {"objects": []}).endswith("a cosine of +0.31; no object was looked for.")
    assert sentence(ITEM | {"objects": ITEM["objects"][:1]}).endswith("; its one object, “dog”, matches its box with +0.40.")


def test_without_a_caption_the_sentence_says_so():
    assert sentence(EMPTY) == "There is no usable caption for this image, so words and picture were not compared."
    listed = sentence(EMPTY | {"objects": ITEM["objects"]})
    assert "no usable caption" in listed and "only the objects" in listed and "“ball” matches its box least" in listed


def test_a_long_caption_is_quoted_in_part():
    text = sentence(ITEM | {"caption": "word " * 2000})
    assert len(text) < QUOTE_LENGTH + 200 and "word…”" in text


def test_the_null_tells_words_that_matter_from_words_that_do_not():
    null = np.linspace(-1, 1, 201)
    inside, outside = null_sentence(0.5, null), null_sentence(0.965, null, 0.2)
    assert "is +0.50: 75 % of 201 other images' captions" in inside and "-0.95 to +0.95" in inside and "matter no more" in inside
    assert "+0.96 (with its first caption +0.20): 98 %" in outside and "do move the score" in outside
    assert "do move" in null_sentence(-0.965, null)


def test_markup_is_shown_not_obeyed():
    shown = as_html(sentence(ITEM), "", "second")
    assert "&lt;b&gt;ball" in shown and "<b>" not in shown and shown.count("<p>") == 2


def test_rows():
    assert rows(ITEM) == [
        ["", "whole caption", "+0.312", "whole image"],
        ["1", "dog", "+0.400", "10, 20 – 60, 80"],
        ["2", "ball", "+0.110", "50, 5 – 95, 50"],
    ]
    assert rows(EMPTY) == [["", "no caption", "not defined", "whole image"]]


def test_boxes_are_drawn_where_they_are():
    pixels = np.full((100, 100, 3), 128, np.uint8)
    drawn = np.asarray(draw_boxes(pixels, ITEM))
    assert tuple(drawn[60, 10]) == COLOURS[0] and tuple(drawn[40, 94]) == COLOURS[1]
    assert (drawn[82:, :45] == 128).all() and (pixels == 128).all()  # elsewhere nothing, and not in the original
    np.testing.assert_array_equal(np.asarray(draw_boxes(pixels, EMPTY)), pixels)
    second = np.asarray(draw_boxes(pixels, ITEM, only=2))
    assert tuple(second[40, 94]) == COLOURS[1] and (second[60, 10] == 128).all()


def test_labels_of_equal_boxes_do_not_cover_each_other():
    for box in ([0, 0, 300, 300], [200, 260, 300, 300]):  # at the upper left, and in the lower right corner
        item = {"objects": [{"phrase": "x", "score": 0.1, "box": box}] * 5}
        drawn = np.asarray(draw_boxes(np.full((300, 300, 3), 128, np.uint8), item)).reshape(-1, 3)
        written = [int((drawn == colour).all(1).sum()) for colour in COLOURS]
        assert min(written) > 20  # each label's own colour is there


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 30), (720, 720)])
def test_pictures_are_drawn_at_one_size_and_boxes_move_along(size):
    pixels = np.zeros((*size, 3), np.uint8)
    height, width = size
    item = {"caption": "x", "objects": [{"phrase": "x", "score": 0.0, "box": [0, 0, width, height]}]}
    drawn, moved = resize(pixels, item)
    assert max(drawn.shape[:2]) == 720 and item["objects"][0]["box"] == [0, 0, width, height]
    assert moved["objects"][0]["box"][2:] == pytest.approx([drawn.shape[1], drawn.shape[0]], abs=1)
    draw_boxes(drawn, moved)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 30)])
def test_odd_pictures_can_be_drawn_on(size):
    pixels = np.zeros((*size, 3), np.uint8)
    whole = ITEM | {"objects": [{"phrase": "x", "score": 0.0, "box": [0, 0, size[1], size[0]]}]}
    assert draw_boxes(pixels, whole).size == size[::-1]
    assert heat_overlay(pixels, np.ones((3, 3), np.float32)).size == size[::-1]


def test_heat_lies_in_the_centre_square_on_one_scale():
    pixels, heat = np.full((60, 100, 3), 200, np.uint8), np.zeros((3, 3), np.float32)
    heat[0, 0] = 0.25
    drawn = np.asarray(heat_overlay(pixels, heat, reach=0.25)).astype(int)
    assert (drawn[:, :20] == 70).all() and (drawn[:, 80:] == 70).all()  # unseen: dark
    assert (drawn[50, 70] == 200).all()  # no heat: the picture in grey
    warm, faint = drawn[5, 25], np.asarray(heat_overlay(pixels, heat / 5, reach=0.25)).astype(int)[5, 25]
    assert warm[0] - warm[2] > 80 and 0 < faint[0] - faint[2] < 40
    assert (np.asarray(heat_overlay(pixels, -heat))[5, 25] == 200).all()


def test_histogram_shares_and_mark():
    figure = histogram(ItemScores([-1.0, -1, -1, 1], [1.0, 1], [0.0] * 5, 0.5))
    assert [trace.name for trace in figure.data] == ["real", "synthetic", "this image, other captions", "this image"]
    assert [sum(trace.y) for trace in figure.data[:3]] == pytest.approx([1, 1, 1])
    assert figure.data[0].y[0] == pytest.approx(0.75) and figure.data[3].x == (0.5, 0.5)
    assert len(histogram(ItemScores([], [], [], None)).data) == 0


def test_histogram_rows_by_hand():
    found = histogram_rows(ItemScores([-1.0, 0.0, 1.0], [2.0], [], 0.5))
    assert found == [["real", "-0.80", "+0.00", "+0.80", "67 %"], ["synthetic", "+2.00", "+2.00", "+2.00", "0 %"]]
    assert histogram_rows(ItemScores([1.0], [], [], None))[0][-1] == "not defined"
