"""Choosing the model: a backbone, and the heads that others have released for it. Downloads start here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from detector.assets import EMBEDDED
from detector.hub.catalogue import TRAININGS
from detector.steps import checkpoint
from interpret.panels import components as parts
from interpret.panels.service import BACKBONES, backbone_choices, get_suite, refresh_released

if TYPE_CHECKING:
    from detector import Suite


@dataclass(frozen=True)
class ModelControls:
    """choice: of a backbone; use: loads it; in_use: its name once it is loaded, an input of every analysis. released: the row for backbones
    with released heads: training: which of them give units and concepts; get: downloads them. note: one sentence."""

    choice: gr.Dropdown
    use: gr.Button
    in_use: gr.Textbox
    released: gr.Row
    training: gr.Dropdown
    get: gr.Button
    note: gr.Markdown


def _in_bytes(progress: gr.Progress, what: str) -> Callable[[int, int], None]:
    """A download's progress as Gradio's bar; it stops when nobody waits for it, and the next request continues it."""

    def show(done: int, total: int) -> None:
        checkpoint()
        progress(done / max(total, 1), desc=f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return show


def use_model(chosen: str, in_use: str, progress=gr.Progress()) -> tuple[str, str, gr.Row, str]:  # noqa: B008
    """Load a backbone, downloading it where it is not here yet; on failure the one in use stays.

    Args:
        chosen: the backbone's name.
        in_use: the backbone in use so far.

    Returns:
        The name of the backbone in use, the choice in the list, whether released heads can be chosen, and one sentence about it.
    """
    from detector.clip.backbone import BackboneError
    from detector.methods.base import HeadError

    before = in_use if in_use in backbone_choices() else EMBEDDED
    try:
        suite = get_suite(chosen, _in_bytes(progress, "weights"))
    except (BackboneError, HeadError) as error:
        return before, before, gr.Row(visible=before != EMBEDDED), f"**{parts.plain(str(error))}** Still in use: {before}."
    return chosen, chosen, gr.Row(visible=chosen != EMBEDDED), status(suite)


def get_heads(in_use: str, progress=gr.Progress()) -> str:  # noqa: B008
    """Download the heads that others have released for the backbone in use, checked against pinned checksums.

    Args:
        in_use: the backbone's name.

    Returns:
        One sentence: what is here now, or why not.
    """
    from detector.hub.download import PublishedError
    from detector.methods.released import fetch_released

    if refusal := parts.refusal(in_use, backbone_choices(), "backbone"):
        return refusal
    try:
        fetch_released(in_use, _in_bytes(progress, "heads"))
    except PublishedError as error:
        return f"**{parts.plain(str(error))}**"
    refresh_released(in_use)
    return status(get_suite(in_use))


def status(suite: Suite) -> str:
    """One sentence: the backbone in use, this project's methods for it and the released heads that are here."""
    methods, released = len(suite.heads), len(suite.released.heads)
    text = f"In use: {suite.backbone.name}, with {methods} methods trained by this project"
    return text + (f" and {released} heads released by others." if released else ".")


def build_model() -> ModelControls:
    """The fold-out in which the backbone and the released heads are chosen."""
    with gr.Accordion("Model", open=False, elem_id="model"):
        with gr.Row(elem_classes="stack"):
            choice = parts.accept_any(
                gr.Dropdown(
                    [(label, name) for name, label in backbone_choices().items()],
                    value=EMBEDDED,
                    label="CLIP backbone",
                    scale=4,
                    elem_id="backbone",
                )
            )
            use = gr.Button("Use this model", scale=0, min_width=160, elem_id="use-model")
        with gr.Row(elem_classes="stack", visible=False) as released:
            training = parts.accept_any(
                gr.Dropdown(list(TRAININGS), value=TRAININGS[0], scale=4, label="Released heads to show, by training data")
            )
            get = gr.Button("Get the heads (4 MB)", scale=0, min_width=160, elem_id="get-heads")
        note = gr.Markdown(f"In use: {BACKBONES[EMBEDDED]}.", elem_classes="reading", elem_id="model-status")
    in_use = gr.Textbox(EMBEDDED, visible=False, label="backbone in use")
    return ModelControls(choice, use, in_use, released, training, get, note)


def wire_model(model: ModelControls) -> None:
    """What the two buttons do. Downloads wait in a line of their own, so that they hold up no analysis."""
    outputs = [model.in_use, model.choice, model.released, model.note]
    model.use.click(
        use_model, [model.choice, model.in_use], outputs, api_name="use_model", concurrency_id="download", show_progress_on=model.note
    )
    model.get.click(get_heads, model.in_use, model.note, api_name="get_heads", concurrency_id="download")
