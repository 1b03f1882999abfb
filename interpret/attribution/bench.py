"""How well maps find the part of a splice whose origin differs, beside controls on the same pictures.

A draw is one splice of each kind from the same four pictures; intervals are bootstraps over draws. Maps are signed (negated on "real in
synthetic"). A control is not, so it gets the best of three readings over both kinds: what is odd, what speaks for synthetic, what speaks
for
real. That favours the controls. Costly maps may be measured on the first draws alone; the number stands beside each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from scipy.stats import rankdata

from interpret.attribution.baselines import baselines
from interpret.attribution.exact import robust_scores
from interpret.attribution.splices import CONTROLS, KINDS, Splice

DIRECTED = tuple(kind for kind in KINDS if kind not in CONTROLS)
MEASURES = ("auroc", "ap", "pointing")
READINGS = {"oddity": (1, 1), "synthetic": (1, -1), "real": (-1, 1)}  # sign of a control's map for each of `DIRECTED`
SIZES = (("under 10 %", 0.1), ("10 to 20 %", 0.2), ("20 % and more", 1.0))  # of the picture, and the size below which each ends
BOOTSTRAPS = 1000
POOLED_BOOTSTRAPS = 100
POOLED_PLACES = 64  # of each splice, drawn at random, for the AUROC over the places of all splices together
BLOCK = 4  # pixels: maps are compared with the truth by the mean of such squares
THREADS = 2

Item = TypeVar("Item")
Result = TypeVar("Result")
MapFunction = Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]


@dataclass
class Row:
    """One map on one splice. numbers: of `localisation`; of a control, also those of its negative, under `negative`. places: (2, P) of a
    map, values and whether they lie inside; standing: (P,) the same places' robust z-scores."""

    name: str
    draw: int
    kind: str
    size: str
    source: str
    numbers: dict[str, float]
    negative: dict[str, float] = field(default_factory=dict)
    places: np.ndarray = field(default_factory=lambda: np.zeros((2, 0)))
    standing: np.ndarray = field(default_factory=lambda: np.zeros(0))


# --- one map on one splice -----------------------------------------------------------------------------------------


def localisation(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """How well a map (high: inside) finds a mask. Places where the map is NaN are left out.

    auroc: of places inside against outside, 0.5 for chance. ap: average precision, whose chance is the share of places inside. pointing: 1
    if
    the highest place lies inside, else 0 (ties: the share of them inside). NaN if nothing is inside or nothing outside.
    """
    return _localisation(*_places(values, mask))


def _places(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks, inside = _blocks(values), _blocks(mask.astype(np.float32)) > 0.5
    finite = np.isfinite(blocks)
    return blocks[finite], inside[finite]


def _localisation(values: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    if inside.all() or not inside.any():
        return dict.fromkeys(MEASURES, float("nan"))
    best = values == values.max()
    return {"auroc": auroc(values, inside), "ap": _average_precision(values, inside), "pointing": float(inside[best].mean())}


def auroc(values: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a place inside is higher than one outside, ties count half."""
    ranks, count = rankdata(values), inside.sum()
    return float((ranks[inside].sum() - count * (count + 1) / 2) / (count * (~inside).sum()))


def _average_precision(values: np.ndarray, inside: np.ndarray) -> float:
    """Mean precision over the places inside; equal values have one rank, the lowest."""
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # last place of each run of equal values
    hits = np.cumsum(inside[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / inside.sum())


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means of `BLOCK`-pixel squares, cut at the lower and right edge; a square with a NaN is NaN."""
    height, width = (length // BLOCK for length in values.shape)
    return values[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK).mean((1, 3), dtype=np.float64)


# --- all splices ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BenchPlan:
    """layers: maps measured on every draw. costly: maps measured on the first `subset` draws. seed: of the random map and of the
    bootstraps."""

    layers: Sequence[str]
    costly: Sequence[str] = ()
    subset: int = 20
    seed: int = 0


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's result for each item, in their order, `THREADS` at a time: maps spend their time where Python's lock is free."""
    if THREADS == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def bench(map_function: MapFunction, draws: Iterable[list[Splice]], plan: BenchPlan) -> dict:
    """{"draws", "maps", "baselines"}: plain numbers. map_function: (pixels, layers) → layer → (H, W) map, positive for synthetic.

    "maps": name → "draws", "kinds" (kind → measure → [mean, low, high]), "sizes" and "sources" (→ kind → [mean, low, high] of the AUROC,
    with
    "splices"), "gain" (kind → the best control of that kind, and the difference of the AUROC to it), "pooled" (kind → form → AUROC over the
    places of all splices). "baselines": name → "reading" and the first four.
    """

    def measure(item: tuple[int, list[Splice]]) -> list[Row]:
        index, splices = item
        layers = [*plan.layers, *(plan.costly if index < plan.subset else ())]
        return [row for splice in splices for row in _rows(map_function(splice.pixels, layers), splice, index, plan.seed)]

    rows = [row for part in in_threads(measure, enumerate(draws)) for row in part]
    names = [*plan.layers, *plan.costly]
    controls = {name: _best_reading([row for row in rows if row.name == name]) for name in {r.name: 0 for r in rows} if name not in names}
    return {
        "draws": 1 + max(row.draw for row in rows) if rows else 0,
        "maps": {name: _map_summary([row for row in rows if row.name == name], controls, plan.seed) for name in names},
        "baselines": {name: {"reading": reading} | _summary(best, plan.seed) for name, (reading, best) in controls.items()},
    }


def _rows(maps: Mapping[str, np.ndarray], splice: Splice, draw: int, seed: int) -> list[Row]:
    size = next(name for name, limit in SIZES if splice.mask.mean() < limit)
    rows = []
    for name, values in maps.items():
        places, inside = _places(splice.sign * values, splice.mask)
        row = Row(name, draw, splice.kind, size, splice.source, _localisation(places, inside))
        sample = np.random.default_rng((seed, draw)).permutation(len(places))[:POOLED_PLACES]
        row.places, row.standing = np.stack([places[sample], inside[sample]]), robust_scores(places, places)[sample]
        rows.append(row)
    for name, values in baselines(splice.pixels, seed + draw).items():
        places, inside = _places(values, splice.mask)
        numbers, negative = (_localisation(sign * places, inside) for sign in (1, -1))
        rows.append(Row(name, draw, splice.kind, size, splice.source, numbers, negative))
    return rows


def _best_reading(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """The reading of a control with the highest mean AUROC over `DIRECTED`, and its rows in that reading."""

    def read(signs: tuple[int, int]) -> list[Row]:
        sign = dict(zip(DIRECTED, signs, strict=True)) | dict.fromkeys(CONTROLS, signs[0])
        return [row if sign[row.kind] > 0 else Row(row.name, row.draw, row.kind, row.size, row.source, row.negative) for row in rows]

    readings = {name: read(signs) for name, signs in READINGS.items()}
    best = max(readings, key=lambda name: np.nanmean([interval(_values(readings[name], kind), draws=1)[0] for kind in DIRECTED]))
    return best, readings[best]


# --- in numbers ----------------------------------------------------------------------------------------------------


def interval(values: Sequence[float] | np.ndarray, seed: int = 0, draws: int = BOOTSTRAPS) -> list[float]:
    """Mean and its 95 % bootstrap interval over the rows that are not NaN: [mean, low, high]; three NaN if there are none."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return [float("nan")] * 3
    means = array[np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))].mean(1)
    return [float(array.mean()), *(float(v) for v in np.percentile(means, [2.5, 97.5]))]


def _values(rows: Sequence[Row], kind: str, measure: str = "auroc") -> np.ndarray:
    return np.array([row.numbers[measure] for row in rows if row.kind == kind])


def _summary(rows: Sequence[Row], seed: int) -> dict:
    kinds = {kind: {m: interval(_values(rows, kind, m), seed) for m in MEASURES} for kind in KINDS}
    groups: dict[str, dict] = {"sizes": {}, "sources": {}}
    for group, names in (("sizes", [name for name, _ in SIZES]), ("sources", sorted({row.source for row in rows if row.source}))):
        for name in names:
            part = [row for row in rows if name in (row.size, row.source) and row.kind in DIRECTED]
            numbers = {kind: interval(_values(part, kind), seed) for kind in DIRECTED}
            groups[group][name] = {"splices": len(part)} | numbers
    return {"draws": len({row.draw for row in rows}), "kinds": kinds} | groups


def _map_summary(rows: Sequence[Row], controls: Mapping[str, tuple[str, list[Row]]], seed: int) -> dict:
    draws = {row.draw for row in rows}
    same = {name: [row for row in best if row.draw in draws] for name, (_, best) in controls.items()}
    gain = {}
    for kind in DIRECTED:
        means = {name: interval(_values(part, kind), draws=1)[0] for name, part in same.items()}
        best = max(means, key=lambda name: np.nan_to_num(means[name], nan=-1.0))  # noqa: B023 (used at once)
        gain[kind] = {"baseline": best, "auroc": interval(_values(rows, kind) - _values(same[best], kind), seed)}
    return _summary(rows, seed) | {"gain": gain, "pooled": {kind: _pooled(rows, kind, seed) for kind in KINDS}}


def _pooled(rows: Sequence[Row], kind: str, seed: int) -> dict[str, list[float]]:
    """Form of the map → [AUROC over the places of all splices, low, high]: only here do logits and standing out differ."""
    of_kind = [row for row in rows if row.kind == kind]
    parts = {"logits": [row.places[0] for row in of_kind], "standing out": [row.standing for row in of_kind]}
    if not of_kind:
        return {form: [float("nan")] * 3 for form in parts}
    inside = [row.places[1] > 0 for row in of_kind]
    generator = np.random.default_rng(seed)
    draws = [np.arange(len(of_kind)), *generator.integers(len(of_kind), size=(POOLED_BOOTSTRAPS, len(of_kind)))]

    def of_draw(values: Sequence[np.ndarray], indices: np.ndarray) -> float:
        truth = np.concatenate([inside[i] for i in indices])
        return auroc(np.concatenate([values[i] for i in indices]), truth) if truth.any() and not truth.all() else float("nan")

    results = {}
    for form, values in parts.items():
        whole, *others = (of_draw(values, indices) for indices in draws)
        results[form] = [whole, *(float(v) for v in np.nanpercentile(others, [2.5, 97.5]))]
    return results
