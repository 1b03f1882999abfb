"""Leave sources out: logits of images from heads that saw no image of their source (stacking, Wolpert 1992).

Each fold holds out whole generators together with whole collections of photographs. A fold's head is made as the head that is shipped:
it learns from all training images of the other sources; their validation images serve early stopping and Platt scaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from detector.data.datasets import DataError
from detector.data.sources import source_folds
from detector.methods.base import Head
from detector.methods.calibration import calibrated, logits_of
from detector.methods.registry import METHODS
from detector.methods.table import Table, Training
from detector.progress import progress
from detector.training.splits import Splits

FOLDS = 4
SCORED_COPIES = 1  # random copies of an image that are scored besides the image itself


@dataclass(frozen=True)
class Stack:
    """Out-of-source logits of N rows: method → (N,), higher speaks for synthetic, NaN without an answer.

    labels, sources, corpora, folds, names: (N,), names as `row_names` gives them. views: rows of an image, one after another, the first of
    them the image as it is. Logits of different folds come from different heads.
    """

    logits: dict[str, np.ndarray]
    labels: np.ndarray
    sources: np.ndarray
    corpora: np.ndarray
    folds: np.ndarray
    names: np.ndarray
    views: int

    @property
    def originals(self) -> np.ndarray:
        """(N,) bool: rows of images as they are."""
        return np.arange(len(self.labels)) % self.views == 0


def unscored_folds(stack: Stack, method: str) -> list[int]:
    """The folds in which the method has no logit at all."""
    return [int(fold) for fold in np.unique(stack.folds) if not np.isfinite(stack.logits[method][stack.folds == fold]).any()]


def scored_rows(splits: Splits) -> list[Table]:
    """The rows that are scored: of `train`, then of `val`, images and as many copies as both have, at most SCORED_COPIES.

    Re-syntheses are not among them.
    """
    copies = min(SCORED_COPIES, int(splits.train.copy.max()), int(splits.val.copy.max()))
    return [table.rows((table.copy <= copies) & (table.origins == "")) for table in (splits.train, splits.val)]


def row_names(table: Table) -> np.ndarray:
    """(N,) names of rows, the same on every machine: corpus, label, source, file and number of the copy."""
    rows = zip(table.pictures.examples, table.pictures.copy, strict=True)
    return np.array([f"{e.corpus}/{e.label}/{e.source}/{e.path.name}#{copy}" for e, copy in rows])


def joined(splits: Splits, field: str) -> np.ndarray:
    """(N,) `labels`, `sources` or `corpora` of the scored rows."""
    return np.concatenate([getattr(table, field) for table in scored_rows(splits)])


def fold_count(splits: Splits, most: int = FOLDS) -> int:
    """How many folds the sources allow, at most `most`; 0 where a class has fewer than four sources, which leaves none to learn from."""
    labels, sources = joined(splits, "labels"), joined(splits, "sources")
    fewest = min(len(np.unique(sources[labels == label])) for label in (0, 1))
    return min(most, fewest) if fewest >= FOLDS else 0


def out_of_source_logits(
    methods: Sequence[str],
    splits: Splits,
    training: Training,
    options: Mapping[str, Any],
    given: Mapping[str, np.ndarray] | None = None,
    count: int = FOLDS,
) -> Stack:
    """Logits of all images of both splits, each from a head that saw none of its fold's sources.

    options: method → what its `fit` reads from `Training.options`. given: method → (N,) logits, in the order of the rows, of methods that
    are not trained here. count: of folds, drawn by the training's seed. DataError where the data have too few sources.
    """
    labels, sources, corpora = (joined(splits, field) for field in ("labels", "sources", "corpora"))
    folds = source_folds(labels, sources, count, training.seed)
    names = np.concatenate([row_names(table) for table in scored_rows(splits)])
    logits = {method: np.asarray(values, np.float64) for method, values in (given or {}).items() if method in methods}
    for method in methods:
        if method not in logits:
            logits[method] = np.full(len(labels), np.nan)
            settings = Training(training.backbone, training.seed, options.get(method))
            for fold in progress(range(count), count, f"{method} without sources"):
                _score_fold(method, splits, np.unique(sources[folds == fold]), settings, logits[method])
    views = 1 + int(max(table.copy.max() for table in scored_rows(splits)))
    return Stack({method: logits[method] for method in methods}, labels, sources, corpora, folds, names, views)


def _score_fold(method: str, splits: Splits, held: np.ndarray, training: Training, logits: np.ndarray) -> None:
    """Write the logits of the rows whose source is in `held`."""
    head = fold_head(method, splits, held, training)
    start = 0
    for table, of_method in zip(scored_rows(splits), _tables(method, splits), strict=True):
        mask = np.isin(table.sources, held)
        rows = of_method.rows((of_method.copy <= table.copy.max()) & np.isin(of_method.sources, held))
        logits[start + np.flatnonzero(mask)] = logits_of(head, rows, training.backbone)
        start += len(mask)


def _tables(method: str, splits: Splits) -> tuple[Table, Table]:
    return splits.of_train(method), splits.val


def fold_head(method: str, splits: Splits, held: np.ndarray, training: Training) -> Head:
    """The method's calibrated head, trained without the sources `held` (names) and without re-syntheses of their photographs."""
    known = splits.val.without(held).originals()
    if len(np.unique(known.labels)) < 2:
        raise DataError("The validation images come from other sources than the training images; divide the images of each source.")
    fitted = METHODS[method].fitter()(splits.training_table(method).without(held), known, training)
    return calibrated(fitted.head, known, training.backbone)


# --- logits in a file --------------------------------------------------------------------------------------------------


def write_logits(folder: Path, stack: Stack) -> None:
    """One file METHOD.npz a method: `names` and `logits` of all rows. The folder is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for method, values in stack.logits.items():
        np.savez(folder / f"{method}.npz", names=stack.names, logits=values.astype(np.float32))


def read_logits(path: Path, splits: Splits) -> np.ndarray:
    """(N,) logits of a file of `write_logits`, in the order of the scored rows. DataError if it is none or lacks some of them."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            values = dict(zip(saved["names"].tolist(), saved["logits"].tolist(), strict=True))
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(
            f"'{path.name}' is no file of out-of-source logits; give one that `evaluate --protocol leave-sources-out` wrote."
        ) from error
    names = np.concatenate([row_names(table) for table in scored_rows(splits)])
    missing = sum(name not in values for name in names)
    if missing:
        raise DataError(f"'{path.name}' lacks {missing} of {len(names)} rows of these data; make it again from the same folders.")
    return np.array([values[name] for name in names])
