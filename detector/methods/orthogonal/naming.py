"""Names for the orthogonal head's units: which concepts in words does a unit follow, and more than chance would give?

Two ways, as docs/methods.md, 1.3 has them. Correlation: the concepts whose activation follows the unit over reference images.
TextSpan (Gandelsman and others, arXiv 2310.05916): greedily the text direction that explains most of what is left of the
unit's variance. Units live before the projection, so a text direction t is pulled back as W_proj t. Departures: one unit at
a time instead of a whole attention head, and directions are antonym differences. The chance level comes from random
mixtures of the vocabulary's own directions, as many as there are concepts. All of this: choice, the authors' code is not
released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from detector.clip.vocabulary import Concept
from detector.devices import to_numpy

STEPS = 5
LEAST = 0.02  # share of the variance that a further TextSpan step must explain


def correlations(activations: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Pearson correlation of each unit with each concept over N images: (N, k), (N, C) → (k, C), in [−1, 1]."""

    def standard(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(0)
        return centred / np.maximum(np.sqrt((centred**2).sum(0)), 1e-12)

    return standard(activations).T @ standard(concepts)


def text_span(
    weight: np.ndarray, directions: np.ndarray, pooled: np.ndarray | None, steps: int = STEPS, least: float = LEAST
) -> list[list[tuple[int, float, float]]]:
    """For each unit, greedily chosen (concept, sign, share of the unit's variance that this step explains).

    weight: (k, D) units; directions: (C, D) pulled back; pooled: (N, D) reference features, whose covariance weighs the
    directions, or None for plain geometry. Shares lie in [0, 1] and add up to at most 1 for a unit.
    """
    if pooled is None:
        return [_greedy(unit, directions.T, steps, least) for unit in weight]
    features = pooled - pooled.mean(0)
    scores = features @ directions.T  # (N, C)
    return [_greedy(features @ unit, scores, steps, least) for unit in weight]


def _greedy(target: np.ndarray, scores: np.ndarray, steps: int, least: float) -> list[tuple[int, float, float]]:
    """Orthogonal matching: each step takes the column most aligned with what is left, then removes it everywhere."""
    total, left, columns, terms = float(target @ target), target.copy(), scores.copy(), []
    for _ in range(steps if total > 0 else 0):
        norms = np.sqrt((columns**2).sum(0))
        usable = norms > 1e-6 * np.sqrt((scores**2).sum(0)).max()
        along = np.where(usable, left @ columns / np.where(usable, norms, 1), 0)
        best = int(np.abs(along).argmax())
        share = float(along[best] ** 2) / total
        if share < max(least, 1e-9):  # the rest is rounding
            break
        terms.append((best, float(np.sign(along[best])), share))
        axis = columns[:, best] / norms[best]
        left, columns = left - axis * (axis @ left), columns - np.outer(axis, axis @ columns)
    return terms


def random_mixtures(directions: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, E) unit rows: random mixtures of the given ones, so that chance has the same kind of directions to offer."""
    mixed = generator.standard_normal((count, len(directions))) @ directions
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def chance_levels(
    weight: np.ndarray, directions: np.ndarray, projection: np.ndarray, pooled: np.ndarray | None, draws: int = 50, seed: int = 0
) -> np.ndarray:
    """(k,) in [0, 1]: for each unit the share of its variance that the best of C random mixtures explains, 95th percentile.

    Each unit has its own level: one along which images vary much is easily explained by anything.
    """
    generator = np.random.default_rng(seed)
    best = []
    for _ in range(draws):
        mixtures = random_mixtures(directions, len(directions), generator) @ projection.T
        best.append([steps[0][2] if steps else 0.0 for steps in text_span(weight, mixtures, pooled, steps=1, least=0.0)])
    return np.percentile(best, 95, axis=0)


def _record(concept: Concept, sign: float, **strength: float) -> dict:
    """pole: the phrase towards which a rising unit points."""
    pole = concept.positive if sign > 0 else concept.negative
    return {"concept": concept.name, "pole": pole} | {name: round(value, 3) for name, value in strength.items()}


def correlation_names(activations: np.ndarray, concepts: np.ndarray, words: Sequence[Concept], names: int = 3) -> list[list[dict]]:
    """For each unit the `names` concepts whose activation correlates most with it, the strongest first.

    activations: (N, k), concepts: (N, C) over the same images. Each name is {"concept", "pole", "correlation"}.
    """
    named = []
    for row in correlations(activations, concepts):
        best = np.argsort(-np.abs(row), kind="stable")[:names].tolist()
        named.append([_record(words[i], row[i], correlation=float(abs(row[i]))) for i in best])
    return named


def unnamed(units: int) -> dict:
    """What `name_units` returns where no word can be encoded: no unit has a name."""
    return {"names": [[]] * units, "text_span": [[]] * units, "chance": [1.0] * units, "named": [False] * units}


def name_units(
    weight: Tensor,
    directions: Tensor,
    projection: Tensor,
    words: Sequence[Concept],
    pooled: Tensor | None = None,
    projected: Tensor | None = None,
) -> dict:
    """What comes nearest to each of the k units, by both ways, and the level that chance reaches.

    weight: (k, D); directions: (C, E) unit rows; projection: W_proj (D, E); pooled (N, D) and projected (N, E): reference
    features; without them TextSpan is plain geometry and there are no correlations.

    Returns "names" (by correlation), "text_span" (steps with "explained" and "cumulative"), "chance" (for each unit the share
    of its variance that random directions explain) and "named": whether either way is above chance, a correlation counting
    by its square. A unit that is not is unnamed, however well the words may sound.
    """
    unit, text, matrix = (to_numpy(t).astype(np.float64) for t in (weight, directions, projection))
    features = None if pooled is None else to_numpy(pooled).astype(np.float64)
    chance = chance_levels(unit, text, matrix, features)
    names: list[list[dict]] = [[] for _ in unit]
    spans = [_span_records(steps, words) for steps in text_span(unit, text @ matrix.T, features)]
    if pooled is not None and projected is not None:
        image = torch.nn.functional.normalize(projected, dim=1) @ directions.T
        names = correlation_names(to_numpy(pooled) @ to_numpy(weight).T, to_numpy(image), words)
    named = [
        bool(steps and steps[0]["explained"] > level or best and best[0]["correlation"] ** 2 > level)
        for steps, best, level in zip(spans, names, chance, strict=True)
    ]
    return {"names": names, "text_span": spans, "chance": [round(float(level), 3) for level in chance], "named": named}


def _span_records(steps: list[tuple[int, float, float]], words: Sequence[Concept]) -> list[dict]:
    shares = np.cumsum([share for _, _, share in steps])
    return [
        _record(words[i], sign, explained=share, cumulative=float(total)) for (i, sign, share), total in zip(steps, shares, strict=True)
    ]
