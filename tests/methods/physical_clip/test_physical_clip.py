"""detector/methods/physical_clip/: its formula written out again, what it can learn, and what it must not read."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import write_tiny
from written_descriptors import parse

from detector.clip.backbone import Backbone, ClipFeatures
from detector.evaluation.studies.physical_clip import ABLATIONS, Ablation, Split, ablation_report, ablation_scores, ablations
from detector.methods.base import Evidence, HeadCard, HeadError, load_head, save_head
from detector.methods.physical.features import NAMES, PAPER_CORE
from detector.methods.physical_clip.head import BLOCKS, PhysicalClipHead, joint, places, with_text
from detector.methods.physical_clip.train import Inputs, PhysicalClipRecipe, Texts, contrastive, fit_physical_clip

WIDTH = 10
LIMITS = np.stack([np.zeros(15), np.full(15, 2.0)])
QUICK = PhysicalClipRecipe(hidden=64, epochs=25)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("backbone") / "tiny")))


def unit(count: int, generator: torch.Generator) -> torch.Tensor:
    return F.normalize(torch.randn(count, WIDTH, generator=generator), dim=1)


def evidence(projected: torch.Tensor, text: torch.Tensor | None, descriptors: np.ndarray) -> Evidence:
    return Evidence(ClipFeatures(projected, projected, None), descriptors, np.zeros((len(projected), 1)), physical_text=text)


def planted(seed: int, count: int = 1500) -> tuple[Evidence, np.ndarray]:
    """Synthetic where image and text lie on the same side of an axis, which neither shows alone: an interaction."""
    generator = torch.Generator().manual_seed(seed)
    image, text = unit(count, generator), unit(count, generator)
    side = torch.sign(torch.randn(2, count, generator=generator))
    image[:, 0], text[:, 0] = side[0], side[1]
    labels = (side[0] * side[1] > 0).numpy().astype(int)
    descriptors = np.random.default_rng(seed).uniform(0, 2, (count, 15))
    return evidence(5 * image, F.normalize(text, dim=1), descriptors), labels


@pytest.fixture(scope="module")
def head():
    return fit_physical_clip(planted(0), planted(1, 500), Texts(LIMITS), recipe=QUICK)


def auroc(head, data) -> float:
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(data[1], head.score(data[0]).logit)


# --- the formula ---------------------------------------------------------------------------------------------------


def test_logit_written_out_again_for_one_image(head):
    found, _ = planted(2, 3)
    z = found.clip.projected[1].numpy().astype(np.float64)
    t = found.physical_text[1].numpy().astype(np.float64)
    z /= np.linalg.norm(z)
    v = [min(max(found.descriptors[1, NAMES.index(name)] / 2, 0), 1) for name in PAPER_CORE]
    u = np.concatenate([z, t, z * t, v])
    part = {name: value.numpy().astype(np.float64) for name, value in head.tensors().items()}
    u = (u - u.mean()) / np.sqrt(u.var() + 1e-5) * part["norm_weight"] + part["norm_bias"]
    hidden = part["hidden_weight"] @ u + part["hidden_bias"]
    from scipy.stats import norm

    logit = (hidden * norm.cdf(hidden)) @ part["readout"] + part["bias"]
    assert len(u) == 3 * WIDTH + 5
    assert head.score(found).logit[1] == pytest.approx(logit, abs=1e-4)


def test_scoring_is_deterministic_and_does_not_depend_on_the_batch_or_the_length_of_the_image_embedding(head):
    found, _ = planted(3, 8)
    all_at_once = head.score(found).logit
    alone = evidence(found.clip.projected[2:3] * 7, found.physical_text[2:3], found.descriptors[2:3])
    np.testing.assert_allclose(head.score(alone).logit, all_at_once[2:3], atol=1e-5)


def test_places_by_hand_and_what_is_not_defined_counts_as_the_middle():
    values = np.full((1, 15), 1.5)
    values[0, NAMES.index("sobel_mean")], values[0, NAMES.index("sobel_std")] = np.nan, -3
    assert places(values, LIMITS, PAPER_CORE).tolist() == [[0.75, 0.5, 0.0, 0.75, 0.75]]


def test_blocks_stand_in_a_fixed_order():
    image, text, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[9.0]])
    assert joint(image, text, values, BLOCKS).tolist() == [[1, 2, 3, 4, 3, 8, 9]]
    assert joint(image, text, values, ("values", "image")).tolist() == [[1, 2, 9]]


# --- what it learns ------------------------------------------------------------------------------------------------


def test_an_interaction_of_image_and_text_is_learnt(head):
    assert auroc(head, planted(4, 600)) > 0.9


def test_one_side_of_an_interaction_tells_nothing():
    rows = {name: read(planted(seed, count)) for name, seed, count in (("train", 0, 1500), ("val", 1, 500), ("test", 4, 600))}
    splits = {name: {"both": found} for name, found in rows.items()}
    found = {blocks: ablation_scores(Ablation(blocks), splits, 10.0, 1, QUICK)["test"][0] for blocks in (("image",), ("text",), BLOCKS)}
    assert found[BLOCKS] > 0.9 and found["image",] < 0.6 and found["text",] < 0.6


def read(data: tuple[Evidence, np.ndarray]) -> Inputs:
    found, labels = data
    image = F.normalize(found.clip.projected, dim=1)
    return Inputs(image, found.physical_text, places(found.descriptors, LIMITS, PAPER_CORE), torch.as_tensor(labels).float())


def test_a_value_alone_is_learnt_and_only_of_the_core():
    def shown(name: str, seed: int):
        found, labels = planted(seed, 600)
        text = torch.ones_like(found.physical_text) / WIDTH**0.5
        descriptors = found.descriptors.copy()
        descriptors[:, NAMES.index(name)] = 0.5 + labels
        return evidence(torch.ones_like(found.clip.projected), text, descriptors), labels

    def skill(name: str) -> float:
        return auroc(fit_physical_clip(shown(name, 0), shown(name, 1), Texts(LIMITS), recipe=QUICK), shown(name, 2))

    assert skill("residual_variance") > 0.95 and skill("saturation") < 0.6


def test_the_same_seed_gives_the_same_head(head):
    again = fit_physical_clip(planted(0), planted(1, 500), Texts(LIMITS), recipe=QUICK)
    assert all(torch.equal(a, b) for a, b in zip(head.tensors().values(), again.tensors().values(), strict=True))


# --- the tuned form ------------------------------------------------------------------------------------------------


def test_contrast_by_hand():
    image = torch.eye(2)
    expected = np.log(1 + np.exp(-3.0))  # right answer 3, wrong answer 0, in both directions
    assert contrastive(image, torch.eye(2), 3.0).item() == pytest.approx(expected, abs=1e-6)
    assert contrastive(image, torch.eye(2).flip(0), 3.0).item() == pytest.approx(expected + 3, abs=1e-6)


def test_rows_with_the_very_same_text_are_no_wrong_answers():
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert contrastive(torch.eye(2), text, 5.0).item() == pytest.approx(0, abs=1e-6)
    image = torch.eye(2).requires_grad_()
    contrastive(image, text, 5.0).backward()
    assert torch.isfinite(image.grad).all()


def test_maps_are_the_identity_unless_tuned(head):
    assert torch.equal(head.image_map, torch.eye(WIDTH)) and torch.equal(head.text_map, torch.eye(WIDTH))


def test_tuning_brings_an_image_and_its_own_text_together():
    def turned(seed: int, count: int = 800):  # every text is its image, turned by the same rotation
        generator = torch.Generator().manual_seed(seed)
        image = unit(count, generator)
        rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9)))[0]
        return evidence(image, image @ rotation, np.ones((count, 15))), np.arange(count) % 2

    recipe = PhysicalClipRecipe(hidden=8, epochs=8, patience=8, map_rate=1e-2, batch=100, contrast=5.0)
    tuned = fit_physical_clip(turned(0), turned(1, 200), Texts(LIMITS), scale=10.0, recipe=recipe)
    fresh, _ = turned(2, 200)

    def alike(image_map, text_map) -> float:
        image, text = F.normalize(fresh.clip.projected @ image_map.T, dim=1), F.normalize(fresh.physical_text @ text_map.T, dim=1)
        return float((image * text).sum(1).mean())

    assert alike(tuned.image_map, tuned.text_map) > alike(torch.eye(WIDTH), torch.eye(WIDTH)) + 0.2


# --- files and refusals --------------------------------------------------------------------------------------------


def test_head_file_round_trip(head, tmp_path):
    card = HeadCard("physical_clip", "embedded", "abc", "projected", "as is", "made up", "none")
    save_head(tmp_path / "head.safetensors", head.tensors(), card)
    tensors, _ = load_head(tmp_path / "head.safetensors")
    again = PhysicalClipHead.from_tensors(tensors)
    found, _ = planted(5, 20)
    np.testing.assert_array_equal(again.score(found).logit, head.score(found).logit)
    assert again.core_names == PAPER_CORE and again.limits.dtype == torch.float64


def test_scaling_scales_the_logit(head):
    found, _ = planted(5, 20)
    np.testing.assert_allclose(head.scaled(2.0, -1.0).score(found).logit, 2 * head.score(found).logit - 1, atol=1e-4)


def test_evidence_without_text_gets_one_sentence(head):
    found, labels = planted(5, 20)
    bare = evidence(found.clip.projected, None, found.descriptors)
    for use in (lambda: head.score(bare), lambda: fit_physical_clip((bare, labels), (bare, labels), Texts(LIMITS))):
        with pytest.raises(HeadError, match="descriptors as text"):
            use()


def test_undefined_and_far_out_descriptors_give_a_finite_logit(head):
    found, _ = planted(5, 3)
    odd = evidence(found.clip.projected, found.physical_text, np.array([[np.nan] * 15, [1e30] * 15, [-1e30] * 15]))
    assert np.isfinite(head.score(odd).logit).all()


# --- with a backbone -----------------------------------------------------------------------------------------------


def samples(backbone: Backbone, seed: int, count: int = 60) -> Split:
    generator, numbers = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    width = backbone.projection.shape[1]
    labels = np.arange(count) % 2
    descriptors = numbers.uniform(0, 2, (count, 15))
    descriptors[:, NAMES.index("residual_variance")] = labels + numbers.uniform(0, 0.8, count)
    captions = [("a dog", "")[i % 3 == 0] for i in range(count)]
    return Split(evidence(torch.randn(count, width, generator=generator), None, descriptors), captions, labels)


def test_text_is_caption_and_core_in_the_backbone_s_own_context(backbone, monkeypatch):
    part, seen = samples(backbone, 0, 6), []
    encode = backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda texts: seen.extend(texts) or encode(texts))
    found = with_text(backbone, part.evidence, part.captions, LIMITS, PAPER_CORE)
    torch.testing.assert_close(found.physical_text.norm(dim=1), torch.ones(6))
    assert len(seen) == 6 and all(len(backbone.tokenizer.encode(text)) <= 14 for text in seen)
    assert all(set(parse(text)) <= set(PAPER_CORE) and parse(text) for text in seen)


def test_ablations_find_the_planted_value_wherever_values_are_read(backbone):
    train, val, test = (samples(backbone, seed, count) for seed, count in ((0, 160), (1, 40), (2, 60)))
    recipe = PhysicalClipRecipe(hidden=32, batch=40, epochs=15, rate=3e-3)
    result = ablations(backbone, {"train": train, "val": val, "test": test}, LIMITS, 2, recipe=recipe)
    assert set(result["cells"]) == set(ABLATIONS) and list(result["cells"]["all"]) == ["val", "test"]
    skill = {name: np.mean(found["test"]) for name, found in result["cells"].items()}
    assert skill["values only"] > 0.9 and skill["all"] > 0.7 and skill["image only"] < 0.68 and skill["caption only"] < 0.68
    text = ablation_report(result)
    assert text.count("\n| ") == len(ABLATIONS) + 1 and "2 seeds" in text and "residual_variance" in text
