"""Measures of logits: AUROC, AP, TPR, ECE and others, for each source and overall, with bootstrap intervals.

A synthetic source is compared with all real images of the split, as arXiv 2602.12381 does; a data set whose sources
hold both classes (CNNSpot's folders) is compared source by source with its own real images.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from detector.logistic import balanced

BOOTSTRAPS = 1000


def auroc_interval(labels: np.ndarray, scores: np.ndarray, seed: int = 0, draws: int = BOOTSTRAPS) -> tuple[float, float]:
    """95 % bootstrap interval of the AUROC, images drawn with replacement within each class.

    labels: (N,) 0 real, 1 synthetic. scores: (N,), higher speaks for synthetic.
    """
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
    """Expected calibration error of P(synthetic), (N,), with equally wide bins: 0 (calibrated) to 1."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(labels[index == b].mean() - probability[index == b].mean()) * (index == b).mean() for b in range(bins) if (index == b).any()
    ]
    return float(sum(gaps))


def reliability(labels: np.ndarray, logits: np.ndarray, bins: int = 10) -> dict:
    """A reliability diagram of σ(logit): "bins", for each of equally wide bins with images the mean probability, the share of synthetic
    images and their number; "ece": the expected calibration error over these bins, 0 (calibrated) to 1.

    Both classes weigh the same, since the probability assumes even odds: with other odds the shares would differ from a good probability.
    """
    probability, weights = expit(logits), balanced(labels)
    index = np.minimum((probability * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = index == number
        if inside.any():
            share, mean = (float(np.average(values[inside], weights=weights[inside])) for values in (labels, probability))
            rows.append({"probability": mean, "synthetic": share, "images": int(inside.sum()), "weight": float(weights[inside].mean())})
    mass = np.array([row["weight"] * row["images"] for row in rows]) / len(labels)
    gaps = [abs(row["probability"] - row["synthetic"]) for row in rows]
    return {"bins": rows, "ece": float(mass @ gaps)}


def true_positive_rate(labels: np.ndarray, scores: np.ndarray, false_positive_rate: float) -> float:
    """Share of synthetic images above the lowest threshold that at most `false_positive_rate` of the real ones exceed.

    The threshold is the best in hindsight, taken from these very images; `frozen_thresholds` takes it from others.
    """
    false, true, _ = roc_curve(labels, scores)
    return float(true[false <= false_positive_rate].max())


def measures(labels: np.ndarray, logits: np.ndarray) -> dict[str, float | list[float] | int]:
    """AP, AUROC with interval; at the threshold logit 0 accuracy, balanced accuracy and F1 of "synthetic"; TPR at 1 % and 5 % FPR;
    ECE and Brier of σ(logit). labels: (N,) 0 real, 1 synthetic; logits: (N,), higher speaks for synthetic. Both classes must occur."""
    probability, positive = expit(logits), logits > 0
    recall = [positive[labels == 1].mean(), (~positive[labels == 0]).mean()]
    return {
        "images": [int((labels == 0).sum()), int((labels == 1).sum())],
        "auroc": float(roc_auc_score(labels, logits)),
        "auroc_95": list(auroc_interval(labels, logits)),
        "ap": float(average_precision_score(labels, logits)),
        "balanced_accuracy": float(np.mean(recall)),
        "accuracy": float((positive == (labels == 1)).mean()),
        "f1": float(2 * (positive & (labels == 1)).sum() / max(positive.sum() + (labels == 1).sum(), 1)),
        "tpr_at_1_fpr": true_positive_rate(labels, logits, 0.01),
        "tpr_at_5_fpr": true_positive_rate(labels, logits, 0.05),
        "ece": calibration_error(labels, probability),
        "brier": float(((probability - labels) ** 2).mean()),
    }


def at_threshold(labels: np.ndarray, logits: np.ndarray, threshold: float) -> dict[str, float]:
    """The threshold, and the shares of synthetic (tpr) and of real images (fpr) whose logit lies above it."""
    positive = logits > threshold
    return {"threshold": threshold, "tpr": float(positive[labels == 1].mean()), "fpr": float(positive[labels == 0].mean())}


def source_rows(labels: np.ndarray, sources: np.ndarray) -> dict[str, np.ndarray]:
    """Synthetic source → mask of its images with its own real images where it has some, else with all real ones."""
    masks = {}
    for source in sorted(set(sources[labels == 1])):
        source_real = (sources == source) & (labels == 0)
        masks[str(source)] = ((sources == source) & (labels == 1)) | (source_real if source_real.any() else labels == 0)
    return masks


def by_source(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> dict[str, dict]:
    """Synthetic source → its measures, compared as `source_rows` says."""
    return {source: measures(labels[rows], logits[rows]) for source, rows in source_rows(labels, sources).items()}


def mean_ap(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> float:
    """Mean over synthetic sources of the AP, each source weighing the same: the mAP of arXiv 2602.12381 (docs/methods.md, 1.6)."""
    masks = source_rows(labels, sources).values()
    return float(np.mean([average_precision_score(labels[rows], logits[rows]) for rows in masks]))


def chance_map(labels: np.ndarray, sources: np.ndarray) -> float:
    """The mAP to expect of random scores: the mean over sources of the share of synthetic images, 0 to 1.

    An AP depends on that share, so compare mAPs only on the same images.
    """
    return float(np.mean([labels[rows].mean() for rows in source_rows(labels, sources).values()]))


def false_alarms(labels: np.ndarray, sources: np.ndarray, logits: np.ndarray) -> dict[str, dict]:
    """Real source → its number of images and the share called synthetic at logit 0."""
    return {
        str(source): {"images": int(rows.sum()), "false_positive_rate": float((logits[rows] > 0).mean())}
        for source in sorted(set(sources[labels == 0]))
        for rows in [(sources == source) & (labels == 0)]
    }


def decisions(band: tuple[float, float], labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """ "coverage": share of images with a label; "error_of_labelled": share of wrong labels among these; "real_called_synthetic" and
    "synthetic_called_real": share of wrong labels among all images of the class. band: the two logits between which no label is given.
    labels, logits: (N,), of the verdict."""
    low, high = band
    real, synthetic = logits < low, logits > high
    has_label, wrong = real | synthetic, np.where(labels == 1, real, synthetic)
    return {
        "coverage": float(has_label.mean()),
        "error_of_labelled": float(wrong.sum() / max(has_label.sum(), 1)),
        "real_called_synthetic": float(wrong[labels == 0].mean()),
        "synthetic_called_real": float(wrong[labels == 1].mean()),
    }
