"""detector/methods/physical_clip/text.py: normalisation, the template in any context length, and back."""

import numpy as np
import pytest
from written_descriptors import parse

from detector.clip.tokenizer import FULL_VOCABULARY, simple_tokenizer
from detector.methods.physical.features import NAMES, PAPER_CORE
from detector.methods.physical_clip.text import normalised, quantiles, shortened, textualise

VALUES = np.linspace(0.03, 0.97, 15)


@pytest.fixture(scope="module", params=[(FULL_VOCABULARY, 77), (8448, 32)], ids=["clip", "embedded"])
def tokenizer(request):
    vocabulary, context = request.param
    tokenizer = simple_tokenizer(vocabulary, context)
    return tokenizer, context


def write(tokenizer, caption, values=VALUES, core=PAPER_CORE):
    tool, context = tokenizer
    return textualise(caption, values, lambda text: len(tool.encode(text)), context - 2, core)


def core_values(core=PAPER_CORE, digits=2):
    return {name: round(float(v), digits) for name, v in zip(NAMES, VALUES, strict=True) if name in core}


def test_the_paper_s_form_where_there_is_room(tokenizer):
    if tokenizer[1] == 77:
        text = write(tokenizer, "A dog on a beach")
        assert text.startswith("A dog on a beach. Laplacian variance: 0.03, Sobel mean: 0.10, Sobel std: 0.16, Residual variance:")


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a dog",
        "a dog on a beach. it runs",
        "detail 85 edges 12",
        "Laplacian variance: 0.11, Sobel mean: 0.99",
        "word " * 500,
        "туман над рекой " * 40,
        "夜の街" * 60,
        "<b>bold</b> & more",
        "a" * 500,
        "...",
        "x. y. z.",
    ],
)
def test_numbers_are_never_cut_and_come_back(tokenizer, caption):
    tool, context = tokenizer
    text = write(tokenizer, caption)
    assert len(tool.encode(text)) <= context - 2
    found = parse(text)
    assert set(found) == set(PAPER_CORE)
    assert found == pytest.approx(core_values(), abs=0.006)


def test_all_fifteen_keep_their_order(tokenizer):
    found = parse(write(tokenizer, "a dog", core=NAMES))
    assert list(found) == [name for name in NAMES if name in found] and len(found) >= 8
    assert found == pytest.approx({name: core_values(NAMES)[name] for name in found}, abs=0.006)


def test_undefined_values_are_left_out(tokenizer):
    values = VALUES.copy()
    values[NAMES.index("sobel_mean")] = np.nan
    assert set(parse(write(tokenizer, "a dog", values))) == set(PAPER_CORE) - {"sobel_mean"}


def test_extreme_values_stay_two_digits(tokenizer):
    found = parse(write(tokenizer, "a long caption about a dog that runs along a beach in the evening", np.ones(15)))
    assert set(found) == set(PAPER_CORE) and all(value >= 0.99 for value in found.values())


def test_a_caption_is_cut_between_words():
    count = lambda text: len(text.split())  # noqa: E731
    assert shortened("one two three four", 2, count) == "one two"
    assert shortened("one two", 5, count) == "one two" and shortened("", 5, count) == "" and shortened("one", 0, count) == ""


def test_only_a_caption_or_only_numbers(tokenizer):
    assert write(tokenizer, "a dog", np.full(15, np.nan)) == "a dog"
    assert parse(write(tokenizer, "")) and parse("a dog on a beach") == {} == parse("")


def test_normalised_by_hand():
    limits = quantiles(np.arange(101.0)[:, None] * np.ones(15))
    np.testing.assert_allclose(limits[:, 0], [1, 99])
    values = np.array([1.0, 50.0, 99.0, -5.0, 500.0, np.nan] + [1.0] * 9)
    np.testing.assert_allclose(normalised(values, limits)[:6], [0, 0.5, 1, 0, 1, np.nan])
    assert normalised(np.ones(15), np.ones((2, 15))).tolist() == [0.0] * 15
