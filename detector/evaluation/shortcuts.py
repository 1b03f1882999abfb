"""What a file's format, size and JPEG quality alone tell of the classes of a small set of images, in one warning."""

from __future__ import annotations

from dataclasses import dataclass

from detector.evaluation.audit import FEWEST, TELLING, fact_set, separation, single_fact
from detector.evaluation.audit_facts import GROUPS, Facts
from detector.evaluation.matching import Auroc

FILE_FACTS = tuple(dict.fromkeys(("JPEG quality", *GROUPS["compression"], *GROUPS["size"])))  # of equal ones the first is named first
NAMED = 3  # facts in the warning


@dataclass(frozen=True)
class Shortcuts:
    """skill: AUROC and interval of the better classifier on all file facts together, cross-validated; 0.5: they tell nothing. facts: fact →
    how well it alone separates the classes, 0.5 to 1, the highest first. warning: one sentence, "" where no fact tells the classes
    apart."""

    skill: Auroc
    facts: dict[str, float]
    warning: str


def shortcuts(facts: Facts) -> Shortcuts:
    """Measure what file facts tell. At least `FEWEST` images of each class are needed."""
    assert min((facts.labels == label).sum() for label in (0, 1)) >= FEWEST
    separations = {name: separation(single_fact(facts, name)) for name in FILE_FACTS}
    ranked = dict(sorted(separations.items(), key=lambda item: -item[1]))
    skills = fact_set(facts, FILE_FACTS)["images"] or {}
    skill = max(skills.values(), key=lambda skill: skill["auroc"])
    return Shortcuts(skill, ranked, _warning(skill, ranked))


def _warning(skill: Auroc, ranked: dict[str, float]) -> str:
    if max(skill["auroc"], next(iter(ranked.values()))) < TELLING:
        return ""
    telling = [f"{name} {value:.2f}" for name, value in ranked.items() if value >= TELLING]
    single = f"; best single facts: {', '.join(telling[:NAMED])}" if telling else ""
    low, high = skill["auroc_95"]
    return (
        f"Format, size and compression of the files alone tell the two sets apart (AUROC {skill['auroc']:.2f}, {low:.2f} to "
        f"{high:.2f}{single}), so that a detector may rest on them: save both sets alike, and train again."
    )
