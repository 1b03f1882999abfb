"""The first screen in words: what speaks for the verdict, and how far to trust it on pictures like this one."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from detector.assets import EMBEDDED, MODELS
from detector.records import AnalysisRecord
from interpret.render.cards import both, leaning
from interpret.render.figures import pole, unit_label, words_of
from interpret.render.text import detector_of, method_name
from interpret.render.words import EVALUATION, PIXEL_METHODS, read_json

if TYPE_CHECKING:
    from interpret.stability import Stability

ROBUSTNESS = MODELS / EMBEDDED / "robustness.json"
UNSEEN = "test_unseen"  # the split to trust: generators that no training image comes from
MEASURED_SIDE = 256  # pixels: the longer side of the test images at most (docs/evaluation.md)
FEW = 10  # images of a collection below which its figure says little (choice)
PANEL_OF = {"physical_clip": "physical", "linear_probe": "methods"}  # methods without a panel of their own


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
        return f"most of all {max(parts, key=lambda part: abs(part[1]))[0]}".lower()
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


# --- how far to trust it -------------------------------------------------------------------------------------------


def trust_html(record: AnalysisRecord) -> str:
    """What was measured of the detector that leads, on pictures like this one; "" without a verdict."""
    facts = trust_facts(record)
    return f"<h2>How far to trust it</h2><ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>" if facts else ""


def trust_facts(record: AnalysisRecord) -> list[str]:
    """The measured figures of the detector that leads, as lines of HTML, the one on all pictures first; none without a verdict."""
    if "verdict" not in record:
        return []
    detector = detector_of(record, "verdict")
    backbone, _, method = detector.rpartition("/")
    if backbone != EMBEDDED and method not in PIXEL_METHODS:
        return [f"{escape(detector)} was not measured by this project: take it as a hint."]
    return [fact for fact in (_overall(method), _format(record, method), _size(record), _kinds(method)) if fact]


def _overall(method: str) -> str:
    row = read_json(EVALUATION).get("splits", {}).get(UNSEEN, {}).get(method, {}).get("overall")
    return f"Generators it never met: {_figures(row, sum(row['images']))}" if row else "It was not measured."


def _figures(row: Mapping, images: int) -> str:
    """HTML: how often a detector is right, in plain words, and as AUROC with its interval."""
    low, high = row["auroc_95"]
    expert = f"AUROC {row['auroc']:.2f} ({low:.2f} to {high:.2f}), {images} images"
    if "error_of_labelled" in row:
        labels = f"{100 * row['coverage']:.0f} of 100 pictures get a label, {100 * row['error_of_labelled']:.0f} % of the labels are wrong."
        return both(labels, f"{expert}; labelled {row['coverage']:.0%}, of these wrong {row['error_of_labelled']:.0%}.")
    return both(f"of a synthetic and a real picture it picks out the synthetic one {100 * row['auroc']:.0f} times in 100.", f"{expert}.")


def _format(record: AnalysisRecord, method: str) -> str:
    """The measure after the change of file that is nearest to this one."""
    table, images = read_json(ROBUSTNESS), sum(read_json(ROBUSTNESS).get("images", {}).get(UNSEEN, []))
    changes = table.get("splits", {}).get(UNSEEN, {})
    file_format, quality = record["file_facts"]["format"] or "This format", record["file_facts"]["jpeg_quality"]
    levels = [name for name in changes if name.split()[0].upper() == file_format.upper()]
    if not levels:
        return f"Format: {escape(file_format)} was not measured apart from others."
    wanted = quality if file_format == "JPEG" and quality else 80
    nearest = min(levels, key=lambda name: abs(int(name.split()[1]) - wanted))
    row = changes[nearest].get(method)
    return f"Format: saved again as {escape(nearest)}, {_figures(row, images)}" if row else ""


def _size(record: AnalysisRecord) -> str:
    side = max(record["width"] or 0, record["height"] or 0)
    fits = "as large as this one" if side <= MEASURED_SIDE else f"smaller than this one ({side} pixels): less is known here"
    return f"Size: measured on pictures of at most {MEASURED_SIDE} pixels, {fits}."


def _kinds(method: str) -> str:
    """The collection of real pictures that the detector takes for synthetic most often."""
    splits = read_json(EVALUATION).get("splits", {})
    rows = [
        (row["false_positive_rate"], source)
        for split in splits.values()
        for source, row in split.get(method, {}).get("real_sources", {}).items()
        if row["images"] >= FEW
    ]
    if not rows:
        return ""
    (least, best), (most, worst) = min(rows), max(rows)
    return (
        f"Kind: of real pictures {100 * most:.0f} % look synthetic to it in the worst collection ({escape(worst)}), "
        f"{100 * least:.0f} % in the best ({escape(best)})."
    )


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
