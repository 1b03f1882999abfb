"""Published heads: the table, parity with released numbers, the algebra."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from released_files import (
    CONCEPT,
    LINEAR,
    ONE_OF_EACH,
    ORTHOGONAL,
    REFERENCE,
    UNIVFD,
    assert_one_sentence,
    checkpoint,
    direct_logits,
    features_for,
    needs_reference,
    packed,
    synthetic_state,
)

from detector.methods import published
from detector.methods.published import NAMES, SOURCES, load

# --- the table -----------------------------------------------------------------------------------------------------


def test_thirteen_sources() -> None:
    expected = {
        f"clip-cues/{head}_{data}"
        for head in ("clip_orthogonal", "linear_probe", "cm_antonyms")
        for data in ("cnnspot", "synthbuster", "synthclic", "combined")
    }
    assert len(NAMES) == 13 and set(NAMES) == expected | {"univfd/fc"}
    assert len({source.sha256 for source in SOURCES.values()}) == 13
    assert len({source.file for source in SOURCES.values()}) == 13


@pytest.mark.parametrize("name", NAMES)
def test_source_fields(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name and len(source.sha256) == 64 and 0 < source.size < published.LARGEST_FILE
    assert source.url.startswith("https://raw.githubusercontent.com/") and source.licence == "MIT"
    assert source.url.endswith(source.file.partition("/")[2])
    assert source.paper in ("arXiv 2602.12381", "arXiv 2302.10174")
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.size = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (LINEAR, ("linear", "ViT-L-14-336-quickgelu/openai", "pooled", "bilinear", True, 336, 1024)),
        (ORTHOGONAL, ("orthogonal", "ViT-L-14-336-quickgelu/openai", "pooled", "bilinear", True, 336, 1024)),
        (CONCEPT, ("concept", "ViT-L-14-336-quickgelu/openai", "projected", "bicubic", True, 336, 768)),
        (UNIVFD, ("linear", "ViT-L-14-quickgelu/openai", "projected", "bilinear", False, 224, 768)),
    ],
)
def test_what_a_head_is_fed(name: str, expected: tuple) -> None:
    s = SOURCES[name]
    assert (s.method, s.backbone, s.feature, s.interpolation, s.resize, s.image_size, s.width) == expected


# --- parity with the released numbers ------------------------------------------------------------------------------


def reference(name: str) -> dict:
    heads = json.loads((REFERENCE / "head_outputs.json").read_text())["heads"]
    return heads["universal_fake_detect_fc" if name == UNIVFD else name.partition("/")[2]]


@needs_reference
@pytest.mark.parametrize("name", NAMES)
def test_parity_with_released_numbers(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    logits = head.logits(features)
    assert head.verified and head.source == SOURCES[name] and logits.shape == (4,)
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=2e-5, rtol=1e-6)
    torch.testing.assert_close(logits.sigmoid(), torch.tensor(expected["probabilities"]), atol=1e-5, rtol=0)
    assert (expected["file_sha256"], expected["file_bytes"]) == (head.source.sha256, head.source.size)


@needs_reference
@pytest.mark.parametrize("name", [name for name in NAMES if SOURCES[name].method == "orthogonal"])
def test_parity_of_orthogonal_units(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    torch.testing.assert_close(head.activations(features), torch.tensor(expected["activations"]), atol=2e-5, rtol=0)
    contributions = torch.tensor(expected["logit_contributions"])
    torch.testing.assert_close(head.contributions(features), contributions, atol=2e-5, rtol=0)
    assert float(head.bias) == pytest.approx(expected["logit_bias"])


@needs_reference
@pytest.mark.parametrize("name", [name for name in NAMES if SOURCES[name].method == "concept"])
def test_parity_of_concepts(name: str) -> None:
    head, expected, features = load(name, REFERENCE / SOURCES[name].file), reference(name), features_for(name)
    torch.testing.assert_close(head.gates(features), torch.tensor(expected["gates"]), atol=2e-5, rtol=0)
    torch.testing.assert_close(head.contributions(features), torch.tensor(expected["contributions"]), atol=2e-5, rtol=0)
    similarities = torch.tensor(expected["similarities_first4"])
    torch.testing.assert_close(head.activations(features)[:, :4], similarities, atol=1e-6, rtol=0)
    torch.testing.assert_close(head.head.directions.norm(dim=1), torch.ones(168))
    assert float(head.bias) == pytest.approx(expected["classifier_bias"])


@needs_reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_released_weights_against_the_direct_formula(name: str, seed: int) -> None:
    path, features = REFERENCE / SOURCES[name].file, 3 * features_for(name, seed, rows=5)
    content = torch.load(path, weights_only=True, map_location="cpu")
    expected = direct_logits(content.get("state_dict", content), features)
    np.testing.assert_allclose(load(name, path).logits(features), expected, atol=2e-4, rtol=0)


# --- the algebra, on synthetic checkpoints -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("seed", [3, 4])
def test_logits_follow_the_definition(name: str, seed: int, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name, seed)
    assert not head.verified
    np.testing.assert_allclose(head.logits(features), direct_logits(synthetic_state(name), features), atol=2e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_contributions_sum_to_the_logit(name: str, tmp_path: Path) -> None:
    head, features = load(name, str(checkpoint(tmp_path, name))), features_for(name, 5)
    contributions = head.contributions(features)
    assert contributions.shape == (4, {ORTHOGONAL: 8, CONCEPT: 168}.get(name, SOURCES[name].width))
    assert head.bias.shape == ()
    torch.testing.assert_close(contributions.sum(1) + head.bias, head.logits(features), atol=0, rtol=0)


def test_orthogonal_units_by_hand(tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) for key, value in synthetic_state(ORTHOGONAL).items()}
    first, offsets, weight, bias = state
    state[first][2, 5], state[offsets][2], state[weight][0, 2], state[bias][0] = 4.0, 1.0, -0.5, 0.25
    head = load(ORTHOGONAL, checkpoint(tmp_path, ORTHOGONAL, packed(ORTHOGONAL, state)))
    features = torch.zeros(1, 1024)
    features[0, 5] = 2.0
    assert head.activations(features)[0].tolist() == [0, 0, 9, 0, 0, 0, 0, 0]
    assert head.contributions(features)[0].tolist() == [0, 0, -4.5, 0, 0, 0, 0, 0]
    assert head.logits(features).tolist() == [-4.25]


def test_concepts_by_hand(tmp_path: Path) -> None:
    state = {key: torch.zeros_like(value) for key, value in synthetic_state(CONCEPT).items()}
    concepts, gate, gate_bias, weight, bias = state
    state[concepts][:, 0] = 1.0
    state[gate][1, 1], state[gate_bias][2] = 10.0, 100.0
    state[weight][0, :3], state[bias][0] = torch.tensor([2.0, 2.0, -1.0]), 0.5
    head = load(CONCEPT, checkpoint(tmp_path, CONCEPT, packed(CONCEPT, state)))
    features = torch.zeros(1, 768)
    features[0, 0], features[0, 1] = 3.0, 4.0  # at unit length 0.6, 0.8
    opened = 1 / (1 + np.exp(-8.0))
    assert head.activations(features)[0].tolist() == pytest.approx([0.6] * 168)
    assert head.gates(features)[0, :3].tolist() == pytest.approx([0.5, opened, 1.0])
    assert head.contributions(features)[0, :3].tolist() == pytest.approx([0.6, 1.2 * opened, -0.6])
    assert head.logits(features).tolist() == pytest.approx([0.5 + 1.2 * opened])


def test_concepts_ignore_scale_and_stay_deterministic(tmp_path: Path) -> None:
    head, features = load(CONCEPT, checkpoint(tmp_path, CONCEPT)), features_for(CONCEPT, 6)
    torch.testing.assert_close(head.logits(features), head.logits(1000 * features), atol=1e-4, rtol=0)
    assert torch.equal(head.gates(features), head.gates(features))
    assert head.activations(features).abs().max() <= 1 and head.gates(features).min() >= 0
    assert torch.isfinite(head.logits(torch.zeros(1, 768))).all()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_frozen_but_differentiable_in_the_features(name: str, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name).requires_grad_()
    head.logits(features).sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in vars(head.head).values())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_batches_and_types_of_features(name: str, tmp_path: Path) -> None:
    head, features = load(name, checkpoint(tmp_path, name)), features_for(name)
    assert head.logits(features[:0]).shape == (0,)
    torch.testing.assert_close(head.logits(features.double()), head.logits(features), atol=0, rtol=0)
    assert head.logits(features.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(head.logits(features[1:2])[0], head.logits(features)[1], atol=2e-5, rtol=1e-5)
    for wrong in (features[0], features[:, 1:], features[None]):
        with pytest.raises(ValueError, match="reads (pooled|projected) features of shape") as caught:
            head.logits(wrong)
        assert_one_sentence(caught.value)
