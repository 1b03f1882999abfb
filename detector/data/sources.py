"""Sources of images: generators and collections of photographs. What they weigh, and folds: of whole sources, and random ones."""

from __future__ import annotations

import numpy as np

from detector.data.datasets import CLASS_NAMES, DataError


def source_weights(labels: np.ndarray, sources: np.ndarray, power: float) -> np.ndarray:
    """(N,) weights of rows, of mean 1: a source of n rows weighs n^(1 − power) within its class, and both classes weigh the same.

    labels: (N,) 0 real, 1 synthetic; sources: (N,) names. power 0: all rows of a class weigh the same; 1: all its sources do.
    """
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        rows = labels == label
        _, source, counts = np.unique(sources[rows], return_inverse=True, return_counts=True)
        weights[rows] = counts[source] ** -float(power)
        weights[rows] /= weights[rows].sum()
    return weights * (len(labels) / weights.sum())


def source_folds(labels: np.ndarray, sources: np.ndarray, count: int = 4, seed: int = 0) -> np.ndarray:
    """(N,) fold of each row, 0 to count − 1. A source is in one fold with all its rows, so that a fold holds out whole generators
    together with whole collections of photographs. Folds are balanced: large sources first, each goes where its class has fewest rows.

    labels, sources: as for `source_weights`. DataError, one sentence, where a class has fewer sources than there are folds.
    """
    names, source = np.unique(sources, return_inverse=True)
    sizes = np.stack([np.bincount(source[labels == label], minlength=len(names)) for label in (0, 1)], axis=1)  # (S, 2)
    scarce = [CLASS_NAMES[label] for label in (0, 1) if (sizes[:, label] > 0).sum() < count]
    if scarce:
        raise DataError(f"Folds that hold out whole sources need at least {count} {scarce[0]} sources; add sources or use fewer folds.")
    shares = sizes / sizes.sum(axis=0)
    key = shares.max(axis=1) * np.random.default_rng(seed).uniform(0.5, 1, len(names))  # large ones first, in an order that seeds vary
    loads, fold = np.zeros((count, 2)), np.zeros(len(names), int)
    for name in np.argsort(-key, kind="stable"):
        fold[name] = np.argmin(((loads + shares[name]) * (sizes[name] > 0)).max(axis=1))
        loads[fold[name]] += shares[name]
    return fold[source]


def random_folds(labels: np.ndarray, seed: int = 0, count: int = 5) -> np.ndarray:
    """(N,) fold of each row, 0 to count − 1, drawn at random; every fold has its share of both classes."""
    generator = np.random.default_rng(seed)
    folds = np.empty(len(labels), int)
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        folds[rows] = np.arange(len(rows)) % count
    return folds
