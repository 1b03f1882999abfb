"""Figures by kind and size of the pictures, and on matched images."""

from __future__ import annotations

import numpy as np

from detector.evaluation.audit_facts import NAMES, Facts, kinds_of
from detector.evaluation.groups import CONTENT, size_of
from detector.evaluation.subgroups import matched_figures, subgroups
from detector.evaluation.tables import subgroups_table


def facts_of(labels: np.ndarray, long_sides: np.ndarray, words: list[str], generator: np.random.Generator) -> Facts:
    values = generator.normal(size=(len(labels), len(NAMES))) + 10
    values[:, NAMES.index("long side")] = long_sides
    for row, word in enumerate(words):
        values[row, [NAMES.index(f"content: {name}") for name in CONTENT]] = [0.1 * (name == word) for name in CONTENT]
    return Facts(values, labels, np.array(["a"] * len(labels)))


def test_kinds_and_sizes_by_hand():
    words = ["portrait", "street", "food", "painting"]
    content = np.array([[0.1 * (name == word) for name in CONTENT] for word in words])
    assert kinds_of(content).tolist() == ["portrait", "place", "thing", "art"]
    assert [size_of(side).split("side ")[1] for side in (256, 257, 512, 513)] == [
        "to 256 px",
        "257 to 512 px",
        "257 to 512 px",
        "over 512 px",
    ]


def test_a_group_has_its_own_figures_and_a_small_one_has_no_auroc():
    labels = np.arange(80) % 2
    words = ["portrait"] * 40 + ["landscape"] * 35 + ["painting"] * 5
    logits = np.where(np.arange(80) < 40, 1.0, -1.0) * (labels - 0.5)  # right on portraits, wrong elsewhere
    decide = lambda labels, logits: {"coverage": 1.0, "error_of_labelled": float(((logits > 0) != labels).mean())}  # noqa: E731
    groups = subgroups(facts_of(labels, np.full(80, 300), words, np.random.default_rng(1)), logits, decide)
    assert list(groups) == ["portrait", "place", "art", "long side 257 to 512 px"]
    assert groups["portrait"]["auroc"] == 1 and groups["portrait"]["error_of_labelled"] == 0
    assert groups["place"]["auroc"] == 0 and groups["place"]["error_of_labelled"] == 1
    assert groups["art"] == {"images": [2, 3]} or groups["art"] == {"images": [3, 2]}
    table = subgroups_table({"test": {"verdict": {"subgroups": groups, "matched": {}}}}, "verdict")
    assert "| test | place | " in table and "100%" in table and "| test | art | " in table


def test_a_score_that_only_reads_a_fact_is_at_chance_on_matched_images():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 600)
    facts = facts_of(labels, np.full(600, 300), ["object"] * 600, generator)
    facts.values[:, NAMES.index("brightness")] = 10 + 0.8 * labels + generator.normal(size=600)
    shortcut, skill = facts.values[:, NAMES.index("brightness")], labels + generator.normal(size=600)
    figures = matched_figures(facts, {"shortcut": shortcut, "skill": skill})
    assert abs(figures["shortcut"]["auroc"] - 0.5) < 0.06 and figures["skill"]["auroc"] > 0.7
    assert min(figures["skill"]["effective"]) > 50


def test_classes_without_overlap_have_no_matched_figures():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 200)
    facts = facts_of(labels, 300 + 500 * labels, ["object"] * 200, generator)
    assert matched_figures(facts, {"any": generator.normal(size=200)}) == {}
