"""The first screen in words: what speaks for the verdict, and whether it stays when the picture is saved again."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from detector.records import AnalysisRecord
from interpret.render.cards import both, leaning
from interpret.render.figures import pole, unit_label, words_of
from interpret.render.text import method_name

if TYPE_CHECKING:
    from interpret.stability import Stability

PANEL_OF = {"physical_clip": "physical", "linear_probe": "methods"}  # methods without a panel of their own
RESIDUAL_WORDS = {  # group of the residual's features → what it looks at
    "spectrum luma": "the spectrum of fine detail in brightness",
    "spectrum chroma": "the spectrum of fine detail in colour",
    "channel coherence": "how alike the fine detail of the colour channels is",
    "scene statistics luma": "how local contrast is spread in brightness, at coarser scales",
    "scene statistics chroma": "how local contrast is spread in colour, at coarser scales",
    "co-occurrence luma": "how neighbouring pixels differ in brightness",
    "co-occurrence chroma": "how neighbouring pixels differ in colour",
    "sign patterns": "ups and downs between neighbouring pixels",
}


class Reason(NamedTuple):
    """words: plain text that follows the name. key: of the panel that shows it. logits: what it adds to the verdict."""

    name: str
    words: str
    key: str
    logits: float


# --- what speaks for it --------------------------------------------------------------------------------------------


def reasons(record: AnalysisRecord) -> list[Reason]:
    """The three strongest reasons for the side of the verdict, or for either side where it is inconclusive; the strongest first.

    Of a fusion its methods, of a detector that is a sum its parts, of any other the detector itself and those that agree.
    """
    verdict = record["verdict"]
    method = _leading_method(record)
    parts = _parts(record, method)
    if method == "verdict":
        every = [Reason(method_name(name), _cue(record, name), _key(name), share) for name, share in verdict["contributions"].items()]
    elif parts:
        every = [Reason(name, "", method, share) for name, share in parts]
    else:
        scores = record["detectors"].items()
        every = [Reason(method_name(name), _cue(record, name), _key(name), score["logit"]) for name, score in scores]
        every.sort(key=lambda reason: reason.key != method)
        every = [reason for reason in every if reason.logits * verdict["logit"] > 0][:3]
    sided = [r for r in every if r.logits and (verdict["label"] == "inconclusive" or r.logits * verdict["logit"] > 0)]
    return sorted(sided, key=lambda reason: -abs(reason.logits))[:3]


def _leading_method(record: AnalysisRecord) -> str:
    return record.get("leader", "verdict").rpartition("/")[2].partition("@")[0]


def _key(name: str) -> str:
    method = name.rpartition("/")[2].partition("@")[0]
    known = {"physical", "residual", "concepts", "orthogonal", "item", "sdd"}
    return PANEL_OF.get(method, method if method in known else "methods")


def _parts(record: AnalysisRecord, method: str) -> list[tuple[str, float]]:
    """Name and contribution of the parts of a method whose logit is a sum; none for any other."""
    if method == "concepts":
        return [(f"“{pole(concept)}”", concept["contribution"]) for concept in record.get("concepts", [])]
    if method == "orthogonal" and (units := record.get("orthogonal")):
        return [(f"Unit {unit_label(units, i)}".replace(": unnamed", ""), value) for i, value in enumerate(units["contributions"])]
    if method == "physical":
        return [(words_of(name).capitalize(), share) for name, share in record.get("physical_contributions", {}).items()]
    return [(name.capitalize(), share) for name, share in record.get("residual", {}).items()] if method == "residual" else []


def _cue(record: AnalysisRecord, name: str) -> str:
    """What a method looks at in this image, in a few plain words."""
    method = _key(name)
    if method in ("concepts", "orthogonal", "residual") and (parts := _parts(record, method)):
        strongest = max(parts, key=lambda part: abs(part[1]))[0].lower()
        return f"most of all {RESIDUAL_WORDS.get(strongest, strongest)}"
    if method == "physical":
        places = [(n, p["real"]) for n, p in record.get("physical_percentiles", {}).items() if p["real"] is not None]
        descriptor, place = max(places, key=lambda item: abs(item[1] - 50), default=("", 50.0))
        share = min(99.0, max(place, 100 - place))
        return f"{words_of(descriptor)} is {'higher' if place > 50 else 'lower'} than in {share:.0f} % of real images"
    if method == "sdd":
        return "parts of the picture against what real images are made of; the map shows where"
    return "how well picture and caption agree" if method == "item" else "the picture as a whole, as CLIP reads it"


def _after(reason: Reason) -> str:
    return f": {reason.words}" if reason.words else ""


def _plain_words(reason: Reason) -> str:
    return f"{leaning(reason.logits)}{_after(reason)}."


def cues(record: AnalysisRecord) -> list[str]:
    """The reasons in plain words, a sentence each; none without a verdict."""
    return [f"{reason.name} {_plain_words(reason)}" for reason in reasons(record)] if record.get("verdict") else []


def reasons_html(record: AnalysisRecord) -> str:
    """The list of reasons, each with a link to its card; "" without a verdict."""
    verdict = record.get("verdict")
    if not verdict:
        return ""
    items = []
    for reason in reasons(record):
        words = both(_plain_words(reason), f"adds {reason.logits:+.2f} logits{_after(reason)}.")
        items.append(f'<li><a href="#card-{reason.key}" data-shows="{reason.key}">{escape(reason.name)}</a> {words}</li>')
    title = "What speaks for either side" if verdict["label"] == "inconclusive" else "What speaks for it"
    return f"<h2>{title}</h2><ol>{''.join(items) or '<li>Nothing pushes to this side noticeably.</li>'}</ol>"


# --- the same picture, saved again ---------------------------------------------------------------------------------

TRYING = '<ul><li class="trying">Saved again: being tried …</li></ul>'


def saved_again_html(result: Stability) -> str:
    """Whether the verdict is another one once the picture is saved again as JPEG or WebP."""
    first = result.outcomes[0]
    saved = [outcome for outcome in result.outcomes[1:] if outcome.words.startswith("saved as")]
    flips = [outcome for outcome in saved if outcome.label != first.label]
    if first.label is None or not saved:
        return "<ul><li>Saved again: there is no verdict to compare.</li></ul>"
    low, high = (100 * side(o.probability or 0.0 for o in (first, *saved)) for side in (min, max))
    names = ", ".join(f"{outcome.label} as {outcome.name}" for outcome in flips)
    words = (
        f"the verdict changes in {len(flips)} of {len(saved)} copies ({names})."
        if flips
        else f"it stays {first.label} in all {len(saved)} copies."
    )
    expert = f"{words[:-1]}; probability {low:.0f} to {high:.0f} %."
    mark = "bad" if flips else "good"
    return f'<ul><li class="{mark}"><a href="#card-stability" data-shows="stability">Saved again</a>: {both(words, expert)}</li></ul>'
