"""Draw: a picture of a few words, and one sentence for what cannot be drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detector.clip.generator import sampling
from detector.hub.weights import WeightsError
from interpret.tabs import draw


class Grey:
    """A painter whose pictures show the seed and the guidance."""

    def paint(self, texts, settings):
        if not any(character.isalnum() for character in texts[0]):
            raise ValueError("Say in a few words what the picture shall show.")
        return np.full((1, 8, 8, 3), settings.seed + int(settings.guidance), np.uint8)


@pytest.fixture(autouse=True)
def painter(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(draw, "get_suite", lambda name: SimpleNamespace(backbone=None))
    monkeypatch.setattr(sampling, "shipped_painter", lambda backbone: Grey())


def test_a_drawing_is_a_png_file_that_can_be_opened_in_analyze():
    values = draw.draw("a dog on grass", 4.0, 7)
    assert Image.open(values.picture).format == "PNG" and np.asarray(Image.open(values.picture))[0, 0, 0] == 11
    assert values.note == "Synthetic: drawing 7 of our own generator." and values.open.visible
    path, tabs = draw.open_drawn(values.picture)
    assert path == values.picture and tabs.selected == "analyze"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "few words"),
        (("a dog", float("nan")), "guidance"),
        (("a dog", 99), "guidance"),
        (("a dog", 3, -1), "seed"),
        (("a dog", 3, 1e18), "seed"),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence_and_no_button(arguments, words):
    values = draw.draw(*arguments)
    assert values.picture is None and words in values.note and not values.open.visible


def test_missing_weights_get_a_sentence(monkeypatch):
    def missing(backbone):
        raise WeightsError("generator.safetensors is missing; get it again.")

    monkeypatch.setattr(sampling, "shipped_painter", missing)
    assert "missing" in draw.draw("a dog").note


def test_nothing_to_open_is_refused():
    import gradio as gr

    with pytest.raises(gr.Error, match="Draw a picture first"):
        draw.open_drawn(None)
