"""Objects of a caption: order, plurals, longest match, hostile text."""

import pytest

from detector.clip.captioning import nouns
from detector.methods.item.objects import MOST, find_objects, typed_objects


@pytest.mark.parametrize(
    "caption, objects",
    [
        ("A brown dog runs on a beach with a ball.", ["dog", "beach", "ball"]),
        ("two dogs and a dog", ["dog"]),
        ("a fire hydrant near the fire", ["fire hydrant", "fire"]),
        ("Fire hydrants!", ["fire hydrant"]),
        ("", []),
        ("running quickly", []),
        ("собака бежит по пляжу", []),
        ("<b>dog</b> & cat", ["dog", "cat"]),
        ("doghouse catalogue", []),
    ],
)
def test_nouns_are_found_in_order(caption, objects):
    assert find_objects(caption) == objects


def test_five_at_most_of_very_many():
    names = [forms[0] for forms in nouns() if forms[0].isalpha()][:20]
    assert find_objects(" and ".join(names)) == names[:MOST] == names[:5]


def test_a_long_caption_ends():
    assert find_objects("a very long story of nothing at all " * 300) == find_objects("a very long story of nothing at all")


def test_every_noun_is_found_in_a_sentence():
    lost = [forms for forms in nouns() if len(find_objects(f"we saw the {forms[-1]} there")) != 1]
    assert not lost


@pytest.mark.parametrize(
    "text, objects",
    [
        ("red ball, dog,, dog ;cat\nмост", ["red ball", "dog", "cat", "мост"]),
        ("", []),
        (" , ;", []),
        ("...", []),
        ("<i>dog</i>", ["<i>dog</i>"]),
        ("a,b,c,d,e,f,g", ["a", "b", "c", "d", "e"]),
        ("犬、猫", ["犬", "猫"]),
    ],
)
def test_typed_lists(text, objects):
    assert typed_objects(text) == objects


def test_typed_phrases_are_cut():
    assert len(typed_objects("x" * 10_000)[0]) == 60
