"""Probing what the detector relies on: a concept of one's own, parts switched off, and directions dropped.

Everything here is exact arithmetic on the heads' parts or on the image's features; nothing is trained. The definitions are
choices of ours unless a paper is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor

from detector.devices import to_numpy
from detector.methods.orthogonal.naming import random_mixtures
from detector.records import AnalysisRecord
from detector.steps import checkpoint
from detector.verdict.reference import percentile

if TYPE_CHECKING:
    from detector.clip.backbone import Backbone
    from detector.methods.base import Evidence
    from detector.suite import Suite

LONGEST_PHRASE = 300  # characters
NEUTRAL = "A photograph"  # what a single phrase is measured against
DROP_COUNTS = (0, 1, 2, 4, 8, 16, 32)  # how many directions are dropped
DRAWS = 50


class ProbeError(ValueError):
    """One sentence that says what is wrong with a phrase."""


# --- a concept of one's own ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """One typed concept on one image.

    activation: cosine in [−1, 1] of the image with the concept's direction; positive: nearer to `positive`. percentiles:
    among "all", "real", "synthetic" reference images, {} without any. auroc: of the activation alone on the reference images
    (above 0.5: higher speaks for synthetic), or None. unit_cosines: (k,) of the pulled-back direction with each unit.
    neighbours: the vocabulary's most similar concepts and their cosines. note: what the text tower could not read, or "".
    """

    positive: str
    negative: str
    activation: float
    percentiles: dict[str, float]
    auroc: float | None
    unit_cosines: list[float]
    neighbours: list[tuple[str, float]]
    note: str


def probe(suite: Suite, evidence: Evidence, positive: str, negative: str = "") -> Probe:
    """Measure a phrase, or a pair of opposites, on the first image of `evidence`. ProbeError for an unusable phrase.

    The direction is the normalised difference of the two texts' unit embeddings; a single phrase is taken against
    "A photograph", so that what all captions share falls away. Choice.
    """
    from detector.methods.concepts.head import direction

    positive, negative = _phrase(positive, "phrase"), _phrase(negative, "opposite") if negative.strip() else ""
    axis = direction(suite.backbone, [positive], [negative or NEUTRAL])
    if not bool(axis.norm() > 0.5):  # two texts with the same embedding
        raise ProbeError("The two phrases mean the same to this model; type others.")
    activation = float((F.normalize(evidence.clip.projected[:1], dim=1) @ axis.T)[0, 0])
    places, auroc = _on_reference(suite, axis, activation)
    words, directions = suite.parts.concept_space()
    near = directions @ axis[0]
    best = near.abs().argsort(descending=True)[:3].tolist()
    neighbours = [(words[i].positive if near[i] > 0 else words[i].negative, abs(float(near[i]))) for i in best]
    return Probe(
        positive,
        negative,
        activation,
        places,
        auroc,
        _unit_cosines(suite, axis),
        neighbours,
        _tokens_note(suite.backbone, [positive, negative]),
    )


def _phrase(text: str, what: str) -> str:
    text = " ".join(text.split())
    if not any(character.isalnum() for character in text):
        raise ProbeError(f"Type {'an' if what == 'opposite' else 'a'} {what} of at least one word.")
    if len(text) > LONGEST_PHRASE:
        raise ProbeError(f"The {what} has {len(text)} characters; {LONGEST_PHRASE} are enough for a concept.")
    return text


def _on_reference(suite: Suite, axis: Tensor, activation: float) -> tuple[dict[str, float], float | None]:
    """Percentiles of the activation among the reference images, and the AUROC of the concept alone on them."""
    if suite.reference is None:
        return {}, None
    from sklearn.metrics import roc_auc_score  # slow to import

    values = to_numpy(F.normalize(suite.reference.projected, dim=1) @ axis[0])
    labels = to_numpy(suite.reference.labels)
    groups = {"all": values, "real": values[labels == 0], "synthetic": values[labels == 1]}
    return {name: percentile(activation, group) for name, group in groups.items()}, float(roc_auc_score(labels, values))


def _unit_cosines(suite: Suite, axis: Tensor) -> list[float]:
    """Cosine of each unit's direction with the concept's, pulled back before the projection (W_proj t)."""
    units = suite.parts.units
    if units is None:
        return []
    pulled = F.normalize(axis @ suite.backbone.projection.T, dim=1)
    return (F.normalize(units[1].weight, dim=1) @ pulled[0]).tolist()


def _tokens_note(backbone: Backbone, texts: list[str]) -> str:
    """What to know about how the text tower reads the phrases: cut off, or spelt from very small pieces."""
    notes = []
    for text in filter(None, texts):
        pieces, room = len(backbone.tokenizer.encode(text)), backbone.tokenizer.context_length - 2
        if pieces > room:
            notes.append(f"Of “{text[:40]}…” only the first {room} of {pieces} pieces are read.")
        elif pieces > 3 * len(text.split()):
            notes.append(f"“{text[:40]}” falls into {pieces} pieces: this model has hardly seen such words.")
    return " ".join(notes)


# --- parts switched off --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SwitchResult:
    """Logits of the units' and the concepts' head before and after, by head name; the verdict's label and probability."""

    logits: dict[str, tuple[float, float]]
    labels: tuple[str, str] | None
    probabilities: tuple[float, float] | None


def switch_off(suite: Suite, record: AnalysisRecord, units: list[int], concepts: list[str]) -> SwitchResult:
    """Take units (by index) and concepts (by name) out of their heads: the new logits are exact, contributions being sums.

    record: the JSON object of the image. The verdict is fused again from the changed logits, for heads that it reads.
    """
    heads = record.get("heads", {})
    contributions = record["orthogonal"]["contributions"] if "orthogonal" in record else []
    removed = {
        heads.get("orthogonal"): sum(contributions[i] for i in units),
        heads.get("concepts"): sum(c["contribution"] for c in record.get("concepts", []) if c["name"] in concepts),
    }
    before = {name: score["logit"] for name, score in record["detectors"].items()}
    after = {name: logit - removed.get(name, 0.0) for name, logit in before.items()}
    changed = {name: (before[name], after[name]) for name in removed if name is not None and name in before}
    leader = suite.roster.leading
    if leader is None:
        return SwitchResult(changed, None, None)
    old, new = (leader.decide(logits) for logits in (before, after))
    return SwitchResult(changed, (old.label, new.label), (old.probability, new.probability))


# --- directions dropped --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DropCurve:
    """The performance of a head when k directions are projected out of the features.

    k: how many. Each other field: "named", and for both kinds of random directions ("isotropic", "natural") its "mean",
    "low" and "high" (5th and 95th percentile over draws). auroc: on the reference images. logit: of this image.
    names: the named directions in the order in which they are dropped.
    """

    k: list[int]
    auroc: dict[str, list[float]]
    logit: dict[str, list[float]]
    names: list[str]


def drop_curve_of(suite: Suite, evidence: Evidence, kind: str) -> tuple[DropCurve | None, str]:
    """`drop_curve` for the suite that fills the panel of `kind`, or, where its backbone has no reference images, for the next one that
    has; and the name of its backbone."""
    first = suite.roster.suite_for(kind)
    for part in dict.fromkeys((first, *suite.suites)):
        if (curve := drop_curve(part, suite.evidence_for(part, evidence), kind)) is not None:
            return curve, part.backbone.name
    return None, first.backbone.name


def without(features: Tensor, directions: Tensor, mean: Tensor) -> Tensor:
    """features (N, D) with their deviation from `mean` along the span of `directions` (k, D) taken out."""
    if len(directions) == 0:
        return features
    basis = torch.linalg.qr(directions.T.double())[0].float()  # (D, k)
    return features - (features - mean) @ basis @ basis.T


def drop_curve(suite: Suite, evidence: Evidence, kind: str = "concepts", draws: int = DRAWS, seed: int = 0) -> DropCurve | None:
    """Drop the head's strongest directions one after another, and as many random ones of the same norm.

    kind "concepts": the concept model's directions, by mean size of contribution over the reference images; "orthogonal":
    the units. Random: "isotropic" ones on the sphere, and "natural" mixtures of the reference images' own deviations, along
    which images do vary. All are projected out in the same way, so like is compared with like. None without reference images
    or without the head. A released head is given the backbone's own preprocessing here, for the image as for the references.
    """
    part = suite.parts.concept_model if kind == "concepts" else suite.parts.units
    if part is None or suite.reference is None:
        return None
    head: Any = part[1]
    feature, labels = "projected" if kind == "concepts" else "pooled", to_numpy(suite.reference.labels)
    reference, image = getattr(suite.reference, feature), getattr(evidence.clip, feature)[:1]
    if kind == "concepts":  # the head normalises, so directions are dropped from unit embeddings
        reference, image = F.normalize(reference, dim=1), F.normalize(image, dim=1)
    directions, names = _ranked(suite, head, kind, reference)
    counts = [k for k in DROP_COUNTS if k <= len(directions)]
    features = torch.cat([reference, image])

    def remaining(dropped: Tensor) -> tuple[float, float]:
        checkpoint()
        logits = to_numpy(head.logits(without(features, dropped, reference.mean(0))))
        return _auroc(labels, logits[:-1]), float(logits[-1])

    curves = {"named": [[remaining(directions[:k])] for k in counts]}
    generator = np.random.default_rng(seed)
    for name, basis in (("isotropic", np.eye(reference.shape[1])), ("natural", to_numpy(reference - reference.mean(0)))):
        rows = [torch.from_numpy(random_mixtures(basis, counts[-1], generator)).float() for _ in range(draws)]
        curves[name] = [[remaining(random[:k]) for random in rows] for k in counts]
    return DropCurve(counts, _summary(curves, 0), _summary(curves, 1), names[: counts[-1]])


def _ranked(suite: Suite, head, kind: str, reference: Tensor) -> tuple[Tensor, list[str]]:
    """Directions (rows) and names, the largest mean contribution over the reference images first.

    A unit's contribution is counted as its deviation from the mean: a constant one tells nothing apart.
    """
    contributions = head.contributions(reference)
    order = (contributions - contributions.mean(0)).abs().mean(0).argsort(descending=True).tolist()
    if kind == "concepts":
        words = suite.parts.concept_words
        return head.directions[order], [f"{words[i].positive} ↔ {words[i].negative}" for i in order]
    return head.weight[order], [f"unit {i + 1}" for i in order]


def _auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of (synthetic, real) pairs in the right order, ties counted half."""
    real, synthetic = np.sort(scores[labels == 0]), scores[labels == 1]
    below = np.searchsorted(real, synthetic, "left") + np.searchsorted(real, synthetic, "right")
    return float(below.mean() / (2 * len(real)))


def _summary(curves: dict[str, list[list[tuple[float, float]]]], which: int) -> dict[str, list[float]]:
    """named: the values; each random kind: mean and 5th and 95th percentile over draws."""
    result = {"named": [values[0][which] for values in curves["named"]]}
    for name in ("isotropic", "natural"):
        values = np.array([[pair[which] for pair in draws] for draws in curves[name]])  # (K, draws)
        low, high = np.percentile(values, [5, 95], axis=1)
        result |= {f"{name} mean": values.mean(1).tolist(), f"{name} low": low.tolist(), f"{name} high": high.tolist()}
    return result


# --- in words ------------------------------------------------------------------------------------------------------


def probe_reading(result: Probe) -> str:
    """Two or three sentences about a typed concept."""
    side = result.positive if result.activation > 0 else result.negative or "a plain photograph"
    text = f"This image lies nearer to “{side}” (activation {result.activation:+.3f})."
    if result.percentiles:
        real, synthetic = (p if result.activation > 0 else 100 - p for p in (result.percentiles["real"], result.percentiles["synthetic"]))
        text += (
            f" It lies further that way than {real:.0f} % of the real and {synthetic:.0f} % of the synthetic reference images; "
            f"alone, this concept tells the two apart with AUROC {result.auroc:.2f} (0.5 is chance)."
        )
    if result.neighbours:
        text += " Nearest in the vocabulary: " + ", ".join(f"{name} ({cosine:.2f})" for name, cosine in result.neighbours) + "."
    return f"{text} {result.note}".strip()


def switch_reading(result: SwitchResult) -> str:
    """One sentence for each head that changed, and one for the verdict."""
    lines = [
        f"{name}: logit {old:+.2f} → {new:+.2f} (probability {expit(old):.0%} → {expit(new):.0%})"
        for name, (old, new) in result.logits.items()
        if abs(old - new) > 1e-12
    ]
    if not lines:
        return "Nothing is switched off."
    if result.labels is None or result.probabilities is None:
        return "; ".join(lines) + ". There is no verdict for this backbone."
    (before, after), (p, q) = result.labels, result.probabilities
    if abs(p - q) < 5e-4:
        return "; ".join(lines) + f". The verdict stays {before} at {p:.0%}: these heads weigh little or nothing in it."
    change = f"stays {before}" if before == after else f"changes from {before} to {after}"
    return "; ".join(lines) + f". The verdict {change}: {p:.0%} → {q:.0%}."


def drop_reading(curve: DropCurve) -> str:
    """Whether dropping the named directions costs more than dropping random ones, on the reference images."""
    named, start = curve.auroc["named"], curve.auroc["named"][0]
    worse = {
        kind: [k for k, value, low in zip(curve.k[1:], named[1:], curve.auroc[f"{kind} low"][1:], strict=True) if value < low]
        for kind in ("isotropic", "natural")
    }
    k, value = curve.k[-1], named[-1]
    text = f"Without the {k} strongest directions the head's AUROC on the reference images goes from {start:.2f} to {value:.2f}; "
    text += f"without {k} random ones to {curve.auroc['isotropic mean'][-1]:.2f}, and without {k} along which images vary to "
    text += f"{curve.auroc['natural mean'][-1]:.2f}. "
    if worse["natural"]:
        return text + "So they matter more than chance."
    if worse["isotropic"]:
        return text + "So they matter more than arbitrary directions, but not more than any along which images vary."
    return text + "So they matter no more than chance: do not read much into their names."
