"""An analysis in words: the verdict card, one-sentence readings and a text to copy. Plain text is escaped for HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from detector.assets import EMBEDDED
from detector.records import AnalysisRecord, VerdictRecord
from interpret.render.figures import pole, unit_label, words_of
from interpret.render.words import how_good

if TYPE_CHECKING:
    from detector.clip.backbone import ScoredView

METHOD_NAMES = {
    "physical": "Physical descriptors",
    "residual": "Pixel residual",
    "linear_probe": "Linear probe",
    "orthogonal": "Orthogonal units",
    "concepts": "Photographic concepts",
    "item": "Image against caption",
    "physical_clip": "Descriptors as text",
    "sdd": "Semantic discrepancy",
}
PANEL_NAMES = METHOD_NAMES | {"methods": "All methods", "probe": "Probe it", "stability": "Stability"}
RELEASED_KINDS = {
    "clip_orthogonal": "SynthCLIC's orthogonal head",
    "linear_probe": "SynthCLIC's linear probe",
    "cm_antonyms": "SynthCLIC's concept model",
}
HEADLINES = {"synthetic": "Looks AI-generated", "real": "Looks like a real image", "inconclusive": "Inconclusive"}
ADVICE = {
    "synthetic": "The evidence leans clearly towards a generator. It is a measurement, not a proof.",
    "real": "The evidence leans clearly towards a camera or a human hand. It is a measurement, not a proof.",
    "inconclusive": "The evidence does not suffice to say: images like this one come from both sides.",
}
AS_PUBLISHED = (
    "The detector puts this image on the {side} side of its own threshold. How often that is right was not measured here; it is no proof."
)


def method_name(name: str) -> str:
    """A method's or a released head's name for people."""
    backbone, _, method = name.rpartition("/")
    if method in METHOD_NAMES and backbone:
        return f"{METHOD_NAMES[method]} ({backbone})"
    if name == "univfd/fc" or name.endswith("@univfd"):
        return "UniversalFakeDetect (released)"
    kind, _, training = name.removeprefix("clip-cues/").rpartition("_")
    return METHOD_NAMES.get(name) or (f"{RELEASED_KINDS[kind]} (released, {training})" if kind in RELEASED_KINDS else name)


def head_of(record: AnalysisRecord, method: str) -> str:
    """The head behind a panel: the method's own, or the released one that is shown in its place."""
    return record.get("heads", {}).get(method, method)


def detector_of(record: AnalysisRecord, method: str) -> str:
    """The full name of the detector that fills a method's panel, or with "verdict" of the one that leads; the method itself where the
    record does not say."""
    if method == "verdict":
        return record.get("leader", method)
    score = record.get("detectors", {}).get(head_of(record, method))
    return score.get("detector", method) if score else method


def speaker(record: AnalysisRecord, method: str) -> str:
    """Which detector fills a method's panel, and how good it is. method: as for `detector_of`."""
    detector = detector_of(record, method)
    backbone, _, head = detector.rpartition("/")
    good = how_good(head or method, EMBEDDED if backbone == EMBEDDED else backbone or record["backbone"])
    return f"{detector} speaks here. {good}" if backbone else good


def verdict_basis(record: AnalysisRecord) -> str:
    """Who leads where that is not a fusion, in one sentence, and one where other detectors say otherwise; else empty."""
    verdict = record["verdict"]
    leader, calibration = verdict.get("detector", ""), verdict.get("calibration", "")
    fused = not leader or leader.endswith("/verdict")
    return " ".join(part for part in ("" if fused else f"It is that of {leader} alone, {calibration}.", disagreement(record)) if part)


def disagreement(record: AnalysisRecord) -> str:
    """One sentence that names detectors whose logit has the other sign than the verdict's; "" where there are none."""
    synthetic = record["verdict"]["logit"] > 0
    others = [method_name(name) for name, score in record["detectors"].items() if (score["logit"] > 0) != synthetic]
    if not others:
        return ""
    names = others if len(others) <= 3 else [*others[:2], f"{len(others) - 2} more"]
    verb = "leans" if len(names) == 1 else "lean"
    return f"Not all {len(record['detectors'])} detectors agree: {_join(names)} {verb} towards {'real' if synthetic else 'synthetic'}."


def absent_methods(record: AnalysisRecord) -> str:
    """Which methods the verdict has to do without, and whether there is nothing to compare with; "" where nothing is absent."""
    absent = record.get("absent", [])
    names = [method_name(name).lower() for name in absent if name != "reference"]
    methods = f"Absent here, so that the verdict does without: {_join(names)}. " if names else ""
    return methods + ("The reference images are absent: typed concepts are compared with nothing." if "reference" in absent else "")


def advice(verdict: VerdictRecord) -> str:
    """What to make of a verdict, in a sentence or two; plain text. Where the image itself rules out a label, why."""
    published = verdict.get("calibration", "calibrated") != "calibrated"
    return verdict.get("reason") or (AS_PUBLISHED.format(side=verdict["label"]) if published else ADVICE[verdict["label"]])


def scale_html(percent: float) -> str:
    """A bar from real to synthetic with a mark. percent: where, from 0 to 100."""
    return (
        f'<div class="scale" role="img" aria-label="{percent:.0f} percent synthetic"><i style="left:{percent:.1f}%"></i></div>'
        '<div class="ends"><span>real</span><span>synthetic</span></div>'
    )


def verdict_card(record: AnalysisRecord) -> str:
    """HTML: headline, probability with a bar, each method's share, and what the file says of itself."""
    if error := record["error"]:
        return f'<div class="card bad" role="alert"><h2>This file cannot be analysed</h2><p>{escape(error)}</p></div>'
    verdict = record.get("verdict")
    if not verdict:
        return '<div class="card"><h2>No verdict</h2><p>No head is trained for this backbone yet.</p></div>'
    percent = 100 * verdict["probability"]
    words = f"{advice(verdict)} {verdict_basis(record)} {absent_methods(record)}"
    return (
        f'<div class="card {verdict["label"]}"><h2>{HEADLINES[verdict["label"]]}</h2>'
        f'<p class="big">{percent:.0f} %<span> {escape(_calibration(verdict))}</span></p>'
        f'<p class="expert facts">{escape(_sum(record))}</p>'
        f"{scale_html(percent)}"
        f'<p>{escape(words.strip())}</p><p class="facts">{escape(file_reading(record))}</p></div>'
    )


def _sum(record: AnalysisRecord) -> str:
    """The verdict's logit, and what it is the sum of."""
    verdict = record["verdict"]
    shares = sum(verdict["contributions"].values())
    return f"{record.get('leader', '')}: logit {verdict['logit']:+.2f} = bias {verdict['bias']:+.2f} + contributions {shares:+.2f}"


def _calibration(verdict: VerdictRecord) -> str:
    published = verdict.get("calibration", "calibrated") != "calibrated"
    return f"probability of being synthetic, {verdict['calibration']}" if published else "calibrated probability of being synthetic"


def file_reading(record: AnalysisRecord) -> str:
    """One line: format, size, estimated JPEG quality, and which metadata the file carries."""
    facts = record["file_facts"]
    parts = [f"{facts['format'] or 'image'}, {record['width']} × {record['height']} px"]
    if facts["jpeg_quality"]:
        parts.append(f"JPEG quality about {facts['jpeg_quality']}")
    parts.append("camera metadata (EXIF) present" if facts["has_exif"] else "no camera metadata")
    parts.append("content credentials (C2PA) present" if facts["has_c2pa"] else "no content credentials")
    return " · ".join(parts)


def method_rows(record: AnalysisRecord) -> list[list]:
    """Method, its own probability, its contribution to the verdict's logit; those that contribute first."""
    shares = record["verdict"]["contributions"] if "verdict" in record else {}
    scores = sorted(record.get("detectors", {}).items(), key=lambda item: item[0] not in shares)  # those of the verdict first
    return [
        [method_name(name), f"{100 * score['probability']:.0f} %", f"{shares[name]:+.2f}" if shares.get(name) else "none"]
        for name, score in scores
    ]


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def text_reading(record: AnalysisRecord) -> str:
    """The very words that CLIP's text tower read of the image; "" where no method reads descriptors so."""
    text = record.get("physical_text")
    return f"The method physical_clip wrote the core descriptors after the caption, and CLIP read: “{text}”" if text else ""


def descriptor_reading(record: AnalysisRecord) -> str:
    """One sentence: which descriptors are unusual for a real image."""
    places = record.get("physical_percentiles", {})
    if not places:
        return "No reference images are known for this backbone."
    unusual = []
    for name, place in places.items():
        if place["real"] is not None and not 5 <= place["real"] <= 95:
            unusual.append(f"{words_of(name)} is {'higher' if place['real'] > 95 else 'lower'} than in nearly all real images")
    if not unusual:
        return "All fifteen descriptors lie within the range of nine in ten real images."
    return "Unusual here: " + _join(unusual[:4]) + "."


def concept_reading(record: AnalysisRecord) -> str:
    """One sentence: the concepts that speak most for either side."""
    concepts = record.get("concepts", [])
    sides = []
    for word, wanted in (("synthetic", 1), ("real", -1)):
        phrases = [pole(c) for c in concepts if c["contribution"] * wanted > 0.01][:3]
        if phrases:
            sides.append(f"for {word} speak {_join(phrases)}")
    return (_capital("; ".join(sides)) + ".") if sides else "No concept pushes the concept model noticeably."


def unit_reading(record: AnalysisRecord) -> str:
    """One sentence: the unit that contributes most."""
    orthogonal = record.get("orthogonal")
    if not orthogonal:
        return "No orthogonal head for this backbone."
    values = orthogonal["contributions"]
    i = max(range(len(values)), key=lambda index: abs(values[index]))
    name = unit_label(orthogonal, i).partition(": ")[2]
    named = "no concept names it better than chance would" if name == "unnamed" else f"it rises with {name}"
    count = sum(orthogonal["named"])
    return (
        f"Unit {i + 1} contributes most ({values[i]:+.2f} logits) and speaks for "
        f"{'synthetic' if values[i] > 0 else 'real'}; {named}. {count or 'None'} of the {len(values)} units "
        f"{'has' if count == 1 else 'have'} a name that beats chance."
    )


def view_reading(view: ScoredView) -> str:
    """Which pixels were scored, in the coordinates of the user's image."""
    x0, y0, x1, y1 = view.box
    return (
        f"The CLIP tower saw these {view.pixels.shape[1]} × {view.pixels.shape[0]} pixels: the square x {x0}–{x1}, y {y0}–{y1} "
        "of your image, scaled. The descriptors read the same square at 256 pixels; the residual reads windows at the "
        "image's own resolution."
    )


def residual_reading(record: AnalysisRecord) -> str:
    """One sentence: which part of the pixel residual speaks most, and for which side."""
    groups = record.get("residual", {})
    if not groups:
        return "No residual head for this backbone."
    name, value = max(groups.items(), key=lambda item: abs(item[1]))
    return f"The strongest part is the {name} ({value:+.2f} logits): it speaks for {'synthetic' if value > 0 else 'real'}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def leading_method(record: AnalysisRecord) -> str:
    """The method of the detector that leads, "verdict" for a fusion; "" where none leads."""
    return record.get("leader", "").rpartition("/")[2].partition("@")[0]


def summary(record: AnalysisRecord) -> str:
    """Plain text for copying: verdict, methods, descriptors and concepts in a few lines."""
    if record.get("error"):
        return f"{record.get('file') or 'image'}: {record['error']}"
    lines = [f"Cuescope on {record.get('file') or 'an image'} ({file_reading(record)})"]
    if verdict := record.get("verdict"):
        leader = record.get("leader", record["backbone"])
        lines.append(f"Verdict: {verdict['label']}, probability of synthetic {verdict['probability']:.2f} ({leader}).")
    lines += [f"- {name}: {probability}" for name, probability, _ in method_rows(record)]
    return "\n".join([*lines, descriptor_reading(record), concept_reading(record)])
