"""Devices and precision by torch's own simulation: tensors without values on CUDA, which follow its rules and know autocast."""

from contextlib import contextmanager

import pytest
import torch
from test_device import CONFIG, folder  # noqa: F401  (fixture)
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from detector.clip.backbone import Backbone, choose_precision
from detector.devices import training_autocast
from detector.evaluation.studies.item import with_mean_text, with_shuffled_text
from detector.methods.item import alignment as item
from detector.methods.physical_clip import train as physical_clip
from detector.methods.sdd.losses import sdd_loss
from detector.methods.sdd.model import Sdd
from detector.methods.sdd.recipe import SddRecipe


@contextmanager
def on_fake_card(module: torch.nn.Module, native: bool):
    """A module whose weights have no values, but obey CUDA's own rules, on a card that has bfloat16 itself or emulates it."""
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()), pytest.MonkeyPatch.context() as patch:
        moved = module.to("cuda")
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
        yield moved


@pytest.mark.parametrize("native", [True, False])
def test_the_towers_in_torch_s_own_simulation(folder, native):  # noqa: F811
    backbone = Backbone.load(str(folder), "cpu")
    with on_fake_card(backbone.model, native):
        backbone.device = torch.device("cuda")
        backbone.precision = choose_precision(300_000_000, backbone.device)
        features = backbone.encode(torch.zeros(2, 3, 32, 32))
        assert {part.device.type for part in vars(features).values()} == {"cpu"} and features.patches.dtype is torch.float32
        assert backbone.encode_text(["a dog", "a cat"]).shape == (2, 24)


@pytest.mark.parametrize("native", [True, False])
def test_sdd_s_losses_in_torch_s_own_simulation(folder, native, monkeypatch):  # noqa: F811
    """Up to the loss of reconstruction: this and backward need values, and the other simulation does them."""
    model, kinds = Sdd(Backbone.load(str(folder), "cpu").model.visual, CONFIG, torch.zeros(6, 32)), {}
    for name in ("reconstruct", "enhance", "classify"):
        getattr(model, name).register_forward_hook(lambda module, inputs, output, name=name: kinds.__setitem__(name, output.dtype))
    monkeypatch.setattr("detector.methods.sdd.losses.triplet_loss", lambda features, labels, margin: features.sum())
    with on_fake_card(model, native):
        images, shares = torch.zeros(4, 3, 32, 32, device="cuda"), torch.ones(4, 4, 4, device="cuda")
        with pytest.raises(GuardOnDataDependentSymNode):  # how many rows are real is what it would have to know
            with training_autocast(model.device):  # as the trainer does
                sdd_loss(model(images), shares, SddRecipe())
    assert kinds["enhance"] is torch.float32  # low-level traces are never rounded
    assert kinds["classify"] is (torch.bfloat16 if native else torch.float32)


def test_the_fits_own_losses_in_torch_s_own_simulation():
    from detector.methods.concepts.train import _Gated, gate_divergence
    from detector.methods.orthogonal.train import decorrelation

    with FakeTensorMode():
        features, directions = torch.randn(6, 12, device="cuda"), torch.randn(3, 12, device="cuda")
        unit = torch.nn.functional.normalize(features, dim=1)
        with torch.device("cuda"):
            gated = _Gated(directions)
        logits, probability = gated.sampled(features, 0.1)
        crops = torch.randn(6, 5, 12, device="cuda")
        aligned = item.Alignment(unit, unit, crops, crops, torch.ones(6, device="cuda"))
        found = [
            decorrelation(features),
            logits,
            gate_divergence(probability, 1e-4),
            physical_clip.contrastive(unit, unit, 20.0),
            aligned.inputs,
            with_mean_text(aligned, unit[0], unit[0]).inputs,
            with_shuffled_text(aligned, 0).inputs,
        ]
        assert {value.device.type for value in found} == {"cuda"}


@pytest.mark.parametrize("native, expected", [(True, torch.bfloat16), (False, torch.float32)])
def test_emulated_bfloat16_is_not_chosen(native, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_precision(300_000_000, torch.device("cuda")) is expected
    assert choose_precision(300_000_000, torch.device("mps")) is torch.float32  # measured on the CPU, it would say nothing of MPS
