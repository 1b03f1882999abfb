"""detector/methods/orthogonal/naming.py and reference.py: planted units are found, random ones stay unnamed, shares add up."""

import numpy as np
import pytest
import torch

from detector.clip.vocabulary import vocabulary
from detector.methods.orthogonal.naming import chance_levels, correlation_names, name_units, text_span
from detector.verdict.reference import Reference, percentile

WIDTH, EMBED, COUNT = 24, 16, 40


@pytest.fixture(scope="module")
def space():
    """Directions in text space, a projection, and reference images that vary unequally along the pooled axes."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(COUNT, EMBED, generator=generator), dim=1)
    projection = torch.randn(WIDTH, EMBED, generator=generator)
    pooled = torch.randn(200, WIDTH, generator=generator) * torch.linspace(0.3, 2, WIDTH) + 1.5
    return directions, projection, pooled


def test_a_unit_that_is_a_concept_is_named_by_it_and_fully_explained(space):
    directions, projection, pooled = space
    unit = -2.5 * directions[7:8] @ projection.T
    (steps,) = text_span(unit.numpy(), (directions @ projection.T).numpy(), pooled.numpy())
    assert steps[0][:2] == (7, -1.0) and steps[0][2] == pytest.approx(1, abs=1e-6) and len(steps) == 1


def test_a_mixture_is_taken_apart_and_shares_add_up_to_at_most_one(space):
    directions, projection, pooled = space
    pulled = (directions @ projection.T).numpy()
    unit = 3 * pulled[4] / np.linalg.norm(pulled[4]) + 1.5 * pulled[9] / np.linalg.norm(pulled[9])
    (steps,) = text_span(unit[None], pulled, None, steps=COUNT, least=0)
    assert steps[0][0] == 4 and sum(share for _, _, share in steps) == pytest.approx(1, abs=1e-6)
    shares = [share for _, _, share in steps]
    assert shares[0] == max(shares) and len({i for i, _, _ in steps}) == len(steps)


def test_the_first_share_is_the_squared_correlation(space):
    directions, projection, pooled = (t.numpy() for t in space)
    unit = np.random.default_rng(1).standard_normal((1, WIDTH))
    scores, target = pooled @ projection @ directions.T, pooled @ unit[0]
    best = max(np.corrcoef(target, column)[0, 1] ** 2 for column in scores.T)
    assert text_span(unit, directions @ projection.T, pooled)[0][0][2] == pytest.approx(best)


def test_names_need_more_than_chance(space):
    directions, projection, pooled = space
    words = vocabulary()[:COUNT]
    planted, random = directions[3:4] @ projection.T, torch.zeros(1, WIDTH)
    random[0, 0] = 1.0  # the axis along which images vary least
    found = name_units(torch.cat([planted, random]), directions, projection, words, pooled, pooled @ projection)
    assert found["names"][0][0]["concept"] == found["text_span"][0][0]["concept"] == words[3].name
    assert found["text_span"][0][0]["pole"] == words[3].positive and all(0 < level < 1 for level in found["chance"])
    assert found["named"][0] is True
    for level, steps, names, named in zip(found["chance"], found["text_span"], found["names"], found["named"], strict=True):
        assert named == (steps[0]["explained"] > level or names[0]["correlation"] ** 2 > level)


def test_directions_that_say_nothing_leave_units_unnamed():
    generator = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(6, 300, generator=generator), dim=1)
    units, projection = torch.randn(4, 300, generator=generator), torch.eye(300)
    found = name_units(units, directions, projection, vocabulary()[:6])
    assert found["names"] == [[], [], [], []] and sum(found["named"]) <= 1


def test_chance_is_the_same_for_the_same_seed(space):
    directions, projection, pooled = (t.numpy() for t in space)
    weight = np.random.default_rng(0).standard_normal((2, WIDTH))
    levels = [chance_levels(weight, directions, projection, pooled, draws=5, seed=seed).tolist() for seed in (0, 0, 1)]
    assert levels[0] == levels[1] != levels[2] and len(levels[0]) == 2


def test_a_dead_unit_has_no_name(space):
    directions, projection, pooled = (t.numpy() for t in space)
    assert text_span(np.zeros((1, WIDTH)), directions @ projection.T, pooled) == [[]]


def test_correlation_names_are_sorted_signed_and_bounded():
    activations = np.arange(10.0)[:, None]
    concepts = np.column_stack([-np.arange(10.0), np.arange(10.0) * (np.arange(10) % 2), np.tile([1.0, -1.0], 5)])
    (named,) = correlation_names(activations, concepts, vocabulary()[:3], names=2)
    assert [n["concept"] for n in named] == [vocabulary()[0].name, vocabulary()[1].name]
    assert named[0]["pole"] == vocabulary()[0].negative and named[0]["correlation"] == 1.0


@pytest.mark.parametrize("value, expected", [(0.0, 12.5), (-1, 0), (5, 100), (2.0, 62.5)])
def test_percentile_counts_ties_half(value, expected):
    assert percentile(value, np.array([0.0, 1.0, 2.0, 3.0])) == expected


def test_reference_survives_half_precision():
    reference = Reference(torch.randn(5, 3), torch.randn(5, 2), torch.tensor([0, 1, 0, 1, 1]), torch.randn(4, 2))
    again = Reference.from_tensors(reference.tensors())
    torch.testing.assert_close(again.pooled, reference.pooled, rtol=1e-3, atol=1e-3)
    assert again.labels.tolist() == [0, 1, 0, 1, 1]
