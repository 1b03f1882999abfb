"""Probing: a concept of one's own, parts switched off, and the strongest directions dropped against random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from gradio.events import Dependency

from detector.detectors.names import short_backbone
from detector.records import AnalysisRecord
from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, PanelSource, part_of, suite_of
from interpret.render import figures
from interpret.render.text import PANEL_NAMES

HEADS = {"Concept model": "concepts", "Orthogonal units": "orthogonal"}


# --- layout --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbePanel:
    """A typed concept: phrase, opposite, measure, reading, cosines. Parts switched off: units, concepts, switch_reading. Directions
    dropped: head, compare, drop_reading, auroc, logit."""

    phrase: gr.Textbox
    opposite: gr.Textbox
    measure: gr.Button
    reading: gr.Markdown
    cosines: gr.Plot
    units: gr.CheckboxGroup
    concepts: gr.Dropdown
    switch_reading: gr.Markdown
    head: gr.Radio
    compare: gr.Button
    drop_reading: gr.Markdown
    auroc: gr.Plot
    logit: gr.Plot


class PhraseValues(NamedTuple):
    """Values of `ProbePanel` for a typed concept, in the order in which the endpoint gives them."""

    reading: str
    cosines: gr.Plot


class DropValues(NamedTuple):
    """Values of `ProbePanel` for directions dropped, in the order in which the endpoint gives them."""

    drop_reading: str
    auroc: gr.Plot
    logit: gr.Plot


class ProbeValues(NamedTuple):
    """Values of `ProbePanel` for a new image."""

    reading: str
    cosines: gr.Plot
    units: gr.CheckboxGroup
    concepts: gr.Dropdown
    switch_reading: str
    drop_reading: str
    auroc: gr.Plot
    logit: gr.Plot


def build_probe() -> ProbePanel:
    """The three ways of probing, one below the other."""
    parts.heading("probe", "probe")
    gr.Markdown("#### A concept of your own")
    with gr.Row(elem_classes="stack"):
        phrase = gr.Textbox(label="A phrase", placeholder="for example: soft evening light", max_length=1000, elem_id="phrase")
        opposite = gr.Textbox(label="Its opposite (optional)", placeholder="harsh midday sun", max_length=1000, elem_id="opposite")
        measure = gr.Button("Measure", scale=0, min_width=120, elem_id="measure")
    with gr.Row(elem_classes="stack"):
        reading = gr.Markdown(elem_classes="reading", elem_id="probe-reading")
        cosines = parts.plot("Cosine with each unit", "cosines", visible=False)
    with gr.Column(elem_classes="expert"):
        gr.Markdown("#### Switch parts off")
        with gr.Row(elem_classes="stack"):
            units = parts.accept_any(gr.CheckboxGroup([], label="Units to switch off", elem_id="units-off"))
            concepts = parts.accept_any(
                gr.Dropdown([], multiselect=True, label="Concepts to switch off, the strongest first", elem_id="concepts-off")
            )
        switch_reading = gr.Markdown(elem_classes="reading", elem_id="switch-reading")
        head, compare, drop_reading, auroc, logit = _build_drop()
    return ProbePanel(
        phrase, opposite, measure, reading, cosines, units, concepts, switch_reading, head, compare, drop_reading, auroc, logit
    )


def _build_drop() -> tuple[gr.Radio, gr.Button, gr.Markdown, gr.Plot, gr.Plot]:
    gr.Markdown("#### Do the names matter more than chance?")
    with gr.Row(elem_classes="stack"):
        head = parts.accept_any(
            gr.Radio(
                [(PANEL_NAMES[key], name) for name, key in HEADS.items()],
                value=next(iter(HEADS)),
                label="Head whose strongest directions are dropped",
                elem_id="drop-head",
            )
        )
        compare = gr.Button("Compare with random directions", scale=0, min_width=260, elem_id="compare")
    reading = gr.Markdown(elem_classes="reading", elem_id="drop-reading")
    with gr.Row(elem_classes="stack"):
        auroc = parts.plot("AUROC against directions dropped", "drop-auroc", visible=False)
        logit = parts.plot("Logit against directions dropped", "drop-logit", visible=False)
    return head, compare, reading, auroc, logit


def show_probe(source: PanelSource) -> ProbeValues:
    """Fresh choices for this image, nothing of the last one's results; a typed phrase stays, to be measured on demand."""
    concepts = [(figures.pole(c), c["name"]) for c in source.record.get("concepts", [])]
    return ProbeValues(
        reading="",
        cosines=parts.chart(None),
        units=gr.CheckboxGroup(_unit_choices(source.record), value=[]),
        concepts=gr.Dropdown(concepts, value=[]),
        switch_reading="Nothing is switched off.",
        drop_reading="",
        auroc=parts.chart(None),
        logit=parts.chart(None),
    )


def _unit_choices(record: AnalysisRecord) -> list[str]:
    """ "unit 1", "unit 2", … for the units of the orthogonal head."""
    units = record["orthogonal"]["contributions"] if "orthogonal" in record else []
    return [f"unit {number}" for number in range(1, len(units) + 1)]


def wire_probe(panel: ProbePanel, current: gr.State) -> list[Dependency]:
    """The events of the panel; those that use the model are returned."""
    gr.on(
        [panel.units.input, panel.concepts.input],
        switch,
        [current, panel.units, panel.concepts],
        panel.switch_reading,
        api_name="switch_off",
        concurrency_id="panels",
        trigger_mode="always_last",
    )
    measure = gr.on(
        [panel.measure.click, panel.phrase.submit, panel.opposite.submit],
        probe,
        [current, panel.phrase, panel.opposite],
        parts.outputs(panel, PhraseValues),
        api_name="probe",
        concurrency_id="model",
    )
    compare = gr.on(
        [panel.compare.click, panel.head.input],
        drop,
        [current, panel.head],
        parts.outputs(panel, DropValues),
        api_name="drop_directions",
        concurrency_id="model",
    )
    return [measure, compare]


# --- actions -------------------------------------------------------------------------------------------------------


def probe(current: CurrentImage | None, phrase: str, opposite: str = "") -> PhraseValues:
    """Measure a concept of your own on the image analysed last in this session.

    Args:
        phrase: a word or phrase, such as "soft evening light".
        opposite: its opposite; without one, the phrase is measured against "A photograph".

    Returns:
        The result in words, and a chart of the concept's cosine with each unit.
    """
    if current is None or current.evidence is None:
        return PhraseValues("Analyse an image first.", parts.chart(None))
    from interpret import concepts

    suite, evidence = part_of(current, "concepts")
    assert evidence is not None
    try:
        result = concepts.probe(suite, evidence, phrase or "", opposite or "")
    except concepts.ProbeError as error:
        return PhraseValues(f"**{parts.plain(str(error))}**", parts.chart(None))
    words = f"{concepts.probe_reading(result)} Measured on {short_backbone(suite.backbone.name)}."
    return PhraseValues(parts.plain(words), parts.chart(figures.cosine_chart(result.unit_cosines)))


def switch(current: CurrentImage | None, units: list[str], concepts: list[str]) -> str:
    """Switch units and concepts off on the image analysed last in this session: the exact new logits and verdict.

    Args:
        units: such as "unit 3".
        concepts: names of concepts.

    Returns:
        What changes, in words.
    """
    if current is None or current.evidence is None:
        return "Analyse an image first."
    from interpret.concepts import switch_off, switch_reading

    record = current.record
    choices, names = _unit_choices(record), {concept["name"] for concept in record.get("concepts", [])}
    if not (set(units or []) <= set(choices) and set(concepts or []) <= names):
        return "One of these names no unit and no concept; units are named like “unit 3”, concepts as in their table."
    indices = [choices.index(unit) for unit in dict.fromkeys(units or [])]
    return switch_reading(switch_off(suite_of(current), record, indices, concepts or []))


def drop(current: CurrentImage | None, head: str) -> DropValues:
    """Drop a head's strongest directions one after another, against random directions.

    Args:
        head: "Concept model" or "Orthogonal units".

    Returns:
        The result in words; a chart for the reference images and one for the image analysed last.
    """
    if current is None or (evidence := current.evidence) is None:
        return _only("Analyse an image first.")
    from interpret.concepts import drop_curve_of, drop_reading

    if refusal := parts.refusal(head, HEADS, "head"):
        return _only(refusal)
    curve, backbone = drop_curve_of(suite_of(current), evidence, HEADS[head])
    if curve is None:
        return _only("There are no reference images for any backbone that has such a head, so nothing can be compared with chance.")
    auroc, logit = (parts.chart(figures.drop_chart(curve, what)) for what in ("auroc", "logit"))
    return DropValues(f"{drop_reading(curve)} Measured on {short_backbone(backbone)}.", auroc, logit)


def _only(sentence: str) -> DropValues:
    """A sentence, without charts."""
    return DropValues(sentence, parts.chart(None), parts.chart(None))
