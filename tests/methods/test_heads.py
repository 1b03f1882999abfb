"""Heads against their own algebra, their files, and the refusal of the wrong ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detector.clip.backbone import ClipFeatures
from detector.methods.base import Evidence, HeadCard, HeadError, check_card, load_head, save_head
from detector.methods.concepts.head import ConceptHead
from detector.methods.concepts.train import _Gated, fit_concepts, gate_divergence
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.orthogonal.naming import correlations
from detector.methods.orthogonal.train import decorrelation, fit_linear_probe, fit_orthogonal
from detector.methods.physical.head import PhysicalHead, percentiles, quantile_table
from detector.methods.table import Table

CARD = HeadCard("orthogonal", "embedded", "abc", "pooled", "as is", "made up", "none")


def planted(count: int = 400, width: int = 12, shift: float = 1.2, seed: int = 0):
    """Features whose first number tells the classes apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % 2).float()
    features = torch.randn(count, width, generator=generator)
    features[:, 0] += shift * (2 * labels - 1)
    return features, labels


def accuracy(logits, labels) -> float:
    return ((logits > 0) == (labels == 1)).float().mean().item()


def test_orthogonal_contributions_add_up_to_the_logit_and_to_one_linear_probe():
    torch.manual_seed(0)
    head = OrthogonalHead(torch.randn(8, 12), torch.randn(8), torch.randn(8), torch.tensor(0.3))
    features = torch.randn(5, 12)
    torch.testing.assert_close(head.contributions(features).sum(1) + head.bias, head.logits(features))
    probe = LinearProbe(head.readout @ head.weight, head.readout @ head.offset + head.bias)
    torch.testing.assert_close(probe.logits(features), head.logits(features), rtol=1e-4, atol=1e-4)


def test_decorrelation_by_hand():
    assert decorrelation(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).item() == pytest.approx(0)
    # two equal columns: the Gram matrix is all ones, the difference two ones off the diagonal, its norm √2
    assert decorrelation(torch.tensor([[1.0, 2.0], [1.0, 2.0]])).item() == pytest.approx(2**0.5)


@pytest.mark.parametrize("fit", [fit_orthogonal, fit_linear_probe])
def test_affine_heads_learn_and_repeat(fit):
    head = fit(planted(), planted(seed=1), seed=3)
    features, labels = planted(seed=2)
    assert accuracy(head.logits(features), labels) > 0.8
    again = fit(planted(), planted(seed=1), seed=3)
    torch.testing.assert_close(head.logits(features), again.logits(features))


def test_orthogonal_units_stay_decorrelated():
    head = fit_orthogonal(planted(), planted(seed=1), units=4)
    unit = F.normalize(head.activations(planted(seed=2)[0]), dim=0)
    off_diagonal = (unit.T @ unit - torch.eye(4)).abs().max().item()
    assert off_diagonal < 0.5


def concept_head(seed: int = 0) -> ConceptHead:
    torch.manual_seed(seed)
    return ConceptHead(F.normalize(torch.randn(6, 12), dim=1), torch.randn(6, 12) * 5, torch.randn(6), torch.randn(6), torch.tensor(0.2))


def test_concept_contributions_add_up_and_are_deterministic():
    head, features = concept_head(), torch.randn(7, 12)
    logits = head.logits(features)
    torch.testing.assert_close(head.contributions(features).sum(1) + head.bias, logits)
    assert torch.equal(head.logits(features), logits)
    torch.testing.assert_close(head.logits(features * 3), logits, rtol=1e-4, atol=1e-5)  # normalises its input
    assert (head.activations(features).abs() <= 1 + 1e-6).all()


def test_gates_are_random_in_training_only():
    model, features = _Gated(F.normalize(torch.randn(6, 12), dim=1)), torch.randn(4, 12)
    assert not torch.equal(model.sampled(features, 0.1)[0], model.sampled(features, 0.1)[0])
    assert torch.equal(model.head().logits(features), model.head().logits(features))


def test_gate_divergence_by_hand():
    assert gate_divergence(torch.full((2, 3), 0.25), 0.25).item() == pytest.approx(0, abs=1e-5)
    expected = 3 * (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    assert gate_divergence(torch.full((2, 3), 0.5), 0.25).item() == pytest.approx(expected, abs=1e-4)


def test_concept_model_learns():
    directions = F.normalize(torch.eye(12)[:5], dim=1)
    head = fit_concepts(planted(), planted(seed=1), directions)
    features, labels = planted(seed=2)
    assert accuracy(head.logits(features), labels) > 0.75
    assert head.contributions(features)[:, 0].abs().mean() > head.contributions(features)[:, 1:].abs().mean()


def test_scaling_a_head_scales_its_logit_and_keeps_its_sum():
    for head in (concept_head(), OrthogonalHead(torch.randn(3, 12), torch.randn(3), torch.randn(3), torch.tensor(1.0))):
        features = torch.randn(4, 12)
        scaled = head.scaled(2.0, -1.0)
        torch.testing.assert_close(scaled.logits(features), 2 * head.logits(features) - 1, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(scaled.contributions(features).sum(1) + scaled.bias, scaled.logits(features))


def test_correlations_by_hand():
    rising = np.arange(5.0)
    table = correlations(np.column_stack([rising, -rising]), np.column_stack([2 * rising + 1, np.ones(5)]))
    np.testing.assert_allclose(table, [[1, 0], [-1, 0]], atol=1e-9)


# --- the physical head ---------------------------------------------------------------------------------------------


def physical_data(seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = np.arange(600) % 2
    values = generator.normal(size=(600, 15))
    values[:, 4] = np.abs(values[:, 4]) * (1 + 3 * labels)  # larger for synthetic
    values[:, 7] = values[:, 7] * (1 - 0.8 * labels)  # nearer to the middle for synthetic: no single threshold tells
    return values, labels


def test_physical_head_is_additive_and_finds_what_is_planted():
    values, labels = physical_data()
    head = PhysicalHead.fit(values, labels, (values, labels))
    fresh, truth = physical_data(1)
    contributions, logits = head.contributions(fresh), head.logits(fresh)
    np.testing.assert_allclose(contributions.sum(1) + head.bias, logits)
    assert ((logits > 0) == (truth == 1)).mean() > 0.75
    spread = contributions.std(0)
    assert set(np.argsort(-spread)[:2]) == {4, 7}


def test_physical_head_survives_what_is_not_defined_or_far_out():
    values, labels = physical_data()
    head = PhysicalHead.fit(values, labels, (values, labels))
    odd = np.array([[np.nan] * 15, [1e30] * 15, [-1e30] * 15])
    assert np.isfinite(head.logits(odd)).all()
    assert np.isnan(percentiles(odd[0], head.real)).all() and (percentiles(odd[1], head.real) == 100).all()


def test_percentiles_by_hand():
    table = quantile_table(np.arange(101.0)[:, None])
    np.testing.assert_allclose(percentiles(np.array([[0.0], [25.0], [99.5], [200.0]]), table)[:, 0], [0, 25, 99.5, 100])


# --- files ---------------------------------------------------------------------------------------------------------


def test_head_files_round_trip(tmp_path):
    head = concept_head()
    save_head(tmp_path / "a" / "concepts.safetensors", head.tensors(), CARD)
    tensors, card = load_head(tmp_path / "a" / "concepts.safetensors")
    assert card == CARD
    torch.testing.assert_close(ConceptHead.from_tensors(tensors).logits(torch.ones(1, 12)), head.logits(torch.ones(1, 12)))


@pytest.mark.parametrize("damage", ["missing", "truncated", "no card", "pickle"])
def test_damaged_heads_get_one_sentence(tmp_path, damage):
    path = tmp_path / "head.safetensors"
    if damage == "truncated":
        save_head(path, concept_head().tensors(), CARD)
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no card":
        from safetensors.torch import save_file

        save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    elif damage == "pickle":
        torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(HeadError) as caught:
        load_head(path)
    assert "\n" not in str(caught.value) and "head.safetensors" in str(caught.value)


def test_heads_of_other_weights_are_refused():
    check_card(CARD, CARD)
    with pytest.raises(HeadError, match="other weights of 'embedded'"):
        check_card(CARD, replace(CARD, fingerprint="xyz"))
    pixels = replace(CARD, backbone="none", fingerprint="residual-1")
    with pytest.raises(HeadError, match="features of another version"):
        check_card(pixels, replace(pixels, fingerprint="residual-2"))


def test_rows_of_evidence_have_every_field():
    values = np.arange(8.0).reshape(4, 2)
    tensor, mask = torch.from_numpy(values), np.array([True, False, False, True])
    whole = Evidence(
        ClipFeatures(tensor, tensor + 1, tensor[:, None], tensor[:, None] + 1),
        values,
        values + 2,
        pixels=list(values),
        physical_text=tensor + 3,
        released={"a head": tensor + 4},
        windowed={"an identity": values[:, 0]},
    )
    part = whole.rows(mask)
    assert len(part) == 2 and part.alignment is None and np.array_equal(part.pixels, values[mask])
    assert torch.equal(part.physical_text, (tensor + 3)[mask]) and torch.equal(part.released["a head"], (tensor + 4)[mask])
    assert np.array_equal(part.windowed["an identity"], values[mask, 0]) and np.array_equal(part.residual, values[mask] + 2)
    assert all(torch.equal(getattr(part.clip, name), getattr(whole.clip, name)[mask]) for name in vars(whole.clip))
    table = Table(whole, np.arange(4), np.array(list("abcd")), np.array([0, 1, 1, 0]))
    assert torch.equal(table.originals().evidence.physical_text, part.physical_text) and "a head" in table.originals().evidence.released
