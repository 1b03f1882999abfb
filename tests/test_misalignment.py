"""Reading ITEM: sentences, tables, boxes that are seen, heat in its place, the score among others."""

import numpy as np
import pytest

from interpret.misalignment import COLOURS, boxed, card, heat_overlay, histogram, histogram_rows, rows, sentence

ITEM = {"caption": "a dog with a <b>ball</b>", "caption_source": "user", "global": 0.312,
        "objects": [{"phrase": "dog", "score": 0.40, "box": [10, 20, 60, 80]}, {"phrase": "ball", "score": 0.11, "box": [50, 5, 95, 50]}]}
EMPTY = {"caption": "", "caption_source": "embedded", "global": None, "objects": []}


def test_the_sentence_names_score_rank_source_and_the_weakest():
    assert sentence(ITEM, 0.925) == ("Picture and words match with a cosine of 0.31, better than 92 % of other images' captions "
                                     "(your caption: “a dog with a <b>ball</b>”); of 2 object(s) “ball” matches least (0.11).")
    assert "no object" in sentence(ITEM | {"objects": []}) and "no usable caption" in sentence(EMPTY)
    assert "from the pixels" in sentence(ITEM | {"caption_source": "embedded"})


def test_markup_is_shown_not_obeyed():
    assert "&lt;b&gt;ball" in card(ITEM) and "<b>" not in card(ITEM)


def test_rows():
    assert rows(ITEM) == [["", ITEM["caption"], "+0.312", "whole image"], ["1", "dog", "+0.400", "10, 20 – 60, 80"],
                          ["2", "ball", "+0.110", "50, 5 – 95, 50"]]
    assert rows(EMPTY) == [["", "no caption", "not defined", "whole image"]]


def test_boxes_are_drawn_where_they_are():
    pixels = np.full((100, 100, 3), 128, np.uint8)
    drawn = np.asarray(boxed(pixels, ITEM))
    assert tuple(drawn[60, 10]) == COLOURS[0] and tuple(drawn[40, 94]) == COLOURS[1]
    assert (drawn[82:, :45] == 128).all() and (pixels == 128).all()  # elsewhere nothing, and not in the original
    np.testing.assert_array_equal(np.asarray(boxed(pixels, EMPTY)), pixels)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 30)])
def test_odd_pictures_can_be_drawn_on(size):
    pixels = np.zeros((*size, 3), np.uint8)
    whole = ITEM | {"objects": [{"phrase": "x", "score": 0.0, "box": [0, 0, size[1], size[0]]}]}
    assert boxed(pixels, whole).size == size[::-1]
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
    figure = histogram([-1.0, -1, -1, 1], [1.0, 1], [0.0] * 5, 0.5)
    assert [trace.name for trace in figure.data] == ["real", "synthetic", "this image, other captions"]
    assert [sum(trace.y) for trace in figure.data] == pytest.approx([1, 1, 1])
    assert figure.data[0].y[0] == pytest.approx(0.75) and figure.layout.shapes[0].x0 == 0.5
    assert len(histogram([], [], [], None).data) == 0


def test_histogram_rows_by_hand():
    found = histogram_rows([-1.0, 0.0, 1.0], [2.0], [], 0.5)
    assert found == [["real", "-0.80", "+0.00", "+0.80", "67 %"], ["synthetic", "+2.00", "+2.00", "+2.00", "0 %"]]
    assert histogram_rows([1.0], [], [], None)[0][-1] == "not defined"
