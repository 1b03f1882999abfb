"""Probing: a concept of one's own, parts switched off, and the strongest directions dropped against random ones."""

from __future__ import annotations

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.service import Seen, Shown, suite_of
from interpret.render import figures

HEADS = {"Concept model": "concepts", "Orthogonal units": "orthogonal"}


# --- layout --------------------------------------------------------------------------------------------------------


def build_probe() -> list:
    parts.heading("Probe it", "probe")
    gr.Markdown("### A concept of your own")
    with gr.Row(elem_classes="stack"):
        phrase = gr.Textbox(label="A phrase", placeholder="for example: soft evening light", max_length=1000, elem_id="phrase")
        opposite = gr.Textbox(label="Its opposite (optional)", placeholder="harsh midday sun", max_length=1000, elem_id="opposite")
        measure = gr.Button("Measure", scale=0, min_width=120, elem_id="measure")
    with gr.Row(elem_classes="stack"):
        found = gr.Markdown(elem_classes="reading", elem_id="probe-reading")
        cosines = parts.plot("Cosine with each unit", "cosines", visible=False)
    gr.Markdown("### Switch parts off")
    with gr.Row(elem_classes="stack"):
        units = parts.unchecked(gr.CheckboxGroup([], label="Units to switch off", elem_id="units-off"))
        concepts = parts.unchecked(
            gr.Dropdown([], multiselect=True, label="Concepts to switch off, the strongest first", elem_id="concepts-off")
        )
    switched = gr.Markdown(elem_classes="reading", elem_id="switch-reading")
    gr.Markdown("### Do the names matter more than chance?")
    with gr.Row(elem_classes="stack"):
        head = parts.unchecked(
            gr.Radio(list(HEADS), value=next(iter(HEADS)), label="Head whose strongest directions are dropped", elem_id="drop-head")
        )
        compare = gr.Button("Compare with random directions", scale=0, min_width=260, elem_id="compare")
    dropped = gr.Markdown(elem_classes="reading", elem_id="drop-reading")
    with gr.Row(elem_classes="stack"):
        general = parts.plot("AUROC against directions dropped", "drop-auroc", visible=False)
        own = parts.plot("Logit against directions dropped", "drop-logit", visible=False)
    return [phrase, opposite, measure, found, cosines, units, concepts, switched, head, compare, dropped, general, own]


def show_probe(shown: Shown) -> list:
    """Fresh choices for this image, nothing of the last one's results; a typed phrase stays, to be measured on demand."""
    record = shown.record
    units = [f"unit {i + 1}" for i in range(len(record.get("orthogonal", {}).get("contributions", [])))]
    concepts = [(figures.pole(c), c["name"]) for c in record.get("concepts", [])]
    hidden = gr.Plot(visible=False)
    return [
        gr.skip(),
        gr.skip(),
        gr.skip(),
        "",
        hidden,
        gr.CheckboxGroup(units, value=[]),
        gr.Dropdown(concepts, value=[]),
        "Nothing is switched off.",
        gr.skip(),
        gr.skip(),
        "",
        hidden,
        hidden,
    ]


def wire_probe(components: list, seen: gr.State) -> list:
    phrase, opposite, measure, found, cosines, units, concepts, switched, head, compare, dropped, general, own = components
    gr.on(
        [units.input, concepts.input],
        switch,
        [seen, units, concepts],
        switched,
        api_name="switch_off",
        concurrency_id="panels",
        trigger_mode="always_last",
    )
    return [
        gr.on(
            [measure.click, phrase.submit, opposite.submit],
            probe,
            [seen, phrase, opposite],
            [found, cosines],
            api_name="probe",
            concurrency_id="model",
        ),
        gr.on([compare.click, head.input], drop, [seen, head], [dropped, general, own], api_name="drop_directions", concurrency_id="model"),
    ]


# --- actions -------------------------------------------------------------------------------------------------------


def probe(seen: Seen | None, phrase: str, opposite: str = "") -> tuple[str, object]:
    """Measure a concept of your own on the image analysed last in this session.

    Args:
        phrase: a word or phrase, such as "soft evening light".
        opposite: its opposite; without one, the phrase is measured against "A photograph".

    Returns:
        What was found, in words, and a chart of the concept's cosine with each unit.
    """
    if seen is None or seen.evidence is None:
        return "Analyse an image first.", parts.chart(None)
    from interpret import concepts

    try:
        found = concepts.probe(suite_of(seen), seen.evidence, phrase or "", opposite or "")
    except concepts.ProbeError as error:
        return f"**{parts.plain(str(error))}**", parts.chart(None)
    return parts.plain(concepts.probe_reading(found)), parts.chart(figures.cosine_chart(found.unit_cosines))


def switch(seen: Seen | None, units: list[str], concepts: list[str]) -> str:
    """Switch units and concepts off on the image analysed last in this session: the exact new logits and verdict.

    Args:
        units: such as "unit 3".
        concepts: names of concepts.

    Returns:
        What changes, in words.
    """
    if seen is None or seen.evidence is None:
        return "Analyse an image first."
    from interpret.concepts import switch_off, switch_reading

    known = [f"unit {i + 1}" for i in range(len(seen.record.get("orthogonal", {}).get("contributions", [])))]
    names = {concept["name"] for concept in seen.record.get("concepts", [])}
    if not (set(units or []) <= set(known) and set(concepts or []) <= names):
        return "One of these names no unit and no concept; units are named like “unit 3”, concepts as in their table."
    chosen = [known.index(unit) for unit in dict.fromkeys(units or [])]
    return switch_reading(switch_off(suite_of(seen), seen.record, chosen, concepts or []))


def drop(seen: Seen | None, head: str) -> tuple[str, object, object]:
    """Drop a head's strongest directions one after another, against random directions.

    Args:
        head: "Concept model" or "Orthogonal units".

    Returns:
        What was found, in words; a chart for the reference images and one for the image analysed last.
    """
    if seen is None or seen.evidence is None:
        return "Analyse an image first.", parts.chart(None), parts.chart(None)
    from interpret.concepts import drop_curve, drop_reading

    if refusal := parts.unknown(head, HEADS, "head"):
        return refusal, parts.chart(None), parts.chart(None)
    curve = drop_curve(suite_of(seen), seen.evidence, HEADS[head])
    if curve is None:
        words = "There are no reference images for this backbone, so nothing can be compared with chance."
        return words, parts.chart(None), parts.chart(None)
    return drop_reading(curve), *(parts.chart(figures.drop_chart(curve, what)) for what in ("auroc", "logit"))
