"""The papers' recipes from the command line: they reach the training, and the head's header names them."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.cli.main import main
from detector.clip.backbone import Backbone
from detector.data.augmentation import paper_copy
from detector.methods.base import load_head
from detector.methods.concepts import train as concepts
from detector.methods.item import train as item
from detector.methods.orthogonal import train as orthogonal
from detector.methods.physical.features import PAPER_CORE
from detector.methods.sdd import train as sdd_train


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


def test_sdd_of_the_paper_trains_every_part_and_stores_no_frozen_tower(arguments, data, tmp_path, monkeypatch):
    """The last step of the training leaves its gradients behind, which are looked at."""
    trainers = []

    class Watched(sdd_train.SddTrainer):
        def __init__(self, *parts):
            super().__init__(*parts)
            trainers.append(self)

    monkeypatch.setattr(sdd_train, "SddTrainer", Watched)
    options = ["--recipe", "paper", "--epochs", "3", "--checkpoints", str(tmp_path / "checkpoints")]
    tensors, card = train("sdd", arguments, tmp_path / "out", *options)
    (trainer,) = trainers
    gradients = {name: parameter.grad for name, parameter in trainer.module.named_parameters() if parameter.requires_grad}
    idle = [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().any()]
    idle = [name for name in idle if not name.endswith((".convolve.0.bias", ".semantic.0.bias"))]  # the batch norm takes them away again
    assert {name.partition(".")[0] for name in idle} <= {"reduce"}, idle  # which stands in for the enhancer in an ablation
    parts = ("lora", "biases", "class_embedding", "positional_embedding", "reconstruct", "enhance", "classify")
    words = {"lora": "parametrizations", "biases": "in_proj_bias"}
    assert all(any(words.get(part, part) in name for name in gradients) for part in parts)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.pt")
    stored = torch.load(checkpoint, weights_only=True)["module"]
    for names in (stored, tensors):
        assert not [name for name in names if name.endswith(("original", "conv1.weight", "tower.proj"))]
        assert any(name.endswith("class_embedding") for name in names)
    assert card.details["recipe"]["rate"] == 1e-4 and card.details["config"]["lora_dropout"] == 0.8
    assert Backbone.load(arguments[3]).fingerprint == card.fingerprint  # the backbone's own biases stay as they are
