"""The papers' recipes from the command line: they reach the training, and the head's header names them."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.cli.main import main
from detector.data.augmentation import paper_copy
from detector.methods.base import load_head
from detector.methods.concepts import train as concepts
from detector.methods.item import train as item
from detector.methods.orthogonal import train as orthogonal
from detector.methods.physical.features import PAPER_CORE


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, data):
    backbone, cache = write_tiny(tmp_path_factory.mktemp("recipes") / "tiny", decoder=False), tmp_path_factory.mktemp("cache")
    return ["--data", str(data), "--backbone", str(backbone), "--cache", str(cache), "--copies", "1"]


def train(method, arguments, out, *options):
    assert main(["train", method, *arguments, "--out", str(out), *options]) == 0
    return load_head(out / f"{method}.safetensors")


@pytest.mark.parametrize(
    "method, recipe", [("orthogonal", orthogonal.PAPER_RECIPE), ("concepts", concepts.PAPER_RECIPE), ("item", item.PAPER_RECIPE)]
)
def test_a_paper_s_recipe_stands_in_the_header_and_gives_another_head(method, recipe, arguments, tmp_path):
    ours, card = train(method, arguments, tmp_path / "ours")
    paper, paper_card = train(method, arguments, tmp_path / "paper", "--recipe", "paper")
    assert paper_card.details["recipe"] == asdict(recipe) != card.details["recipe"]
    assert any(not torch.equal(ours[name], paper[name]) for name in ours)


def test_tuned_maps_and_a_core_of_the_data(arguments, tmp_path):
    frozen, card = train("physical_clip", arguments, tmp_path / "frozen")
    tuned, tuned_card = train("physical_clip", arguments, tmp_path / "tuned", "--maps", "tuned", "--core", "selected")
    unit = torch.eye(len(frozen["image_map"]))
    assert torch.equal(frozen["image_map"], unit) and not torch.equal(tuned["image_map"], unit)
    assert card.details["maps"] == "frozen" and tuple(card.details["core"]) == PAPER_CORE
    assert tuned_card.details["maps"] == "tuned" and tuned_card.details["core"] != card.details["core"]
    assert len(tuned["core"]) == len(tuned_card.details["core"])


def test_the_paper_s_copy_is_512_pixels_square_and_keeps_half_of_the_area():
    ramp = np.repeat(np.linspace(0, 255, 600, dtype=np.uint8)[None, :, None], 400, 0).repeat(3, 2)
    spans = []
    for seed in range(20):
        copy = paper_copy(ramp, np.random.default_rng(seed))
        assert copy.shape == (512, 512, 3) and copy.dtype == np.uint8
        spans.append(np.ptp(copy[256, :, 0].astype(int)) / 255)
    assert 0.5 < min(spans) < 0.85 and max(spans) > 0.9
    np.testing.assert_array_equal(paper_copy(ramp, np.random.default_rng(0)), paper_copy(ramp, np.random.default_rng(0)))


def test_a_method_without_a_paper_gets_one_sentence(arguments, capsys):
    assert main(["train", "residual", *arguments, "--recipe", "paper"]) == 1
    error = capsys.readouterr().err
    assert "has no recipe of a paper" in error and error.count("\n") == 1
