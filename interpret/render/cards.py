"""One card for each panel of the page: its name, a small chart, one sentence, and a button that opens the panel.

Each sentence has two wordings: a plain one ("leans towards"), and one for experts with probability, logit and bias. The page's style
shows one of them (`interpret/render/page.css`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from detector.records import AnalysisRecord
from interpret.render import svg
from interpret.render.figures import pole, unit_label, words_of
from interpret.render.text import PANEL_NAMES, head_of

if TYPE_CHECKING:
    from interpret.stability import Stability

ROWS = 5  # of a small chart (choice)
SLIGHT, STRONG = 0.5, 2.0  # |logit|, probabilities of 62 % and 88 %, between which a detector just "leans" (choice)
NEITHER = 0.1


@dataclass(frozen=True)
class Card:
    """sentence: what the method says of this image. chart: SVG, "" for none. expert: the sentence's second wording, "" for the same."""

    sentence: str
    chart: str = ""
    expert: str = ""


# --- words ---------------------------------------------------------------------------------------------------------


def both(plain: str, expert: str) -> str:
    """HTML of two wordings, of which the page shows one. Both are plain text."""
    return f'<span class="plain">{escape(plain)}</span><span class="expert">{escape(expert)}</span>'


def leaning(logit: float) -> str:
    """A logit in words: "leans slightly towards real"."""
    if abs(logit) < NEITHER:
        return "leans towards neither side"
    degree = "slightly " if abs(logit) < SLIGHT else "strongly " if abs(logit) > STRONG else ""
    return f"leans {degree}towards {'synthetic' if logit > 0 else 'real'}"


def score_line(record: AnalysisRecord, method: str) -> str:
    """HTML: how a method's detector leans, and for experts its probability, logit and bias; "" without one."""
    score = record.get("detectors", {}).get(head_of(record, method))
    if not score:
        return ""
    numbers = f"{100 * score['probability']:.0f} % · logit {score['logit']:+.2f} · bias {score['bias']:+.2f}"
    side = "synthetic" if score["logit"] >= NEITHER else "real" if score["logit"] <= -NEITHER else "neither"
    return f'<p class="lean {side}">{both(_capital(leaning(score["logit"])), numbers)}</p>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _side(value: float) -> str:
    return "synthetic" if value > 0 else "real"


# --- HTML ----------------------------------------------------------------------------------------------------------


def card_html(key: str, card: Card | None, record: AnalysisRecord | None = None) -> str:
    """The card of a panel as HTML; None: the panel is still to come. key: as in `PANEL_NAMES`."""
    name = escape(PANEL_NAMES[key])
    if card is None:
        return f'<h3>{name}</h3><div class="chart pending"></div><p>…</p>'
    line = score_line(record, key) if record else ""
    words = both(card.sentence, card.expert) if card.expert else escape(card.sentence)
    button = f'<button type="button" data-opens="{key}" aria-expanded="false"><span>Open</span><i> {name}</i></button>'
    return f'<h3>{name}</h3>{line}<div class="chart">{card.chart}</div><p>{words}</p>{button}'


def failed_card(key: str, sentence: str) -> str:
    """The card of a panel that cannot be opened, as HTML. sentence: plain text."""
    return f"<h3>{escape(PANEL_NAMES[key])}</h3><p>{escape(sentence)}</p>"


# --- one function for each panel -----------------------------------------------------------------------------------


def methods_card(record: AnalysisRecord) -> Card:
    """How many detectors lean to which side."""
    logits = {name: score["logit"] for name, score in record.get("detectors", {}).items()}
    synthetic = sum(value > 0 for value in logits.values())
    verb = "leans" if synthetic == 1 else "lean"
    sentence = f"Of {len(logits)} methods {synthetic} {verb} towards synthetic, {len(logits) - synthetic} towards real."
    bars = [(PANEL_NAMES.get(name, name), value) for name, value in _strongest(logits.items())]
    shares = record["verdict"]["contributions"] if "verdict" in record else {}
    used = sum(abs(share) > 0 for share in shares.values())
    return Card(
        sentence, svg.small_bars(bars, "Logit of each method, the strongest first"), f"{sentence} The verdict weighs {used} of them."
    )


def physical_card(record: AnalysisRecord) -> Card:
    """The descriptors that lie farthest from the middle of the real images."""
    places = {n: p["real"] for n, p in record.get("physical_percentiles", {}).items() if p["real"] is not None}
    if not places:
        return Card("No reference images are known for this backbone.")
    farthest = sorted(places.items(), key=lambda item: -abs(item[1] - 50))[:ROWS]
    unusual = [f"{words_of(name)} is {'higher' if place > 95 else 'lower'}" for name, place in farthest if not 5 <= place <= 95]
    more = len([place for place in places.values() if not 5 <= place <= 95]) - 2
    sentence = f"{_capital(' and '.join(unusual[:2]))} than in nearly all real images." if unusual else "All lie where most real images do."
    rest = f" {more} more of the fifteen {'is' if more == 1 else 'are'} unusual." if more > 0 else ""
    rows = [(words_of(name), place) for name, place in farthest]
    return Card(sentence + rest, svg.small_dots(rows, "Percentile among real images, 0 to 100"))


def concepts_card(record: AnalysisRecord) -> Card:
    """The concepts that speak most for either side."""
    concepts = sorted(record.get("concepts", []), key=lambda c: -abs(c["contribution"]))[:ROWS]
    if not concepts:
        return Card("There is no concept model for this backbone.")
    sides = [
        f"towards {side} point {' and '.join(pole(c).lower() for c in some[:2])}"
        for side in ("synthetic", "real")
        if (some := [c for c in concepts if _side(c["contribution"]) == side])
    ]
    return Card(
        f"{_capital('; '.join(sides))}.", svg.small_bars([(pole(c), c["contribution"]) for c in concepts], "Contributions of concepts")
    )


def orthogonal_card(record: AnalysisRecord) -> Card:
    """The unit that contributes most."""
    orthogonal = record.get("orthogonal")
    if not orthogonal:
        return Card("There are no orthogonal units for this backbone.")
    values = orthogonal["contributions"]
    order = sorted(range(len(values)), key=lambda index: -abs(values[index]))[:ROWS]
    labels = [f"unit {unit_label(orthogonal, i)}".replace(": unnamed", "") for i in order]
    count = sum(orthogonal["named"])
    names = f"{count or 'None'} of the {len(values)} units {'has' if count == 1 else 'have'} a name that beats chance."
    start = f"Unit {order[0] + 1} pushes most, towards {_side(values[order[0]])}"
    chart = svg.small_bars([(label, values[i]) for label, i in zip(labels, order, strict=True)], "Contributions of units")
    return Card(f"{start}. {names}", chart, f"{start} ({values[order[0]]:+.2f} logits). {names}")


def item_card(record: AnalysisRecord) -> Card:
    """The caption, and the object that agrees least with it."""
    item = record.get("item")
    if not item or not item["caption"]:
        return Card("No caption was written for this image; write one in the panel.")
    rows = [(o["phrase"], o["score"]) for o in item["objects"][:ROWS]]
    rows = [("whole picture", item["global"] or 0.0), *rows][:ROWS]
    caption = f"“{item['caption'][:90]}” is what the model reads in the picture."
    return Card(caption, svg.small_bars(rows, "Agreement of words and picture", neutral=True))


def probe_card(record: AnalysisRecord) -> Card:
    """What the panel offers."""
    return Card("Measure a phrase of your own on this image, switch parts off, and see whether the names matter more than chance.")


def sdd_card(record: AnalysisRecord, regions: Sequence[Sequence[float | None]] | None = None) -> Card:
    """Where the evidence lies. regions: means over a 3 × 3 grid, None before the map is here."""
    if "sdd" not in record.get("heads", {}) and "sdd" not in record.get("detectors", {}):
        return Card("No map: this backbone has no head of this method.")
    if regions is None:
        return Card("The map is being drawn, window by window.")
    names = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
    cells = [(value, name) for value, name in zip([v for row in regions for v in row], names, strict=True) if value is not None]
    value, place = max(cells, key=lambda cell: abs(cell[0]), default=(0.0, ""))
    sentence = f"The {place} speaks most, and for {_side(value)}."
    return Card(sentence, svg.small_grid(regions, "Evidence over the image"), f"{sentence[:-1]} ({value:+.2f} logits on average).")


def residual_card(record: AnalysisRecord) -> Card:
    """The part of the pixel residual that speaks most."""
    groups = record.get("residual", {})
    if not groups:
        return Card("There is no residual head for this backbone.")
    rows = _strongest(groups.items())
    name, value = rows[0]
    start = f"What is left without the picture's content: the part “{name}” pushes most, towards {_side(value)}"
    return Card(f"{start}.", svg.small_bars(rows, "Contributions of parts of the residual"), f"{start} ({value:+.2f} logits).")


def stability_card(record: AnalysisRecord, result: Stability | None = None) -> Card:
    """Whether the verdict holds. result: None before the changes have been tried."""
    if result is None:
        return Card("The picture is being saved again, resized, blurred, cropped and mirrored.")
    from interpret.stability import verdict_sentence

    columns = [(o.probability, o.label) for o in result.outcomes if o.probability is not None]
    return Card(verdict_sentence(result), svg.small_columns(columns, "Probability of synthetic: first as it is, then under each change"))


def _strongest(items) -> list[tuple[str, float]]:
    return sorted(items, key=lambda item: -abs(item[1]))[:ROWS]


CARDS: dict[str, Callable[[AnalysisRecord], Card]] = {
    "methods": methods_card,
    "physical": physical_card,
    "concepts": concepts_card,
    "orthogonal": orthogonal_card,
    "item": item_card,
    "probe": probe_card,
    "sdd": sdd_card,
    "residual": residual_card,
    "stability": stability_card,
}
