"""Choosing the model: a backbone, and the heads that others have released for it. Downloads start here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from detector.assets import EMBEDDED
from detector.detectors.names import FUSED, DetectorError, DetectorName, short_backbone
from detector.hub.catalogue import TRAININGS
from detector.steps import checkpoint
from interpret.panels import components as parts
from interpret.panels.links import note
from interpret.panels.service import (
    backbone_choices,
    captioner_choices,
    detector_choices,
    first_captioner,
    first_choice,
    get_captioner,
    get_suite,
    keep_texts,
    refresh_released,
    split_choice,
)

if TYPE_CHECKING:
    from detector import Suite
    from detector.detectors.table import DetectorRow

# An analysis starts from the button, also the one of an open picture that another detector is to lead
ANALYZE_AGAIN = "() => { if (document.querySelector('#image img')) document.querySelector('#analyze').click(); }"


@dataclass(frozen=True)
class ModelControls:
    """choice: of a backbone; use: loads it; in_use: its name once it is loaded, or that of the detector that leads on it, an input of every
    analysis. leader: of the detectors that are here. released: the row for backbones with released heads: training: which of them give
    units and concepts; get: downloads them. captioner: of what may
    write captions; writer: what does. note: one sentence. listing: all detectors known here, filled when `opened` is."""

    choice: gr.Dropdown
    use: gr.Button
    in_use: gr.Textbox
    leader: gr.Dropdown
    released: gr.Row
    training: gr.Dropdown
    get: gr.Button
    captioner: gr.Dropdown
    writer: gr.State
    note: gr.Markdown
    opened: gr.Accordion
    listing: gr.HTML


def _in_bytes(progress: gr.Progress, what: str) -> Callable[[int, int], None]:
    """A download's progress as Gradio's bar; it stops when nobody waits for it, and the next request continues it."""

    def show(done: int, total: int) -> None:
        checkpoint()
        progress(done / max(total, 1), desc=f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return show


def use_model(chosen: str, in_use: str, progress=gr.Progress()) -> tuple[str, str, gr.Row, str]:  # noqa: B008
    """Load a backbone, downloading it where it is not here yet; on failure the one in use stays.

    Args:
        chosen: the backbone's name, or the full name of a detector on it, which then leads.
        in_use: the backbone or detector in use so far.

    Returns:
        The name of what is in use, the backbone in the list, whether released heads can be chosen, and one sentence about it.
    """
    from detector.clip.backbone import BackboneError
    from detector.methods.base import HeadError

    try:
        suite = get_suite(chosen, _in_bytes(progress, "weights"))
    except (BackboneError, DetectorError, HeadError) as error:
        before, backbone = _known(in_use)
        return before, backbone, gr.Row(visible=backbone != EMBEDDED), f"**{parts.plain(str(error))}** Still in use: {before}."
    keep_texts(suite)
    backbone, _ = split_choice(chosen)
    return chosen, backbone, gr.Row(visible=backbone != EMBEDDED), status(suite)


def _known(in_use: str) -> tuple[str, str]:
    """What is in use and its backbone; the embedded model for a value that is none of ours."""
    from detector.clip.backbone import BackboneError

    try:
        return in_use, split_choice(in_use)[0]
    except BackboneError:
        return EMBEDDED, EMBEDDED


def get_heads(in_use: str, progress=gr.Progress()) -> str:  # noqa: B008
    """Download the heads that others have released for the backbone in use, checked against pinned checksums.

    Args:
        in_use: the backbone's name, or that of a detector on it.

    Returns:
        One sentence: what is here now, or why not.
    """
    from detector.clip.backbone import BackboneError
    from detector.hub.download import PublishedError
    from detector.methods.released import fetch_released

    try:
        backbone, _ = split_choice(in_use)
        fetch_released(backbone, _in_bytes(progress, "heads"))
    except (BackboneError, PublishedError) as error:
        return f"**{parts.plain(str(error))}**"
    refresh_released(backbone)
    return status(get_suite(in_use))


def use_captioner(captioner: str, in_use: str, progress=gr.Progress()) -> tuple[str, str, str]:  # noqa: B008
    """Load what is to write captions, downloading it where it is not here yet; on failure the embedded model writes them.

    Args:
        captioner: "embedded", or another of the models offered that write captions.
        in_use: the backbone's name, or that of a detector on it.

    Returns:
        The name of what writes captions, for the list and for the session, and one sentence about it.
    """
    from detector.clip.backbone import BackboneError
    from detector.methods.base import HeadError

    if refused := parts.refusal(captioner, captioner_choices(), "writer of captions"):
        return EMBEDDED, EMBEDDED, f"**{refused}**"
    try:
        suite = get_suite(_known(in_use)[0]).with_captioner(get_captioner(captioner, _in_bytes(progress, "weights")))
    except (BackboneError, DetectorError, HeadError) as error:
        return EMBEDDED, EMBEDDED, f"**{parts.plain(str(error))}** Captions are still written by: {EMBEDDED}."
    names = " and ".join(suite.strange_captions)
    warning = f" {names} learned from captions that another model wrote, so that their logits hold less." if names else ""
    return captioner, captioner, f"Captions are written by: {captioner}.{warning}"


def list_leaders(in_use: str) -> gr.Dropdown:
    """The detectors that can lead with what is in use, and the one that does."""
    suite = get_suite(_known(in_use)[0])
    leading = suite.roster.leading
    return gr.Dropdown(list(suite.roster.leaders), value=leading.name if leading else None)


def list_detectors() -> str:
    """All detectors known here, the rows of `python -m detector heads`.

    Returns:
        HTML, a list: name; paper, backbone, training data, size and how well it was measured where; whether it is here.
    """
    from detector.detectors.table import detector_table

    rows = detector_table(*backbone_choices())
    items = [f"<li><b>{escape(row.detector)}</b> ({escape(row.state)}): {escape(_about(row))}</li>" for row in rows]
    return f"<ul class='reading'>{''.join(items)}</ul>"


def _about(row: DetectorRow) -> str:
    """Paper, backbone, training data, size and measures of a detector, in one or two sentences."""
    backbone = "reads pixels alone" if row.backbone == "none" else f"on {row.backbone}"
    facts = [row.paper, backbone, f"trained on {row.trained_on}" if row.trained_on else "", row.size]
    return "; ".join(filter(None, facts)) + "." + (f" Measured: {row.measured}." if row.measured else "")


def status(suite: Suite) -> str:
    """Two sentences: the backbones in use and their detectors, and which of these leads."""
    backbones = " and ".join(short_backbone(part.backbone.name) for part in suite.suites)
    leading = suite.roster.leading
    text = f"In use: {backbones}, with {len(suite.roster.names)} detectors."
    return f"{text} {leading.name} leads." if leading else text


def build_model() -> ModelControls:
    """The fold-out in which the backbone, the detector that leads and the released heads are chosen."""
    first = first_choice()
    backbone, name = split_choice(first)
    with gr.Accordion("Model", open=False, elem_id="model"):
        with gr.Row(elem_classes="stack"):
            choices = [(label, name) for name, label in backbone_choices().items()]
            choice = parts.accept_any(gr.Dropdown(choices, value=backbone, label="CLIP backbone", scale=4, elem_id="backbone"))
            use = gr.Button("Use this model", scale=0, min_width=160, elem_id="use-model")
        leading, leaders = name or str(DetectorName(EMBEDDED, FUSED)), detector_choices(backbone)
        leader = parts.accept_any(gr.Dropdown(leaders, value=leading, label="Detector whose verdict is shown", elem_id="leader"))
        with gr.Row(elem_classes="stack", visible=backbone != EMBEDDED) as released:
            training = parts.accept_any(
                gr.Dropdown(list(TRAININGS), value=TRAININGS[0], scale=4, label="Released heads to show, by training data")
            )
            get = gr.Button("Get the heads (4 MB)", scale=0, min_width=160, elem_id="get-heads")
        writers = [(label, name) for name, label in captioner_choices().items()]
        captioner = parts.accept_any(gr.Dropdown(writers, value=first_captioner(), label="Captions written by", elem_id="captioner"))
        note = gr.Markdown(f"In use: {backbone_choices()[backbone]}.", elem_classes="reading", elem_id="model-status")
        with gr.Accordion("All detectors known here", open=False, elem_id="all-detectors") as opened:
            listing = gr.HTML("", elem_id="detectors")  # a table, filled while it is folded, takes more than a telephone's width
    in_use = gr.Textbox(first, visible=False, label="backbone in use")
    return ModelControls(
        choice, use, in_use, leader, released, training, get, captioner, gr.State(first_captioner()), note, opened, listing
    )


def wire_model(model: ModelControls) -> None:
    """What the buttons and the choice of a leader do. Downloads wait in a line of their own, so that they hold up no analysis."""
    outputs = [model.in_use, model.choice, model.released, model.note]
    line: dict[str, Any] = {"concurrency_id": "download"}
    use = model.use.click(use_model, [model.choice, model.in_use], outputs, api_name="use_model", show_progress_on=model.note, **line)
    lead = model.leader.input(
        use_model, [model.leader, model.in_use], outputs, api_visibility="private", show_progress_on=model.note, **line
    )
    get = model.get.click(get_heads, model.in_use, model.note, api_name="get_heads", **line)
    written = [model.captioner, model.writer, model.note]
    inputs = [model.captioner, model.in_use]
    writer = model.captioner.input(use_captioner, inputs, written, api_name="use_captioner", show_progress_on=model.note, **line)
    writer.success(None, js=ANALYZE_AGAIN)
    for event in (use, lead):
        event.success(None, model.in_use, None, js=note("detector"), show_progress="hidden")
    for event in (use, lead, get):
        listed = event.success(list_leaders, model.in_use, model.leader, api_visibility="private", show_progress="hidden", **line)
        listed.success(None, js=ANALYZE_AGAIN)
    model.opened.expand(list_detectors, None, model.listing, api_name="detectors", concurrency_id="panels")
