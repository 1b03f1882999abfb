"""detector/methods/physical/selection.py on planted data: what separates everywhere is found, what flips or repeats is not."""

import json

import numpy as np
import pytest

from detector.data.datasets import read_dataset, with_splits
from detector.methods.physical.features import NAMES
from detector.methods.physical.selection import Group, group_sources, relations, scored, select, selection_report, take, training_images


def planted(seed: int, shift: dict[int, float], count: int = 300) -> Group:
    """Half real; in synthetic images the given descriptors are moved by so many standard deviations. 14 repeats 0."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    values = generator.standard_normal((count, 15))
    for j, amount in shift.items():
        values[:, j] += amount * labels
    values[:, 14] = np.exp(values[:, 0])
    return Group(f"source {seed}", values, labels)


def test_relation_is_the_auroc_by_hand():
    values = np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 3.0], [4.0, 3.0]])
    # first column: pairs (synthetic, real): 2>1, 4>1, 4>3 right, 2<3 wrong: AUROC 3/4; second: constant
    np.testing.assert_allclose(relations(values, np.array([0, 1, 0, 1])), [0.5, 0.0])


def test_undefined_values_are_left_out_of_the_relation():
    values = np.array([[1.0], [np.nan], [2.0], [3.0]])
    assert relations(values, np.array([0, 0, 1, 1]))[0] == 1.0
    assert relations(np.full((4, 1), np.nan), np.array([0, 0, 1, 1]))[0] == 0.0


def test_score_by_hand():
    relation = np.array([[0.4, 0.4, -0.2], [0.2, -0.4, -0.6], [0.6, 0.4, -0.4]])
    consistency, score = scored(relation)
    np.testing.assert_allclose(consistency, [1, 1 / 3, 1])
    np.testing.assert_allclose(score, [(0.4 + 0.2) / 2, (0.4 + 0.4) / 6, (0.4 + 0.2) / 2])


def test_repeats_are_skipped_for_the_next_best():
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = -0.95
    assert take(np.array([0.9, 0.8, 0.7, 0.0]), correlation, 2) == ([0, 2], {1: 0})
    assert take(np.zeros(4), correlation) == ([], {})


def test_planted_descriptors_are_found_a_flipping_one_and_a_repeat_are_not():
    strong = {0: 2.0, 3: -1.5, 7: 1.0}
    groups = [planted(s, strong | {5: 3.0 if s % 2 else -3.0}) for s in range(4)]
    found = select(groups, draws=30)
    assert found.chosen[0] in (NAMES[0], NAMES[14]) and {NAMES[3], NAMES[7]} <= set(found.chosen)
    assert NAMES[5] not in found.chosen and found.consistency[5] == 0
    assert not {NAMES[0], NAMES[14]} <= set(found.chosen) and set(found.redundant) & {NAMES[0], NAMES[14]}
    assert found.stability[3] == 1.0 and found.relation["source 0"][3] < -0.5


def test_the_same_seed_gives_the_same_selection():
    groups = [planted(s, {2: 0.3}) for s in range(3)]
    assert select(groups, draws=10) == select(groups, draws=10)


def test_sources_with_their_own_reals_and_with_too_few_images():
    labels = np.array([0] * 20 + [1] * 10 + [0] * 9 + [1] * 9 + [1] * 3)
    sources = np.array(["camera"] * 20 + ["flux"] * 10 + ["gan"] * 18 + ["rare"] * 3)
    groups, left_out = group_sources(np.zeros((len(labels), 15)), labels, sources)
    assert {g.name: (int((g.labels == 0).sum()), int((g.labels == 1).sum())) for g in groups} == {"flux": (29, 10), "gan": (9, 9)}
    assert left_out == {"rare": 3}


def test_a_few_reals_of_its_own_are_not_enough():
    labels = np.array([0] * 20 + [0] * 2 + [1] * 10)
    groups, _ = group_sources(np.zeros((32, 15)), labels, np.array(["camera"] * 20 + ["gan"] * 12))
    assert [int((g.labels == 0).sum()) for g in groups] == [22]


def test_real_images_that_stand_in_several_groups_count_once():
    first = planted(0, {2: 1.0}, 40)
    other = planted(1, {2: 1.0}, 40)
    real = first.labels == 0
    second = Group("other", np.concatenate([first.values[real], other.values[other.labels == 1]]), np.repeat([0, 1], 20))
    assert select([first, second], draws=1).images == 60


def test_without_named_splits_what_the_studies_test_on_is_held_back(tmp_path):
    lines = ["file,split,label,source"] + [f"{i}.jpg,,{i % 2},x" for i in range(200)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    seen = {e.path.name for e in training_images(tmp_path)}
    held = {e.path.name for e in with_splits(read_dataset(tmp_path), test=True) if e.split == "test"}
    assert held and not seen & held and len(seen) + len(held) == 200


def test_test_images_are_never_looked_at(tmp_path):
    lines = ["file,split,label,source"] + [f"{s}{y}.jpg,{s},{y},x" for s in ("train", "val", "test_seen") for y in (0, 1)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    assert {e.split for e in training_images(tmp_path)} == {"train", "val"}


def test_report_shows_both_cores_and_every_source():
    result = json.loads(json.dumps(select([planted(s, {0: 2.0}) for s in range(2)], {"rare": 3}, draws=5).to_dict()))
    text = selection_report(result)
    assert text.count("\n| ") == 16 and "source 1" in text and "rare (3)" in text and "paper" in text


def test_report_says_when_nothing_holds():
    flipping = [planted(s, {5: 3.0 if s % 2 else -3.0}) for s in range(2)]
    result = select(flipping, draws=5).to_dict() | {"consistency": [0.0] * 15, "stability": [0.2] * 15, "chosen": ["saturation"]}
    text = selection_report(result)
    assert "0 of 15 point the same way on every source" in text and "half of the bootstrap draws: saturation." in text


@pytest.mark.parametrize("labels", [np.zeros(30, int), np.ones(30, int)])
def test_one_class_alone_relates_to_nothing(labels):
    assert (relations(np.random.default_rng(0).standard_normal((30, 15)), labels) == 0).all()
