"""One contract for every head: what a method promises, asked of all that ship."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detector.data.images import load_photo
from detector.methods.base import Evidence, load_head, save_head
from detector.methods.registry import METHODS, PIXEL_METHODS, TOWER_METHODS, find_heads, read_head

ADDITIVE = {  # methods whose logit is a sum of parts → those parts, (B, anything)
    "physical": lambda head, evidence: head.contributions(evidence.descriptors),
    "residual": lambda head, evidence: np.stack(list(head.contributions(head.reads(evidence)).values()), axis=1),
    "linear_probe": lambda head, evidence: head.contributions(evidence.clip.pooled).numpy(),
    "orthogonal": lambda head, evidence: head.contributions(evidence.clip.pooled).numpy(),
    "concepts": lambda head, evidence: head.contributions(evidence.clip.projected).numpy(),
}


@pytest.fixture(scope="module")
def evidence(suite, photographs) -> Evidence:
    """Of three pictures."""
    pictures = [load_photo(np.ascontiguousarray(pixels)) for pixels in (photographs[0], photographs[1], photographs[0][:, ::-1])]
    seen = suite.evidence(pictures)
    return suite.heads["physical_clip"].with_text(suite.backbone, seen, seen.alignment.texts)


@pytest.fixture(params=sorted(METHODS))
def method(request) -> str:
    return request.param


def logits(head, evidence) -> np.ndarray:
    return np.asarray(head.score(evidence).logit, np.float64)


def test_one_finite_logit_an_image_and_its_probability(method, suite, evidence):
    score = suite.heads[method].score(evidence)
    assert np.shape(score.logit) == (3,) and np.isfinite(score.logit).all()
    np.testing.assert_allclose(score.probability, 1 / (1 + np.exp(-np.asarray(score.logit, np.float64))), rtol=1e-5)


def test_the_same_evidence_gives_the_same_logits(method, suite, evidence):
    np.testing.assert_array_equal(logits(suite.heads[method], evidence), logits(suite.heads[method], evidence))


def test_scaling_is_affine_in_the_logit(method, suite, evidence):
    head = suite.heads[method]
    np.testing.assert_allclose(logits(head.scaled(2.0, -0.5), evidence), 2 * logits(head, evidence) - 0.5, atol=1e-4)


def test_a_head_comes_back_from_its_file(method, suite, evidence, tmp_path):
    head, path = suite.heads[method], tmp_path / "head.safetensors"
    save_head(path, head.tensors(), suite.cards[method])
    again, card = read_head(path, method, suite.backbone)
    assert replace(card, digest="") == replace(suite.cards[method], digest="")
    np.testing.assert_allclose(logits(again, evidence), logits(head, evidence), atol=1e-5)


def test_the_file_holds_what_the_method_says(method, suite):
    tensors, _ = load_head(find_heads("embedded")[method])
    assert tensors.keys() == dict(suite.heads[method].tensors()).keys()
    if method not in TOWER_METHODS:
        assert tensors.keys() == METHODS[method].head.shapes(suite.backbone.sizes).keys()


@pytest.mark.parametrize("additive", sorted(ADDITIVE))
def test_parts_and_bias_are_the_logit(additive, suite, evidence):
    head = suite.heads[additive]
    parts = ADDITIVE[additive](head, evidence)
    np.testing.assert_allclose(parts.reshape(3, -1).sum(1) + float(head.bias), logits(head, evidence), atol=1e-4)


def test_a_head_reads_what_it_says_and_nothing_else(method, suite, evidence):
    """Noise in place of what a method reads moves its logits; noise in place of the rest does not."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(part.shape, generator=generator) for name, part in vars(evidence.clip).items() if part is not None}
    noisy, windows = lambda values: np.random.default_rng(0).normal(size=values.shape).astype(np.float32), evidence.residual_windows  # noqa: E731
    changed = {
        "clip": replace(evidence, clip=replace(evidence.clip, **noise)),
        "descriptors": replace(evidence, descriptors=np.random.default_rng(0).normal(size=evidence.descriptors.shape)),
        "residual": replace(evidence, residual=noisy(evidence.residual), residual_windows=replace(windows, values=noisy(windows.values))),
        "pixels": replace(evidence, pixels=[255 - np.asarray(pixels) for pixels in evidence.pixels]),
        "alignment": replace(evidence, alignment=replace(evidence.alignment, caption=evidence.alignment.caption.flip(1))),
    }
    reads = {
        "physical": {"descriptors"},
        "residual": {"residual"},
        "sdd": {"pixels"},
        "item": {"alignment"},
        "physical_clip": {"clip", "descriptors"},
    }.get(method, {"clip"})
    before, head = logits(suite.heads[method], evidence), suite.heads[method]
    assert method in PIXEL_METHODS or reads & {"clip", "pixels", "alignment"}
    assert reads <= set(METHODS[method].evidence)  # what is computed where no other method is in use
    for name, other in changed.items():
        assert (np.abs(logits(head, other) - before).max() > 1e-3) == (name in reads), name
