"""How good each method is: the field's measures, per source and overall, with bootstrap intervals.

A synthetic source is compared with all real images of the split, as arXiv 2602.12381 does; a data set whose sources
hold both classes (CNNSpot's folders) is compared source by source with its own real images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from detector.data.datasets import DataError, Example, read_dataset
from detector.methods.base import Evidence
from detector.methods.registry import CAPTIONED
from detector.progress import progress
from detector.suite import Suite
from detector.training.train import Table, cached, captioned, windowed

BOOTSTRAPS = 1000


def auroc_interval(labels: np.ndarray, scores: np.ndarray, seed: int = 0, draws: int = BOOTSTRAPS) -> tuple[float, float]:
    """95 % bootstrap interval of the AUROC, images drawn with replacement within each class."""
    generator = np.random.default_rng(seed)
    real, synthetic = scores[labels == 0], np.sort(scores[labels == 1])
    values = []
    for _ in range(draws):
        r = np.sort(generator.choice(real, len(real)))
        s = generator.choice(synthetic, len(synthetic))
        below = np.searchsorted(r, s, "left") + np.searchsorted(r, s, "right")
        values.append(below.mean() / (2 * len(r)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(labels: np.ndarray, probability: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error with equally wide bins, 0 (calibrated) to 1."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(labels[index == b].mean() - probability[index == b].mean()) * (index == b).mean()
            for b in range(bins) if (index == b).any()]
    return float(sum(gaps))


def true_positive_rate(labels: np.ndarray, scores: np.ndarray, false_positive_rate: float) -> float:
    """Share of synthetic images found where at most `false_positive_rate` of the real ones are called synthetic.

    The threshold is the best in hindsight, taken from these very images; `frozen_thresholds` takes it from others.
    """
    false, true, _ = roc_curve(labels, scores)
    return float(true[false <= false_positive_rate].max())


def measures(labels: np.ndarray, logits: np.ndarray) -> dict[str, float | list[float] | int]:
    """AP, AUROC with interval; at the frozen threshold (logit 0) accuracy, balanced accuracy and F1 of "synthetic"; TPR at
    1 % and 5 % FPR; ECE and Brier of σ(logit)."""
    probability, called = expit(logits), logits > 0
    recall = [called[labels == 1].mean(), (~called[labels == 0]).mean()]
    return {
        "images": [int((labels == 0).sum()), int((labels == 1).sum())],
        "auroc": float(roc_auc_score(labels, logits)), "auroc_95": list(auroc_interval(labels, logits)),
        "ap": float(average_precision_score(labels, logits)), "balanced_accuracy": float(np.mean(recall)),
        "accuracy": float((called == (labels == 1)).mean()),
        "f1": float(2 * (called & (labels == 1)).sum() / max(called.sum() + (labels == 1).sum(), 1)),
        "tpr_at_1_fpr": true_positive_rate(labels, logits, 0.01),
        "tpr_at_5_fpr": true_positive_rate(labels, logits, 0.05),
        "ece": calibration_error(labels, probability), "brier": float(((probability - labels) ** 2).mean()),
    }


def frozen_thresholds(suite: Suite, false_positive_rate: float) -> dict[str, float]:
    """Method, and "verdict", → the lowest logit above which at most a share `false_positive_rate` of the real validation
    images lies.

    The validation images are those that travel with the verdict, so methods that it does not read have no such threshold;
    {} without a verdict. Few real images make a share of 1 % coarse.
    """
    if suite.fusion is None:
        return {}
    logits = {method: suite.fusion.logits[:, i] for i, method in enumerate(suite.fusion.methods)}
    real = (suite.fusion.labels == 0) & suite.fusion.originals
    above = int(false_positive_rate * real.sum() + 1e-9)
    return {method: float(np.sort(values[real])[-1 - above])
            for method, values in (logits | {"verdict": suite.fusion.fuse(logits)}).items()}


def at_threshold(labels: np.ndarray, logits: np.ndarray, threshold: float) -> dict[str, float]:
    """The threshold, and the shares of synthetic (tpr) and of real images (fpr) whose logit lies above it."""
    called = logits > threshold
    return {"threshold": threshold, "tpr": float(called[labels == 1].mean()), "fpr": float(called[labels == 0].mean())}


def source_rows(labels: np.ndarray, sources: np.ndarray) -> dict[str, np.ndarray]:
    """Synthetic source → mask of its images with its own real images where it has some, else with all real ones."""
    masks = {}
    for source in sorted(set(sources[labels == 1])):
        own_real = (sources == source) & (labels == 0)
        masks[str(source)] = ((sources == source) & (labels == 1)) | (own_real if own_real.any() else labels == 0)
    return masks


def by_source(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> dict[str, dict]:
    """Synthetic source → its measures, compared as `source_rows` says."""
    return {source: measures(labels[rows], logits[rows]) for source, rows in source_rows(labels, sources).items()}


def mean_ap(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> float:
    """Mean over synthetic sources of the AP, each source weighing the same: the mAP of arXiv 2602.12381 (docs/methods.md, 1.6)."""
    masks = source_rows(labels, sources).values()
    return float(np.mean([average_precision_score(labels[rows], logits[rows]) for rows in masks]))


def chance_map(labels: np.ndarray, sources: np.ndarray) -> float:
    """The mAP to expect of scores that know nothing: the mean over sources of the share of synthetic images, 0 to 1.

    An AP depends on that share, so that an mAP can only be read beside this and compared on the same images.
    """
    return float(np.mean([labels[rows].mean() for rows in source_rows(labels, sources).values()]))


def false_alarms(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> dict[str, dict]:
    """Real source → its number of images and the share called synthetic at logit 0."""
    return {str(source): {"images": int(rows.sum()), "false_positive_rate": float((logits[rows] > 0).mean())}
            for source in sorted(set(sources[labels == 0])) for rows in [(sources == source) & (labels == 0)]}


def verdict_measures(suite: Suite, labels: np.ndarray, fused: np.ndarray) -> dict[str, float]:
    """Coverage (share with a label) and the share of wrong labels among those, and for each class among all."""
    decided = np.array([suite.fusion.label(value) for value in fused])
    labelled = decided != "inconclusive"
    wrong = labelled & ((decided == "synthetic") != (labels == 1))
    return {"coverage": float(labelled.mean()), "error_of_labelled": float(wrong.sum() / max(labelled.sum(), 1)),
            "real_called_synthetic": float(wrong[labels == 0].mean()),
            "synthetic_called_real": float(wrong[labels == 1].mean())}


def evaluate_table(suite: Suite, table: Table) -> dict:
    """All measures of every method and of the verdict on one split."""
    logits = all_logits(suite, table.evidence)
    result = {method: {"overall": measures(table.labels, values),
                       "sources": by_source(table.labels, table.sources, values),
                       "real_sources": false_alarms(table.labels, table.sources, values)}
              for method, values in logits.items()}
    for method, values in logits.items():
        result[method]["overall"]["mean_ap_over_sources"] = mean_ap(table.labels, table.sources, values)
    for percent in (1, 5):
        for method, threshold in frozen_thresholds(suite, percent / 100).items():
            result[method]["overall"][f"frozen_at_{percent}_fpr"] = at_threshold(table.labels, logits[method], threshold)
    if suite.fusion:
        result["verdict"]["overall"] |= verdict_measures(suite, table.labels, logits["verdict"])
    return result


def chosen_splits(data: Path, splits: list[str] | None = None) -> dict[str, list[Example]]:
    """Split → examples. Without `splits`: every split whose name starts with `test`, else all images as "all".

    DataError, one sentence, if a split does not hold both classes.
    """
    groups: dict[str, list[Example]] = {}
    for example in read_dataset(data):
        groups.setdefault(example.split or "all", []).append(example)
    chosen = splits or [name for name in groups if name.startswith("test")] or list(groups)
    for split in chosen:
        if {example.label for example in groups.get(split, [])} != {0, 1}:
            raise DataError(f"The split '{split}' of '{data}' needs images of both classes; there are {', '.join(groups)}.")
    return {split: groups[split] for split in chosen}


def evaluate(suite: Suite, data: Path, cache: Path | None = None, splits: list[str] | None = None) -> dict:
    """Split → method → measures, for the splits that `chosen_splits` gives."""
    groups = chosen_splits(data, splits)
    return {split: evaluate_table(suite, measured(suite, groups[split], cache, split)) for split in progress(groups, title="splits")}


def measured_on(suite: Suite) -> dict:
    """Which weights figures belong to: fingerprint of the backbone, and the digest of every head and of the verdict."""
    return {"backbone": suite.backbone.fingerprint, "heads": {method: card.digest for method, card in sorted(suite.cards.items())}}


def measured(suite: Suite, examples: list[Example], cache: Path | None, title: str) -> Table:
    """The table of the examples as they are, with all that the suite's methods read."""
    table = cached(suite.backbone, examples, 0, 0, cache, title)
    if not suite.heads.keys().isdisjoint(CAPTIONED):
        table = captioned(table, suite.backbone, 0, cache, title)
    return windowed(table, suite.heads.get("sdd"), cache, title)


def all_logits(suite: Suite, evidence: Evidence) -> dict[str, np.ndarray]:
    """Method, and "verdict" first where there is one, → (N,) logits; 0, undecided, where a method has no answer."""
    raw = suite.logits(evidence)
    logits = {method: np.nan_to_num(values, nan=0.0) for method, values in raw.items()}
    return {"verdict": suite.fusion.fuse(raw), **logits} if suite.fusion else logits


# --- tables --------------------------------------------------------------------------------------------------------


def overall_table(results: dict) -> str:
    """Markdown: one row for each split and method."""
    lines = ["| split | method | AUROC (95 %) | AP | balanced accuracy | TPR at 1 % FPR | TPR at 5 % FPR | ECE | Brier |",
             "|---|---|---|---|---|---|---|---|---|"]
    for split, methods in results.items():
        for method, found in methods.items():
            m = found["overall"]
            low, high = m["auroc_95"]
            lines.append(f"| {split} | {method} | {m['auroc']:.3f} ({low:.3f}–{high:.3f}) | {m['ap']:.3f} "
                         f"| {m['balanced_accuracy']:.3f} | {m['tpr_at_1_fpr']:.3f} | {m['tpr_at_5_fpr']:.3f} | {m['ece']:.3f} "
                         f"| {m['brier']:.3f} |")
    return "\n".join(lines)


def papers_table(results: dict) -> str:
    """Markdown: the measures that the papers report, a row for each method, columns for each split; '' where none were taken."""
    if not all("accuracy" in found["overall"] for methods in results.values() for found in methods.values()):
        return ""
    names = {"mean_ap_over_sources": "mAP over sources", "accuracy": "accuracy", "f1": "F1"}
    head = ["method", *(f"{split} {name}" for split in results for name in names.values())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in dict.fromkeys(method for methods in results.values() for method in methods):
        found = [results[split].get(method, {}).get("overall") for split in results]
        cells = [f"{overall[key]:.3f}" if overall else "–" for overall in found for key in names]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return "\n".join(lines)


def source_table(results: dict, method: str = "verdict") -> str:
    """Markdown: one row for each synthetic source, compared as `by_source` does."""
    lines = ["| split | synthetic source | images | AUROC (95 %) | AP | balanced accuracy | TPR at 1 % FPR | TPR at 5 % FPR |",
             "|---|---|---|---|---|---|---|---|"]
    for split, methods in results.items():
        for source, m in methods[method]["sources"].items():
            low, high = m["auroc_95"]
            lines.append(f"| {split} | {source} | {m['images'][1]} | {m['auroc']:.3f} ({low:.3f}–{high:.3f}) "
                         f"| {m['ap']:.3f} | {m['balanced_accuracy']:.3f} | {m['tpr_at_1_fpr']:.3f} | {m['tpr_at_5_fpr']:.3f} |")
    return "\n".join(lines)


def frozen_table(results: dict) -> str:
    """Markdown: found (TPR) and false alarms (FPR) at thresholds that the validation images set; '' where none were taken."""
    lines = ["| split | method | TPR (FPR) at the threshold for 1 % | TPR (FPR) at the threshold for 5 % |", "|---|---|---|---|"]
    for split, methods in results.items():
        for method, found in methods.items():
            levels = [found["overall"].get(f"frozen_at_{percent}_fpr") for percent in (1, 5)]
            if all(levels):
                lines.append(f"| {split} | {method} | " + " | ".join(f"{m['tpr']:.3f} ({m['fpr']:.3f})" for m in levels) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def decision_table(results: dict) -> str:
    """Markdown: how many images the verdict gives a label, and how many of these labels are wrong."""
    names = {"coverage": "images with a label", "error_of_labelled": "of these wrong", "real_called_synthetic": "real called synthetic",
             "synthetic_called_real": "synthetic called real"}
    lines = ["| split | " + " | ".join(names.values()) + " |", "|---|---|---|---|---|"]
    for split, methods in results.items():
        m = methods["verdict"]["overall"]
        lines.append(f"| {split} | " + " | ".join(f"{m[name]:.1%}" for name in names) + " |")
    return "\n".join(lines)


def report(results: dict) -> str:
    """The text that stands in README and card: the tables, each under a sentence that says what it is."""
    parts = [overall_table(results)]
    if frozen := frozen_table(results):
        parts.append("TPR above is at the threshold that is best in hindsight. At thresholds frozen on validation images, above which 1 % "
                     "or 5 % of the real ones lie, with the share of real test images above them:\n\n" + frozen)
    if papers := papers_table(results):
        parts.append("What the papers report: the mean over synthetic sources of the AP, then accuracy and F1 of \"synthetic\" "
                     "at logit 0:\n\n" + papers)
    if all("verdict" in methods for methods in results.values()):
        parts.append("The verdict by synthetic source:\n\n" + source_table(results))
        parts.append("The verdict's labels, \"inconclusive\" being none (the last two columns are shares of all images of that class):"
                     "\n\n" + decision_table(results))
    return "\n\n".join(parts)


def embedded_report(metrics: dict) -> str:
    """What `pretrain` measured on its `test` split, with the aims, and the attribute operations that fell short."""
    rises = metrics.get("attribute_rise", {})
    short = {name: share for name, share in rises.items() if share < 0.8}
    names = {"flickr8k_r10": ("image → text R@10 on Flickr8k", 0.35),
             "imagenette_zero_shot": ("zero-shot accuracy, ten Imagenette classes", 0.65),
             "intel_scenes_zero_shot": ("zero-shot accuracy, six Intel scenes", 0.75)}
    rows = [(text, metrics[name], aim) for name, (text, aim) in names.items() if name in metrics]
    if rises:
        rows.append(("operations whose concept rises in ≥ 80 % of 200 photographs", 1 - len(short) / len(rises), 0.80))
    lines = ["| measure | value | aim |", "|---|---|---|", *(f"| {name} | {value:.3f} | {aim:.2f} |" for name, value, aim in rows)]
    if short:
        lines += ["", "Operations that fall short: " + ", ".join(f"{n} ({v:.2f})" for n, v in sorted(short.items())) + "."]
    return "\n".join(lines)


def require_marks(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the marks `<!-- name -->` and `<!-- end name -->`; ValueError if there are none."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path.name} has no marks '{start}' … '{end}'.")
    return before, after


def has_marks(path: Path, name: str) -> bool:
    """Whether a file has the marks that `require_marks` asks for."""
    try:
        return bool(require_marks(path, name))
    except ValueError:
        return False


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` in a Markdown file."""
    before, after = require_marks(path, name)
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
