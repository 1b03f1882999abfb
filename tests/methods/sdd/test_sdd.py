"""detector/methods/sdd/: shapes and equations of the paper, what receives gradients, and that the shared backbone stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone, ClipFeatures
from detector.methods.base import Evidence
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.enhancer import covariances, high_passed, local_residual, modulate
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.model import Sdd

SMALL = SddConfig(bag=5, heads=2, rank=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    return Sdd(tiny.model.visual, SMALL, torch.randn(5, 32))


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def evidence(*pixels):
    return Evidence(
        ClipFeatures(torch.zeros(len(pixels), 1), torch.zeros(len(pixels), 1), None),
        np.zeros((len(pixels), 15)),
        np.zeros((len(pixels), 1)),
        pixels,
    )


def test_shapes(model, images):
    seen = {}
    for name, tap in model.layers().items():
        tap.register_forward_hook(lambda module, inputs, output, name=name: seen.__setitem__(name, tuple(output.shape)))
    out = model(images)
    assert out.logits.shape == (4,) and out.tokens.shape == out.reconstruction.shape == (4, 17, 32) and out.features.shape == (4, 256)
    assert seen == {
        "difference": (4, 32, 4, 4),
        "tokens": (4, 32, 4, 4),
        "stage1": (4, 4, 16, 16),
        "stage2": (4, 2, 8, 8),
        "stage3": (4, 1, 4, 4),
    }


def test_the_paper_s_sizes_on_vit_l_14():
    """Kernels 9, 4 and 2 that reach 112, 56 and 28 from a grid of 16."""
    from detector.methods.sdd.enhancer import Stage, halving

    for inside, outside, side, kernel, stride, padding in ((3, 128, 112, 9, 7, 1), (128, 64, 56, 4, 4, 4), (64, 1, 28, 2, 2, 2)):
        layer = Stage(halving(inside, outside), 1024, 16, side, "exp").semantic[0]
        assert (layer.kernel_size[0], layer.stride[0], layer.padding[0]) == (kernel, stride, padding)
        assert (16 - 1) * stride - 2 * padding + kernel == side


def test_before_training_the_adapted_tower_is_clip(tiny, model, images):
    features = tiny.encode(images)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().encode(images)[:, 1:], features.patches, rtol=0, atol=1e-5)


def test_the_shared_backbone_is_not_touched(tiny, images):
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    expected = tiny.encode(images).projected
    model = Sdd(tiny.model.visual, SMALL, torch.randn(5, 32)).train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        model(images).logits.sum().backward()
        optimiser.step()
    assert not tiny.model.training and all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert torch.equal(tiny.encode(images).projected, expected)
    assert not torch.allclose(model.eval().encode(images)[:, 1:], tiny.encode(images).patches, atol=1e-3)  # but the copy did move


@pytest.mark.parametrize("detach", [False, True])
def test_what_receives_gradients(tiny, images, detach):
    model = Sdd(tiny.model.visual, SddConfig(bag=5, heads=2, rank=2, detach_attention=detach), torch.randn(5, 32))
    model(images).logits.sum().backward()
    attention = [p.grad for p in model.reconstruct.attend.parameters()]
    assert all(g is None for g in attention) if detach else all(g is not None and g.abs().sum() > 0 for g in attention[:2])
    low_rank = [p for name, p in model.tower.named_parameters() if name.endswith(".up")]
    assert len(low_rank) == 8 and all(p.grad is not None for p in low_rank)
    assert all(p.grad is None for name, p in model.tower.named_parameters() if not name.endswith((".up", ".down")))


def test_modulation_by_hand():
    features, semantic = torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0])
    torch.testing.assert_close(modulate(features, semantic, "exp"), torch.tensor([4.0, 6 + 6 * np.exp(-4.0)]).float())
    torch.testing.assert_close(modulate(features, semantic, "square"), torch.tensor([2.0, 2 + 2 * 16.0]))
    torch.testing.assert_close(modulate(features, semantic, "abs"), torch.tensor([2.0, 2 + 2 * 4.0]))


def test_high_pass_of_a_flat_image_is_zero_and_covariance_is_numpys():
    assert high_passed(torch.full((1, 3, 8, 8), 0.7)).abs().max() == 0
    maps = torch.randn(1, 3, 5, 5)
    expected = np.cov(maps[0].flatten(1).numpy(), bias=True)[np.triu_indices(3)]
    np.testing.assert_allclose(covariances(maps)[0].square().numpy(), np.abs(expected), atol=1e-5)


def test_local_residual_of_shading_is_zero_and_contrast_does_not_change_it():
    deviation = torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    ramp = torch.arange(16.0).expand(1, 3, 16, 16) / 10
    inside = (..., slice(1, -1), slice(1, -1))
    assert local_residual(ramp, deviation)[inside].abs().max() < 1e-3
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    once, twice = local_residual(noise, deviation), local_residual(2 * noise, deviation)
    assert once.shape == (1, 6, 16, 16) and once.abs().max() == 2
    torch.testing.assert_close(once, twice, atol=0.02, rtol=0)
    spike = torch.zeros(1, 3, 8, 8)
    spike[0, :, 3, 3] = 1 / 0.2 / 255  # one grey level of red, more of the others
    red = local_residual(spike * torch.tensor([1.0, 0, 0]).view(3, 1, 1), deviation)[0, 0]  # across, of luma
    size = 0.7 * 0.299 * 4 / 64 + 0.3
    torch.testing.assert_close(red[3, 2:5], 0.299 * torch.tensor([1.0, -2.0, 1.0]) / size)


PLACES_SMALL = replace(
    SMALL, target="unit", shortcut=False, readout="tokens", inputs="local", widths=(4, 6, 8), dense=True, adapted_blocks=1
)


def test_the_modulation_starts_near_neutral_and_learns(tiny, images):
    """At a weight of 0 behind the batch-norm the attention would get no gradient."""
    model = Sdd(tiny.model.visual, PLACES_SMALL, torch.randn(5, 32))
    semantic = model.enhance.stages[0].semantic(torch.randn(4, 32, 4, 4))
    assert 0.5 < semantic.min() and semantic.max() < 1.5 and semantic.std() > 0
    model(images).logits.sum().backward()
    for part in (model.reconstruct.attend, model.enhance.stages[0].semantic, model.classify, model.tower.transformer.resblocks[-1]):
        trained = [p.grad for p in part.parameters() if p.requires_grad]
        assert trained and any(g is not None and g.abs().sum() > 0 for g in trained)


def test_the_difference_map_does_not_follow_the_size_of_the_tokens(tiny, images):
    """A token twice as large has the same target, so the same difference; with the raw target it has not."""
    for target, same in (("unit", True), ("raw", False)):
        model = Sdd(tiny.model.visual, replace(PLACES_SMALL, target=target), torch.randn(5, 32)).eval()
        tokens = torch.randn(4, 17, 32, generator=torch.Generator().manual_seed(2)) * 3
        with torch.no_grad():
            gaps = [(out.reconstruction - out.target).abs() for out in (model.read(images, tokens), model.read(images, 2 * tokens))]
        assert torch.allclose(*gaps, atol=1e-3) == same


def test_without_the_shortcut_the_memory_is_all_that_the_reconstruction_knows(tiny, images):
    """With every attention silenced, the paper's decoder still hands the tokens through; ours gives the same for all tokens."""
    for shortcut, constant in ((True, False), (False, True)):
        model = Sdd(tiny.model.visual, replace(PLACES_SMALL, shortcut=shortcut), torch.randn(5, 32)).eval()
        for attention in model.reconstruct.attend:
            torch.nn.init.zeros_(attention.out.weight)
        with torch.no_grad():
            rebuilt = model(images).reconstruction
        assert torch.allclose(rebuilt, rebuilt[:1, :1].expand_as(rebuilt), atol=1e-5) == constant


def test_the_logit_is_the_mean_of_the_tokens_logits(tiny, images):
    model = Sdd(tiny.model.visual, PLACES_SMALL, torch.randn(5, 32)).eval()
    with torch.no_grad():
        out = model(images)
        assert out.token_logits.shape == (4, 4, 4) and out.token_logits.std() > 0
        torch.testing.assert_close(out.token_logits.mean((1, 2)), out.logits)
        changed = images.clone()
        changed[:, :, :16, :16] = 0  # one corner: what is far from it hears of it through the tower only
        moved = (model(changed).token_logits - out.token_logits).abs()
    assert moved[:, :2, :2].mean() > 2 * moved[:, 3, 3].mean()


def test_frozen_blocks_are_run_once_for_all(tiny, images):
    model = Sdd(tiny.model.visual, PLACES_SMALL, torch.randn(5, 32)).eval()
    with torch.no_grad():
        frozen = model.frozen_tokens(images)
        torch.testing.assert_close(model.adapt(frozen), model.encode(images))
        torch.testing.assert_close(model.read(images, model.adapt(frozen)).logits, model(images).logits)
    blocks = {name.split(".")[2] for name, p in model.tower.named_parameters() if p.requires_grad}
    assert blocks == {str(len(model.tower.transformer.resblocks) - 1)}


def test_noise_in_place_of_the_memory_moves_the_logits(tiny, images):
    torch.manual_seed(0)
    model = Sdd(tiny.model.visual, PLACES_SMALL, torch.randn(5, 32)).eval()
    with torch.no_grad():
        before = model(images).logits
        model.bag.copy_(torch.randn(5, 32) * 3)
        assert (model(images).logits - before).abs().max() > 1e-4


def test_the_windows_of_a_large_image_reach_its_inside(tiny):
    torch.manual_seed(0)
    model = Sdd(tiny.model.visual, replace(PLACES_SMALL, windows=4, large_windows=16), torch.randn(5, 32))
    head = SddHead(model.eval().requires_grad_(False), normalisation(tiny))
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[100:600, 100:800] = 128  # all but a border
    scores = head.score(evidence(pixels, changed)).logit
    assert abs(scores[0] - scores[1]) > 1e-4 and len(head.boxes(pixels)) >= 12 and len(head.boxes(pixels[:300, :300])) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"use_cfdl": False},
        {"use_enhancer": False},
        {"modulation": "square"},
        {"modulated_stages": 2},
        {"inputs": "highpass", "covariance": True},
        {"inputs": "local"},
        {"target": "unit"},
        {"shortcut": False},
        {"adapted_blocks": 1},
        {"widths": (4, 6, 8), "dense": True},
    ],
)
def test_every_option_runs_and_learns(tiny, images, change):
    model = Sdd(tiny.model.visual, SddConfig(bag=5, heads=2, rank=2, **change), torch.randn(5, 32))
    out = model(images)
    out.logits.sum().backward()
    assert torch.isfinite(out.logits).all() and model.classify[1].weight.grad.abs().sum() > 0


@pytest.fixture
def head(tiny, model):
    for _ in range(3):
        model.train()(torch.randn(8, 3, 32, 32))  # moves the running statistics
    return SddHead(model.eval().requires_grad_(False), normalisation(tiny), 2.0, -0.5)


def test_a_saved_head_comes_back_without_the_tower(tiny, head):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    tensors = head.tensors()
    again = SddHead.from_tensors(tensors, head.details(), tiny)
    assert again.score(evidence(pixels)).logit == pytest.approx(head.score(evidence(pixels)).logit, abs=2e-2)  # float16
    assert not any("original" in name or "conv1" in name.partition("tower")[2] for name in tensors)
    with pytest.raises(RuntimeError, match="train it again"):
        SddHead.from_tensors({name: value for name, value in tensors.items() if "classify" not in name}, head.details(), tiny)


def test_scores_of_a_batch_are_those_of_its_images_and_small_ones_are_continued(head):
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((50, 70), (32, 32), (5, 9), (200, 33))]
    together = head.score(evidence(*pictures)).logit
    alone = [float(head.score(evidence(p)).logit[0]) for p in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_logits_made_before_are_used_for_the_very_head_that_made_them(tiny, head):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    known = replace(evidence(pixels), pixels=(), windowed={head.identity: np.array([3.0])})
    assert head.score(known).logit == pytest.approx(2.0 * 3 - 0.5) and head.scaled(3.0, 1.0).identity == head.identity
    moved = SddHead.from_tensors(head.tensors() | {"bag": torch.zeros(5, 32)}, head.details(), tiny)
    assert moved.identity != head.identity


def test_a_head_of_another_version_is_refused(tiny, head):
    with pytest.raises(RuntimeError, match="another version"):
        SddHead.from_tensors(head.tensors(), {"config": {"no_such_option": 1}}, tiny)


def test_scaling_is_affine(head):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert head.scaled(3.0, 1.0).score(evidence(pixels)).logit == pytest.approx(3 * head.score(evidence(pixels)).logit + 1, abs=1e-4)


def test_maps_of_the_real_model(head):
    from interpret.attribution.cam import heatmaps

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = heatmaps(head, pixels)
    assert {"difference", "tokens", "stage1", "stage2", "stage3"} <= set(found)
    for name, heat in found.items():
        assert heat.values.shape == (40, 60) and np.isfinite(heat.values).all(), name
        mirrored = heatmaps(head, np.ascontiguousarray(pixels[:, ::-1]), [name])[name]
        np.testing.assert_allclose(mirrored.values[:, ::-1], heat.values, atol=1e-3 * max(1e-6, np.abs(heat.values).max()))
