"""detector/evaluation/studies/alignment.py and item.py: the measures by hand, the study on a small backbone."""

import cv2
import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.clip.pretrain.data import Pairs
from detector.data.datasets import DataError
from detector.evaluation.studies import alignment
from detector.evaluation.studies.alignment import _hits, alignment_report, localisation, matching_share, object_name, paste, wrong_words
from detector.evaluation.studies.item import item_report
from detector.methods.item.alignment import Alignment


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny")))


def told(image: list[float], caption: list[float]) -> Alignment:
    nothing = torch.zeros(1, 5, 2)
    return Alignment(torch.tensor([image]), torch.tensor([caption]), nothing, nothing, torch.tensor([0]))


def test_own_captions_against_others_by_hand():
    first, second = told([1.0, 0.0], [1.0, 0.0]), told([0.0, 1.0], [0.0, 1.0])
    assert matching_share([first, second]) == 1
    assert matching_share([told([1.0, 0.0], [0.0, 1.0]), told([0.0, 1.0], [1.0, 0.0])]) == 0
    assert matching_share([first, told([0.0, 1.0], [1.0, 0.0])]) == 0  # a tie is no success, and the second prefers neither


def test_hits_by_hand():
    assert _hits((0, 0, 10, 10), (0, 0, 10, 10)) == (1, 1)
    assert _hits((0, 0, 10, 10), (5, 0, 15, 10)) == (1, pytest.approx(50 / 150))
    assert _hits((0, 0, 4, 4), (6, 6, 8, 8)) == (0, 0)


@pytest.mark.parametrize(
    "caption, thing",
    [
        ("a photo of a tin can in a grocery store", "tin can"),
        ("a painting of an owl", "owl"),
        ("a picture of the sea", "sea"),
        ("something else", "something else"),
    ],
)
def test_the_named_thing(caption, thing):
    assert object_name(caption) == thing


def test_a_pasted_thing_is_where_its_box_says():
    generator = np.random.default_rng(0)
    background = np.zeros((256, 256, 3), np.uint8)
    for _ in range(20):
        picture, (x0, y0, x1, y1) = paste(np.full((40, 60, 3), 255, np.uint8), background, generator)
        assert (picture[y0:y1, x0:x1] == 255).all() and picture.astype(int).sum() == 255 * 3 * (x1 - x0) * (y1 - y0)
        assert x1 - x0 == y1 - y0 and 90 <= x1 - x0 < 130
    assert not background.any()


def test_boxes_are_measured_and_random_ones_come_back(tiny, monkeypatch):
    monkeypatch.setattr(alignment, "PASTES", 6)
    noise = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
    pairs = Pairs(list(noise), [["a photo of a dog"]] * 6, ["caltech101"] * 5 + ["flickr8k"])
    for kind in ("plain", "photograph"):
        found = localisation(tiny, pairs, kind, 0)
        assert found == localisation(tiny, pairs, kind, 0) and set(found) == {"hit", "overlap", "random_hit", "random_overlap"}
        assert all(0 <= value <= 1 for value in found.values())


def test_a_tower_without_patch_tokens_gets_one_sentence(tiny, monkeypatch):
    monkeypatch.setattr(alignment.localise, "patch_embeddings", lambda backbone, features: None)
    pairs = Pairs([np.zeros((64, 64, 3), np.uint8)], [["a photo of a dog"]], ["caltech101"])
    with pytest.raises(DataError, match="patch tokens"):
        localisation(tiny, pairs, "plain", 0)


def test_a_wrong_word_is_one_that_no_caption_of_the_image_has(tiny, monkeypatch):
    seen, real = [], alignment.realign
    monkeypatch.setattr(alignment, "realign", lambda *a, objects: seen.append(objects) or real(*a, objects=objects))
    pictures = [cv2.GaussianBlur(np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8), (0, 0), 3) for i in range(2)]
    captions = [["a dog on the beach", "a puppy and a ball"], ["a car in a street", "a bus"]]
    found = wrong_words(tiny, pictures, captions, alignment._alignments(tiny, pictures, [c[0] for c in captions]), 0)
    assert found["of"] == 2 and 0 <= found["lower"] <= 1
    assert len(set(seen[0]) & {"car", "street"}) == 1 and len(set(seen[1]) & {"dog", "beach"}) == 1


def test_reports_say_what_the_words_add():
    cells = {"all": {"val": [0.9], "test": [0.7, 0.8]}, "image and crops: mean texts": {"val": [0.9], "test": [0.7, 0.7]}}
    assert "+0.050 on test" in item_report({"seeds": 2, "cells": cells})
    box = {"hit": 0.5, "overlap": 0.25, "random_hit": 0.125, "random_overlap": 0.1}
    text = alignment_report(
        {
            "photographs": 3,
            "seeds": 1,
            "true_above_other": 0.875,
            "wrong_word_lower": [{"lower": 0.75, "of": 2}],
            "pasted": 4,
            "boxes": {"plain": [box]},
        }
    )
    assert "87.5%" in text and "75.0% of 2" in text and "| plain | 0.500 | 0.125 | 0.250 | 0.100 |" in text
