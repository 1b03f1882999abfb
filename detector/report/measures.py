"""What the page says of a table: distributions, AUROC with intervals, drift, concepts, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from detector.assets import EMBEDDED
from detector.evaluation.metrics import reliability
from detector.methods.base import HeadError, load_head
from detector.methods.physical.features import NAMES
from detector.methods.physical.head import PhysicalHead
from detector.methods.registry import find_heads
from detector.report.table import Group, ScoreTable
from detector.verdict.fusion import Fusion

BINS = 40  # of a distribution
LEAST = 5  # images of a class, below which no AUROC is given


@dataclass(frozen=True)
class Distribution:
    """Of one column in one group. rows: with a value. mean, deviation, and the percentiles 5, 50, 95. counts: (BINS,) between `low` and
    `high`, which all groups of the column share; values beyond count in the outermost bin."""

    group: Group
    rows: int
    mean: float
    deviation: float
    percentiles: tuple[float, float, float]
    counts: np.ndarray
    low: float
    high: float


def distributions(values: np.ndarray, table: ScoreTable) -> list[Distribution]:
    """Of a column, (N,) NaN for no value, for each group that has values."""
    finite = np.isfinite(values)
    if not finite.any():
        return []
    low, high = (float(edge) for edge in np.percentile(values[finite], [0.5, 99.5]))
    results = []
    for code, group in enumerate(table.groups):
        part = values[(table.codes == code) & finite].astype(np.float64)
        if len(part):
            counts = np.histogram(np.clip(part, low, high), BINS, (low, high) if high > low else (low - 1, low + 1))[0]
            five, middle, most = np.percentile(part, [5, 50, 95])
            results.append(Distribution(group, len(part), part.mean(), part.std(), (five, middle, most), counts, low, high))
    return results


# --- AUROC -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Auroc:
    """value: 0 to 1, above 0.5 synthetic images score higher. low, high: 95 % interval."""

    value: float
    low: float
    high: float


def auroc(real: np.ndarray, synthetic: np.ndarray) -> Auroc | None:
    """AUROC with DeLong's variance (DeLong, DeLong and Clarke-Pearson 1988), the interval on the scale of its log-odds.

    real, synthetic: scores, higher speaks for synthetic. None for fewer than LEAST of a class.
    """
    real, synthetic = np.sort(real[np.isfinite(real)]), np.sort(synthetic[np.isfinite(synthetic)])
    if min(len(real), len(synthetic)) < LEAST:
        return None
    below, above = _placements(synthetic, real), 1 - _placements(real, synthetic)
    value = float(below.mean())
    error = float(np.sqrt(below.var(ddof=1) / len(below) + above.var(ddof=1) / len(above)))
    if error == 0 or not 0 < value < 1:
        return Auroc(value, value, value)
    centre, width = logit(value), 1.96 * error / (value * (1 - value))
    return Auroc(value, float(expit(centre - width)), float(expit(centre + width)))


def _placements(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of the sorted `others` below each value, ties counted half."""
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


def auroc_row(scores: np.ndarray, table: ScoreTable) -> dict[str, Auroc]:
    """Synthetic source → AUROC against all real images; first "all" synthetic images."""
    real = scores[table.truth == 0]
    row = {"all": auroc(real, scores[table.truth == 1])}
    row |= {group.source: auroc(real, scores[table.codes == code]) for code, group in enumerate(table.groups) if group.truth == 1}
    return {name: value for name, value in row.items() if value}


def auroc_pairs(scores: np.ndarray, table: ScoreTable) -> dict[str, dict[str, Auroc]]:
    """Real source → synthetic source → AUROC."""
    parts = [(group, np.sort(scores[table.codes == code])) for code, group in enumerate(table.groups)]
    pairs = {
        real.source: {fake.source: auroc(values, others) for fake, others in parts if fake.truth == 1}
        for real, values in parts
        if real.truth == 0
    }
    return {name: {other: value for other, value in row.items() if value} for name, row in pairs.items()}


def calibration(table: ScoreTable, scores: np.ndarray) -> dict | None:
    """`reliability` of the verdict; None without both classes."""
    usable = (table.truth >= 0) & np.isfinite(scores)
    labels = table.truth[usable]
    return reliability(labels, scores[usable].astype(np.float64)) if len(set(labels.tolist())) == 2 else None


# --- drift -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class References:
    """Column → class → (K,) sorted values of the images that the heads were validated on. note: why there are none, or ""."""

    values: dict[str, tuple[np.ndarray, np.ndarray]]
    note: str = ""


def references(table: ScoreTable) -> References:
    """The percentile tables of the physical head and the logits that the verdict was fitted on, of the table's backbone."""
    backbone, weights = table.facts.get("backbone", EMBEDDED), table.facts.get("weights")
    heads = find_heads(backbone)
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        if "physical" in heads:
            physical = PhysicalHead.from_tensors(load_head(heads["physical"])[0])
            values |= {name: (physical.real[:, place], physical.synthetic[:, place]) for place, name in enumerate(NAMES)}
        if "verdict" in heads:
            tensors, card = load_head(heads["verdict"])
            if weights in (None, card.fingerprint):
                values |= _logits(Fusion.from_tensors(tuple(card.details["heads"]), tensors))
    except HeadError as error:
        return References(values, str(error))
    return References(values, "" if values else f"There are no reference tables for the backbone '{backbone}' here.")


def _logits(fusion: Fusion) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Column of each method's logits → its logits of the original images of each class."""
    plain = fusion.originals
    fused = fusion.fuse({name: fusion.logits[:, place] for place, name in enumerate(fusion.methods)})
    columns = {f"{name}_logit": fusion.logits[:, place] for place, name in enumerate(fusion.methods)} | {"logit": fused}
    return {
        name: tuple(np.sort(values[plain & (fusion.labels == label) & np.isfinite(values)]) for label in (0, 1))  # type: ignore[misc]
        for name, values in columns.items()
    }


def drift(values: np.ndarray, reference: tuple[np.ndarray, np.ndarray], table: ScoreTable) -> dict[int, float]:
    """Place of a group → Kolmogorov-Smirnov distance, 0 (the same) to 1, of its values from the reference images of its class; where the
    class is unknown, from the real ones."""
    distances = {}
    for code, group in enumerate(table.groups):
        part = np.sort(values[(table.codes == code) & np.isfinite(values)])
        if len(part):
            distances[code] = ks_distance(part, np.sort(reference[group.truth or 0]))
    return distances


def ks_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance of the cumulative distributions of two sorted samples, 0 to 1."""
    both = np.concatenate([first, second])
    shares = (np.searchsorted(part, both, "right") / len(part) for part in (first, second))
    one, other = shares
    return float(np.abs(one - other).max())


# --- concepts ----------------------------------------------------------------------------------------------------------


def concept_usage(table: ScoreTable) -> np.ndarray:
    """(G, C) mean contribution of each concept in each group, in logits, above 0 speaks for synthetic; NaN for groups without any."""
    sums: np.ndarray | None = None
    counts, start = np.zeros(len(table.groups)), 0
    for batch in table.vectors("concepts"):
        codes = table.codes[start : start + len(batch)]
        start += len(batch)
        present = ~np.isnan(batch).any(1) if batch.shape[1] else np.zeros(len(batch), bool)
        if sums is None and batch.shape[1]:
            sums = np.zeros((len(table.groups), batch.shape[1]))
        if sums is not None and present.any():
            np.add.at(sums, codes[present], batch[present])
            counts += np.bincount(codes[present], minlength=len(counts))
    if sums is None:
        return np.zeros((len(table.groups), 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / np.where(counts, counts, np.nan)[:, None]
