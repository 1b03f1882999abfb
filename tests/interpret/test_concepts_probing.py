"""interpret/concepts.py: typed concepts, parts switched off, directions dropped; on the shipped model and on planted cases."""

from dataclasses import replace

import pytest
import torch

from detector.clip.vocabulary import vocabulary
from detector.data.images import load_photo
from detector.methods.concepts.head import concept_directions
from detector.methods.orthogonal.head import OrthogonalHead
from detector.verdict.reference import Reference
from interpret import concepts
from interpret.concepts import ProbeError, drop_curve, probe, probe_reading, switch_off, switch_reading, without


@pytest.fixture(scope="module")
def evidence(suite, picture):
    return suite.evidence([load_photo(picture)])


@pytest.fixture(scope="module")
def record(suite, picture):
    return suite.analyze(picture).to_dict()


def test_a_vocabulary_pair_typed_by_hand_is_that_concept(suite, evidence, record):
    word = vocabulary()[0]
    found = probe(suite, evidence, word.positive_prompt, word.negative_prompt)
    own = next(c for c in record["concepts"] if c["name"] == word.name)
    assert found.activation == pytest.approx(own["activation"], abs=1e-5)
    assert found.neighbours[0][0] == word.positive and found.neighbours[0][1] == pytest.approx(1, abs=1e-4)


def test_the_opposite_order_gives_the_opposite_activation(suite, evidence):
    one, other = probe(suite, evidence, "a red car", "a blue car"), probe(suite, evidence, "a blue car", "a red car")
    assert one.activation == pytest.approx(-other.activation, abs=1e-6)
    assert one.percentiles["all"] == pytest.approx(100 - other.percentiles["all"], abs=1e-6)
    assert one.auroc == pytest.approx(1 - other.auroc, abs=1e-9)


def test_a_unit_that_is_the_concept_has_cosine_one(suite, evidence):
    axis = concept_directions(suite.backbone, vocabulary()[5:6])
    pulled = axis @ suite.backbone.projection.T
    planted = OrthogonalHead(torch.cat([3 * pulled, -pulled]), torch.zeros(2), torch.ones(2), torch.tensor(0.0))
    changed = replace(suite, heads=suite.heads | {"orthogonal": planted})
    word = vocabulary()[5]
    found = probe(changed, evidence, word.positive_prompt, word.negative_prompt)
    assert found.unit_cosines == pytest.approx([1, -1], abs=1e-5)


@pytest.mark.parametrize(
    "phrase, words",
    [("", "at least one word"), ("   ", "at least one word"), ("!?", "at least one word"), ("word " * 100, "499 characters")],
)
def test_unusable_phrases_get_one_sentence(suite, evidence, phrase, words):
    with pytest.raises(ProbeError, match=words) as caught:
        probe(suite, evidence, phrase)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("phrase", ["туман над рекой", "夜の街", "<script>alert(1)</script>", "x"])
def test_any_alphabet_is_read_and_said_to_be_unfamiliar(suite, evidence, phrase):
    found = probe(suite, evidence, phrase)
    assert -1 <= found.activation <= 1 and 0 <= found.percentiles["all"] <= 100
    assert ("hardly seen" in found.note) == (phrase != "x")


def test_a_phrase_against_itself_is_refused(suite, evidence):
    with pytest.raises(ProbeError, match="same"):
        probe(suite, evidence, "a dog", "a dog")


def test_without_reference_images_there_are_no_percentiles(suite, evidence):
    bare = replace(suite, reference=None)
    found = probe(bare, evidence, "fog")
    assert found.percentiles == {} and found.auroc is None and "%" not in probe_reading(found)
    assert drop_curve(bare, evidence) is None


def test_switching_everything_off_leaves_the_biases(suite, record):
    names = [c["name"] for c in record["concepts"]]
    units = list(range(len(record["orthogonal"]["contributions"])))
    found = switch_off(suite, record, units, names)
    for method, (before, after) in found.logits.items():
        assert before == record["detectors"][method]["logit"]
        assert after == pytest.approx(record["detectors"][method]["bias"], abs=1e-3)


def test_the_verdict_moves_by_exactly_the_fused_change(suite, record):
    strongest = max(record["concepts"], key=lambda c: abs(c["contribution"]))
    found = switch_off(suite, record, [], [strongest["name"]])
    logits = {method: score["logit"] for method, score in record["detectors"].items()}
    expected = suite.fusion.decide(logits | {"concepts": logits["concepts"] - strongest["contribution"]})
    assert found.probabilities == pytest.approx((record["verdict"]["probability"], expected.probability))
    assert found.labels == (record["verdict"]["label"], expected.label)
    assert "concepts: logit" in switch_reading(found)


def test_nothing_off_changes_nothing(suite, record):
    found = switch_off(suite, record, [], [])
    assert switch_reading(found) == "Nothing is switched off." and found.probabilities[0] == found.probabilities[1]


def test_without_takes_out_just_the_directions():
    features, mean = torch.randn(6, 5), torch.randn(5)
    directions = torch.randn(2, 5)
    left = without(features, directions, mean)
    torch.testing.assert_close((left - mean) @ directions.T, torch.zeros(6, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(without(left, directions, mean), left, atol=1e-5, rtol=0)
    assert without(features, directions[:0], mean) is features


def test_dropping_the_one_informative_direction_costs_all_and_random_ones_little(suite, evidence):
    """Planted: the label is one pooled axis; 40 axes, so that a random direction hardly touches it."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(300) % 2
    pooled = torch.randn(300, 40, generator=generator)
    pooled[:, 0] += 4.0 * labels
    head = OrthogonalHead(torch.eye(40)[:4], torch.zeros(4), torch.tensor([5.0, 0.1, 0.1, 0.1]), torch.tensor(0.0))
    reference = Reference(pooled, pooled[:, :8], labels, pooled[:0, :8])
    planted = replace(suite, heads={"orthogonal": head}, reference=reference)
    clip = replace(evidence.clip, pooled=pooled[:1])
    curve = drop_curve(planted, replace(evidence, clip=clip), "orthogonal", draws=20)
    assert curve.k == [0, 1, 2, 4] and curve.names[0] == "unit 1"
    assert curve.auroc["named"][0] > 0.98 and curve.auroc["named"][1] < 0.65
    assert curve.auroc["isotropic low"][3] > 0.95
    assert "more than chance" in concepts.drop_reading(curve)


def test_a_head_that_uses_everything_alike_is_said_to_be_no_better_than_chance(suite, evidence):
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(400) % 2
    pooled = torch.randn(400, 6, generator=generator) + 0.5 * labels[:, None]
    head = OrthogonalHead(torch.eye(6), torch.zeros(6), torch.ones(6), torch.tensor(0.0))
    planted = replace(suite, heads={"orthogonal": head}, reference=Reference(pooled, pooled, labels, pooled[:0]))
    clip = replace(evidence.clip, pooled=pooled[:1])
    curve = drop_curve(planted, replace(evidence, clip=clip), "orthogonal", draws=20)
    assert "no more than chance" in concepts.drop_reading(curve)


def test_the_curve_of_the_shipped_concept_model_is_the_same_twice(suite, evidence):
    one, other = (drop_curve(suite, evidence, draws=3) for _ in range(2))
    assert one == other and one.k == [0, 1, 2, 4, 8, 16, 32]
    assert one.auroc["named"][0] == pytest.approx(one.auroc["isotropic mean"][0])
