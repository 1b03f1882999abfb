"""The tables of the papers, each from its data set after `prepare`: which measures, on which images, averaged how.

`PROTOCOLS` has one entry for each value of `evaluate --protocol`; a further one is an entry more. Every method keeps the preprocessing that
it was made with, and the threshold is logit 0. The released heads of a backbone are measured like this project's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from detector.evaluation.evaluate import all_logits, evaluation_splits, feature_table
from detector.markdown import markdown_table
from detector.suite import Suite

Measure = Callable[[np.ndarray, np.ndarray], float]  # labels (N,) 0 or 1, logits (N,) → a number in [0, 1], higher is better


@dataclass(frozen=True)
class Protocol:
    """run: (suite, data folder, folder of cached features or None, names of splits or None) → plain values for JSON. report: these →
    Markdown. summary: one line for the user."""

    summary: str
    run: Callable[[Suite, Path, Path | None, list[str] | None], dict[str, Any]]
    report: Callable[[dict[str, Any]], str]


# --- measures ------------------------------------------------------------------------------------------------------


def accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of right answers at logit 0, which is a probability of 0.5."""
    return float(((logits > 0) == (labels == 1)).mean())


def best_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of right answers at the threshold that is best in hindsight: an upper limit, no figure of a usable detector."""
    false, true, _ = roc_curve(labels, logits, drop_intermediate=False)
    synthetic = float((labels == 1).mean())
    return float((true * synthetic + (1 - false) * (1 - synthetic)).max())


MEASURES: dict[str, Measure] = {
    "AP": lambda labels, logits: float(average_precision_score(labels, logits)),
    "AUROC": lambda labels, logits: float(roc_auc_score(labels, logits)),
    "accuracy": accuracy,
    "best accuracy": best_accuracy,
    "F1": lambda labels, logits: float(f1_score(labels, logits > 0)),
}


# --- a paper's table -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaperTable:
    """measures: names in MEASURES, each taken for every synthetic source and averaged over the sources, all weighing the same.

    real_sources: synthetic source → the source whose real images it is compared with. A source that is not named here, or whose partner
    the data lack, is compared with real images of its own name, else with all of the split.
    """

    measures: Sequence[str]
    real_sources: Mapping[str, str] = field(default_factory=dict)

    def masks(self, labels: np.ndarray, sources: np.ndarray) -> dict[str, np.ndarray]:
        """Synthetic source → (N,) bool, the images that its measures are taken on."""
        masks = {}
        for source in sorted(set(sources[labels == 1])):
            names = (source, self.real_sources.get(source))
            real = next((rows for name in names if (rows := (sources == name) & (labels == 0)).any()), labels == 0)
            masks[str(source)] = ((sources == source) & (labels == 1)) | real
        return masks

    def result(self, labels: np.ndarray, sources: np.ndarray, logits: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Method → "sources": source → measures, and "mean": the mean of each over the sources."""
        masks = self.masks(labels, sources)
        result: dict[str, Any] = {}
        for method, values in logits.items():
            rows = {source: {name: MEASURES[name](labels[mask], values[mask]) for name in self.measures} for source, mask in masks.items()}
            mean = {name: float(np.mean([row[name] for row in rows.values()])) for name in self.measures}
            result[method] = {"sources": rows, "mean": mean}
        return result


def run_paper(table: PaperTable, suite: Suite, data: Path, cache: Path | None, splits: list[str] | None) -> dict[str, Any]:
    """ "splits": split → what `PaperTable.result` gives. Without `splits`: every split whose name begins with `test`, else all images."""
    results = {}
    for split, examples in evaluation_splits([data], splits).items():
        features = feature_table(suite, examples, cache, split)
        results[split] = table.result(features.labels, features.sources, all_logits(suite, features.evidence))
    return {"splits": results}


def report_paper(table: PaperTable, result: dict[str, Any]) -> str:
    """Markdown for each split: a row for each method, a column for each source and the mean; one table for each measure, in per cent."""
    parts = []
    for split, methods in result["splits"].items():
        sources = list(next(iter(methods.values()))["sources"])
        for name in table.measures:
            rows = [
                [method, *(_percent(figures["sources"][source][name]) for source in sources), _percent(figures["mean"][name])]
                for method, figures in methods.items()
            ]
            parts.append(f"{split}: {name}, per cent\n\n{markdown_table(['method', *sources, 'mean'], rows)}")
    return "\n\n".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def paper(summary: str, measures: Sequence[str], real_sources: Mapping[str, str] | None = None) -> Protocol:
    """The protocol of a paper that averages measures over sources."""
    table = PaperTable(measures, real_sources or {})
    return Protocol(summary, partial(run_paper, table), partial(report_paper, table))


# Which real images the diffusion sets of UniversalFakeDetect belong to, as its released list of paths pairs them.
_LAION = ("ldm_200", "ldm_200_cfg", "ldm_100", "glide_100_27", "glide_50_27", "glide_100_10", "dalle")
_UNIVFD_REAL = dict.fromkeys(_LAION, "laion") | {"guided": "imagenet"}

PROTOCOLS: dict[str, Protocol] = {
    "univfd": paper(
        "arXiv 2302.10174 and SDD: AP and accuracy for each generator, and their means", ("AP", "accuracy", "best accuracy"), _UNIVFD_REAL
    ),
    "genimage": paper("GenImage: accuracy for each generator against its own photographs, and the mean", ("accuracy",)),
    "synris": paper("SynRIS, as SDD reports it: AUROC for each generator against all photographs, and the mean", ("AUROC",)),
    "synthclic": paper("arXiv 2602.12381: AP, AUROC, accuracy and F1 for each generator, and mAP", ("AP", "AUROC", "accuracy", "F1")),
}


def protocol_of(name: str) -> Protocol:
    """The protocol of a name. ValueError, one sentence, for a name that is not in PROTOCOLS."""
    if name not in PROTOCOLS:
        raise ValueError(f"There is no protocol '{name}'; there are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
