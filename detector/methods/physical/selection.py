"""Which descriptors tell real from synthetic on every data set, and in the same direction?

arXiv 2604.04608 selects five of fifteen by consistent discrimination but publishes no algorithm; this one is a choice
(docs/methods.md, 4). For every synthetic source d and descriptor j: A = AUROC of the value against real images, r = 2A − 1.
Consistency C_j = |Σ_d sign r_dj| / n; score Q_j = C_j · (median_d |r_dj| + min_d |r_dj|) / 2. Descriptors are taken by falling
Q, leaving out any with |Spearman| > 0.9 to one already taken, until there are five. Only training and validation images count.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from detector.data.datasets import DataError, Example, read_dataset, with_splits
from detector.data.images import load_photo
from detector.markdown import markdown_table
from detector.methods.physical import features as physical
from detector.methods.physical.features import NAMES, PAPER_CORE, UNNAMED
from detector.progress import progress

CHOSEN = 5
REDUNDANT = 0.9  # absolute Spearman correlation
FEWEST = 8  # images of a source; with fewer an AUROC says little
DRAWS = 200


@dataclass(frozen=True)
class Group:
    """One synthetic source against the real images of its data set. values: (N, 15); labels: (N,), 0 real, 1 synthetic."""

    name: str
    values: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Selection:
    """What was found, descriptors in the order of `physical.NAMES`.

    relation: source → 15 values r = 2·AUROC − 1, positive: higher speaks for synthetic. consistency: C_j, score: Q_j, both in
    [0, 1]. stability: share of bootstrap draws in which the descriptor is among the chosen. redundant: descriptor → the
    better one that it repeats. left_out: sources with too few images. images: how many different ones were measured.
    """

    relation: dict[str, list[float]]
    consistency: list[float]
    score: list[float]
    stability: list[float]
    chosen: list[str]
    redundant: dict[str, str]
    left_out: dict[str, int]
    images: int

    def to_dict(self) -> dict:
        """Plain numbers for JSON, with the names and the paper's core beside the chosen ones."""
        return {"descriptors": list(NAMES), "paper_core": list(PAPER_CORE), **asdict(self)}


# --- reading -------------------------------------------------------------------------------------------------------


def training_images(data: Path) -> list[Example]:
    """Training and validation images of a data DIR: splits whose name begins with `test` are never looked at.

    Where no split is named, what the studies would test on is held back too.
    """
    return [example for example in with_splits(read_dataset(data), test=True) if not example.split.startswith("test")]


def read_groups(folders: Sequence[Path]) -> tuple[list[Group], dict[str, int]]:
    """A group for every synthetic source of every data DIR, and the sources left out with their number of images."""
    groups: list[Group] = []
    left_out: dict[str, int] = {}
    for folder in folders:
        examples = training_images(folder)
        with ThreadPoolExecutor() as pool:  # decoding and OpenCV let go of the interpreter
            measured = pool.map(lambda example: physical.measure(load_photo(example.path).pixels), examples)
            values = np.stack(list(progress(measured, len(examples), f"{folder.name}: descriptors")))
        found, few = group_sources(values, np.array([e.label for e in examples]), np.array([e.source for e in examples]))
        prefix = f"{folder.name}: " if len(folders) > 1 else ""
        groups += [Group(prefix + group.name, group.values, group.labels) for group in found]
        left_out |= {prefix + name: count for name, count in few.items()}
    if not groups:
        raise DataError(f"No synthetic source has at least {FEWEST} training images.")
    return groups, left_out


def group_sources(values: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> tuple[list[Group], dict[str, int]]:
    """Each synthetic source with its own real images where it has FEWEST or more, else with all real ones."""
    groups, left_out = [], {}
    for source in sorted(set(sources[labels == 1])):
        synthetic, own = (sources == source) & (labels == 1), (sources == source) & (labels == 0)
        if synthetic.sum() < FEWEST:
            left_out[str(source)] = int(synthetic.sum())
            continue
        rows = synthetic | (own if own.sum() >= FEWEST else labels == 0)
        groups.append(Group(str(source), values[rows], labels[rows]))
    return groups, left_out


# --- selecting -----------------------------------------------------------------------------------------------------


def relations(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(15,) r = 2·AUROC − 1 in [−1, 1] of each column; undefined values are left out, a constant column gives 0."""
    result = np.zeros(values.shape[1])
    for j, column in enumerate(values.T):
        known = np.isfinite(column)
        ranks, synthetic = rankdata(column[known]), labels[known] == 1
        positive, negative = synthetic.sum(), (~synthetic).sum()
        if positive and negative:
            area = (ranks[synthetic].sum() - positive * (positive + 1) / 2) / (positive * negative)
            result[j] = 2 * area - 1
    return result


def scored(relation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sources, 15) r → consistency C (15,) and score Q (15,)."""
    consistency = np.abs(np.sign(relation).sum(0)) / len(relation)
    size = np.abs(relation)
    return consistency, consistency * (np.median(size, axis=0) + size.min(0)) / 2


def take(score: np.ndarray, correlation: np.ndarray, count: int = CHOSEN) -> tuple[list[int], dict[int, int]]:
    """Indices by falling score without repeats, and repeated → the one it repeats. A score of 0 is never taken."""
    chosen: list[int] = []
    redundant: dict[int, int] = {}
    for j in np.argsort(-score, kind="stable"):
        if len(chosen) == count or score[j] <= 0:
            break
        twin = next((i for i in chosen if abs(correlation[i, j]) > REDUNDANT), None)
        if twin is None:
            chosen.append(int(j))
        else:
            redundant[int(j)] = twin
    return chosen, redundant


def select(groups: Sequence[Group], left_out: dict[str, int] | None = None, draws: int = DRAWS, seed: int = 0) -> Selection:
    """Run the selection on groups of measured images. Bootstrap: images drawn with replacement within class and source."""
    relation = np.stack([relations(group.values, group.labels) for group in groups])
    consistency, score = scored(relation)
    every = np.unique(np.concatenate([group.values for group in groups]), axis=0)  # reals stand in several groups, and count once
    correlation = np.nan_to_num(spearmanr(every, nan_policy="omit").statistic)
    chosen, redundant = take(score, correlation)
    generator, counts = np.random.default_rng(seed), np.zeros(every.shape[1])
    for _ in range(draws):
        redrawn = np.stack([relations(*_resampled(group, generator)) for group in groups])
        counts[take(scored(redrawn)[1], correlation)[0]] += 1
    return Selection(
        relation={group.name: _rounded(row) for group, row in zip(groups, relation, strict=True)},
        consistency=_rounded(consistency),
        score=_rounded(score),
        stability=_rounded(counts / max(draws, 1)),
        chosen=[NAMES[j] for j in chosen],
        redundant={NAMES[j]: NAMES[i] for j, i in redundant.items()},
        left_out=left_out or {},
        images=len(every),
    )


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def _resampled(group: Group, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([generator.choice(np.flatnonzero(group.labels == label), (group.labels == label).sum()) for label in (0, 1)])
    return group.values[rows], group.labels[rows]


# --- in words ------------------------------------------------------------------------------------------------------


def selection_report(result: dict) -> str:
    """Markdown from `Selection.to_dict()`: a row for each descriptor with the AUROC on every source, and both cores."""
    sources, chosen = list(result["relation"]), result["chosen"]
    named = [name for name in result["paper_core"] if name not in UNNAMED]
    rows = []
    for j in np.argsort(-np.asarray(result["score"]), kind="stable"):
        name = result["descriptors"][j]
        marks = [mark for mark, core in (("paper", named), ("ours", UNNAMED), ("data", chosen)) if name in core]
        note = " and ".join(marks) or (f"repeats {result['redundant'][name]}" if name in result["redundant"] else "")
        cells = [f"{(result['relation'][source][j] + 1) / 2:.2f}" for source in sources]
        values = (f"{result[what][j]:.2f}" for what in ("consistency", "score", "stability"))
        rows.append([name, *cells, *values, note])
    table = markdown_table(["descriptor", *sources, "consistency", "score", "stability", "core"], rows)
    steady = sum(value == 1 for value in result["consistency"])
    shaky = [name for name in chosen if result["stability"][result["descriptors"].index(name)] < 0.5]
    doubt = f" Chosen in fewer than half of the bootstrap draws: {', '.join(shaky)}." if shaky else ""
    few = "; left out for too few images: " + ", ".join(f"{n} ({c})" for n, c in result["left_out"].items()) if result["left_out"] else ""
    return (
        f"AUROC of each descriptor alone on training and validation images (0.5 is chance, below it a *lower* value speaks for "
        f"synthetic){few}. Chosen by these data: {', '.join(chosen) or 'none'}. Named by the paper: "
        f"{', '.join(named)}; the fifth of the heads' core is ours: {', '.join(UNNAMED)}. "
        f"{steady} of {len(result['descriptors'])} point the same way on every source.{doubt}\n\n" + table
    )
