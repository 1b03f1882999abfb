"""What differs between two analyses: methods, descriptors and concepts in one table, and in one sentence. Plain text.

Differences of different kinds get a common size from 0 to 1: of two probabilities their distance, of a descriptor the distance of its
percentiles among real reference images, of a concept its share in all changes of contributions (choices).
"""

from __future__ import annotations

from typing import NamedTuple

from detector.records import AnalysisRecord
from interpret.render.figures import words_of
from interpret.render.text import HEADLINES, method_name

HEADERS = ["what", "kind", "first", "second", "change", "size, 0 to 1"]
NAMED = 3
LEAST_CHANGE = 0.01  # logits of all concepts together below which a change is rounding, whatever its shares (choice)


class Difference(NamedTuple):
    """first, second: values in the unit of the kind: probability, the descriptor's own value, or contribution in logits. size: see the
    module."""

    name: str
    kind: str
    first: float
    second: float
    size: float

    @property
    def row(self) -> list:
        """A row of the table."""
        return [self.name, self.kind, _short(self.first), _short(self.second), _short(self.second - self.first), round(self.size, 3)]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def differences(first: AnalysisRecord, second: AnalysisRecord) -> list[Difference]:
    """All that both analyses have a number for, the largest difference first. Both must be without an error."""
    everything = [*_methods(first, second), *_descriptors(first, second), *_concepts(first, second)]
    return sorted(everything, key=lambda difference: -difference.size)


def _methods(first: AnalysisRecord, second: AnalysisRecord) -> list[Difference]:
    scores, others = first.get("detectors", {}), second.get("detectors", {})
    pairs = [(method_name(name), scores[name]["probability"], others[name]["probability"]) for name in scores if name in others]
    verdicts = first.get("verdict"), second.get("verdict")
    if verdicts[0] and verdicts[1]:
        pairs.append(("Verdict", verdicts[0]["probability"], verdicts[1]["probability"]))
    return [Difference(name, "probability", one, other, abs(one - other)) for name, one, other in pairs]


def _descriptors(first: AnalysisRecord, second: AnalysisRecord) -> list[Difference]:
    ranks, others = first.get("physical_percentiles", {}), second.get("physical_percentiles", {})
    rows = []
    for name, value in first.get("physical", {}).items():
        other = second.get("physical", {}).get(name)
        place, other_place = (known[name]["real"] if name in known else None for known in (ranks, others))
        if value is not None and other is not None and place is not None and other_place is not None:
            rows.append(Difference(words_of(name), "descriptor", value, other, abs(place - other_place) / 100))
    return rows


def _concepts(first: AnalysisRecord, second: AnalysisRecord) -> list[Difference]:
    one, other = ({concept["name"]: concept["contribution"] for concept in record.get("concepts", [])} for record in (first, second))
    names = [name for name in one if name in other]
    total = max(sum(abs(one[name] - other[name]) for name in names), LEAST_CHANGE)
    return [Difference(name, "concept, logits", one[name], other[name], abs(one[name] - other[name]) / total) for name in names]


def sentence(first: AnalysisRecord, second: AnalysisRecord) -> str:
    """Both verdicts, and what differs most: a method, descriptors, concepts."""
    found = differences(first, second)
    verdicts = [record.get("verdict") for record in (first, second)]
    text = ""
    if verdicts[0] and verdicts[1]:
        words = [f"{_lower_first(HEADLINES[verdict['label']])} ({100 * verdict['probability']:.0f} %)" for verdict in verdicts if verdict]
        same = verdicts[0]["label"] == verdicts[1]["label"]
        text = f"Both: {words[0]} and {words[1]}. " if same else f"The first {words[0]}, the second {words[1]}. "
    return text + _most(found)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _most(found: list[Difference]) -> str:
    named = [difference for difference in found if difference.kind != "probability" and difference.size > 0.02][:NAMED]
    if not named:
        return "No descriptor and no concept differs by much."
    parts = [
        f"{each.name} ({each.kind.partition(',')[0]}, {'higher' if each.second > each.first else 'lower'} in the second)" for each in named
    ]
    return f"They differ most in {', '.join(parts)}."
