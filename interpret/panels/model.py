"""Choosing the model: a backbone, and the heads that others have released for it. Downloads start here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from detector.assets import EMBEDDED
from detector.hub.catalogue import TRAININGS
from detector.steps import checkpoint
from interpret.panels import components as parts
from interpret.panels.service import BACKBONES, get_suite, offered, refresh_released


@dataclass(frozen=True)
class ModelControls:
    """in_use: name of the backbone in use, an input of every analysis. training: the released heads that are shown."""

    chosen: gr.Dropdown
    use: gr.Button
    in_use: gr.Textbox
    released: gr.Row
    training: gr.Dropdown
    get: gr.Button
    note: gr.Markdown


def _in_bytes(progress: gr.Progress, what: str):
    """A download's progress as Gradio's bar; it ends when nobody waits for it, and goes on from there when it is next asked for."""

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
        The name of the backbone in use, the choice shown, whether released heads can be chosen, and one sentence about it.
    """
    from detector.clip.backbone import BackboneError
    from detector.methods.base import HeadError

    before = in_use if in_use in offered() else EMBEDDED
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

    if refusal := parts.unknown(in_use, offered(), "backbone"):
        return refusal
    try:
        fetch_released(in_use, _in_bytes(progress, "heads"))
    except PublishedError as error:
        return f"**{parts.plain(str(error))}**"
    refresh_released(in_use)
    return status(get_suite(in_use))


def status(suite) -> str:
    """One sentence: the backbone in use, its own methods and the released heads at hand."""
    own, released = len(suite.heads), len(suite.released.heads)
    text = f"In use: {suite.backbone.name}, with {own} methods trained by this project"
    return text + (f" and {released} heads released by others." if released else ".")


def build_model() -> ModelControls:
    """The fold-out in which the backbone and the released heads are chosen."""
    with gr.Accordion("Model", open=False, elem_id="model"):
        with gr.Row(elem_classes="stack"):
            chosen = parts.unchecked(
                gr.Dropdown(
                    [(label, name) for name, label in offered().items()], value=EMBEDDED, label="CLIP backbone", scale=4, elem_id="backbone"
                )
            )
            use = gr.Button("Use this model", scale=0, min_width=160, elem_id="use-model")
        with gr.Row(elem_classes="stack", visible=False) as released:
            training = parts.unchecked(
                gr.Dropdown(list(TRAININGS), value=TRAININGS[0], scale=4, label="Released heads to show, by training data")
            )
            get = gr.Button("Get the heads (4 MB)", scale=0, min_width=160, elem_id="get-heads")
        note = gr.Markdown(f"In use: {BACKBONES[EMBEDDED]}.", elem_classes="reading", elem_id="model-status")
    in_use = gr.Textbox(EMBEDDED, visible=False, label="backbone in use")
    return ModelControls(chosen, use, in_use, released, training, get, note)


def wire_model(model: ModelControls) -> None:
    """What the two buttons do. Downloads wait in a line of their own, so that they hold up no analysis."""
    outputs = [model.in_use, model.chosen, model.released, model.note]
    model.use.click(
        use_model, [model.chosen, model.in_use], outputs, api_name="use_model", concurrency_id="download", show_progress_on=model.note
    )
    model.get.click(get_heads, model.in_use, model.note, api_name="get_heads", concurrency_id="download")
