"""Pictures that are there twice: files with the same bytes, and pictures whose embeddings nearly coincide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from detector.report.table import ScoreTable

COSINE = 0.995  # of two centred embeddings, from which on two pictures count as the same (choice)
TABLES, BITS = 6, 28  # of the hashes: two pictures with a cosine of 0.995 share one of the six with a probability of 0.91
CANDIDATES = 20_000  # pairs that are compared exactly
SAMPLE = 8192  # embeddings whose mean is the centre


@dataclass(frozen=True)
class Duplicates:
    """files: sets of files with the same bytes, in all. pictures: pairs (cosine, place, place) of similar embeddings, the nearest
    first, at most CANDIDATES of them. cut: whether there were more candidates than were compared."""

    files: int
    pictures: list[tuple[float, int, int]]
    cut: bool


def same_files(table: ScoreTable, most: int) -> tuple[int, list[list[str]]]:
    """How many contents occur in more than one file, and the keys of `most` of them, three each."""
    if "sha256" not in table.columns:
        return 0, []
    repeated = "SELECT hash(sha256) AS h, count(*) AS n FROM scores WHERE sha256 <> '' GROUP BY h HAVING n > 1"
    ((count,),) = table.rows(f"SELECT count(*) FROM ({repeated})")
    query = f"""SELECT list(key ORDER BY key)[1:3] FROM scores JOIN (SELECT h FROM ({repeated}) ORDER BY n DESC, h LIMIT ?)
        ON hash(sha256) = h WHERE sha256 <> '' GROUP BY h ORDER BY 1"""
    return count, [keys for (keys,) in table.rows(query, most)] if count else []


def similar_pictures(table: ScoreTable, column: str) -> tuple[list[tuple[float, int, int]], bool]:
    """Pairs (cosine, place, place) of similar pictures, the nearest first, and whether there were more candidates than were compared.

    Candidates share a hash of signs of random projections (Charikar 2002); their embeddings are then compared exactly.
    """
    centre = _centre(table, column)
    if centre is None:
        return [], False
    pairs = np.unique(_candidates(_hashes(table, column, centre)), axis=0)
    cut = len(pairs) > CANDIDATES
    pairs = pairs[:CANDIDATES]
    places = np.unique(pairs)
    rows = _rows(table, column, places, centre)
    first, second = (rows[np.searchsorted(places, pairs[:, side])] for side in (0, 1))
    cosines = np.einsum("nd,nd->n", first, second)
    order = np.argsort(-cosines, kind="stable")
    return [(float(cosines[i]), int(pairs[i, 0]), int(pairs[i, 1])) for i in order if cosines[i] >= COSINE], cut


def _centre(table: ScoreTable, column: str) -> np.ndarray | None:
    rows = table.rows(f'SELECT "{column}" FROM scores WHERE error IS NULL USING SAMPLE reservoir({SAMPLE} ROWS) REPEATABLE (0)')
    values = np.array([row for (row,) in rows if row is not None], np.float32)
    return values.mean(0) if len(values) > 1 else None


def _unit(batch: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return F.normalize(torch.from_numpy(batch - centre), dim=1).numpy()


def _hashes(table: ScoreTable, column: str, centre: np.ndarray) -> np.ndarray:
    """(N, TABLES) int32; −1 for rows without an embedding."""
    planes = np.random.default_rng(0).standard_normal((len(centre), TABLES * BITS), dtype=np.float32)
    powers = 1 << np.arange(BITS)
    parts = []
    for batch in table.vectors(column):
        if batch.shape[1] != len(centre):
            parts.append(np.full((len(batch), TABLES), -1, np.int32))
            continue
        signs = (np.nan_to_num(batch - centre) @ planes > 0).reshape(len(batch), TABLES, BITS)
        hashes = (signs @ powers).astype(np.int32)
        hashes[np.isnan(batch).any(1)] = -1
        parts.append(hashes)
    return np.concatenate(parts) if parts else np.zeros((0, TABLES), np.int32)


def _candidates(hashes: np.ndarray) -> np.ndarray:
    """(P, 2) places of neighbours with an equal hash in one of the tables."""
    parts = [np.zeros((0, 2), np.int64)]
    for column in hashes.T:
        order = np.argsort(column, kind="stable")
        same = (column[order][1:] == column[order][:-1]) & (column[order][1:] >= 0)
        parts.append(np.column_stack([order[:-1][same], order[1:][same]])[: 2 * CANDIDATES])
    return np.sort(np.concatenate(parts), axis=1)


def _rows(table: ScoreTable, column: str, places: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(len(places), D) unit embeddings of some rows; places: sorted."""

    def parts() -> Iterator[np.ndarray]:
        start = 0
        for batch in table.vectors(column):
            inside = places[np.searchsorted(places, start) : np.searchsorted(places, start + len(batch))] - start
            if len(inside):
                yield _unit(batch[inside], centre)
            start += len(batch)

    return np.concatenate([*parts(), np.zeros((0, len(centre)), np.float32)])
