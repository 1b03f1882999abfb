"""Building blocks of the page: a heading with its explanation, a chart, a table, one sentence."""

from __future__ import annotations

import hashlib
import io
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from interpret.panels.uploads import folder
from interpret.render.text import head_of
from interpret.render.words import HOW, how_good


def heading(title: str, how: str) -> None:
    """A panel's title and its fold-out "How it works"."""
    gr.Markdown(f"## {title}")
    with gr.Accordion("How it works", open=False):
        gr.Markdown(HOW[how])


def reading() -> gr.Markdown:
    """The panel in one sentence."""
    return gr.Markdown(elem_classes="reading")


def trust(record: dict, method: str) -> str:
    """How good a panel's method is, from the measured figures, as Markdown for a `reading`; method: as in "detectors"."""
    return f"*{how_good(head_of(record, method), record['backbone'])}*"


def table(headers: list[str], label: str, widths: list[str], rows: int = 8) -> gr.Dataframe:
    """A read-only table that scrolls after `rows` rows. widths: CSS, one for each column."""
    return gr.Dataframe(
        headers=headers, label=label, column_widths=widths, interactive=False, wrap=True, max_height=60 + 36 * rows, elem_classes="table"
    )


def plot(label: str, elem_id: str | None = None, visible: bool = True) -> gr.Plot:
    """A chart; its label is read to those who cannot see it."""
    return gr.Plot(label=label, show_label=False, elem_id=elem_id, visible=visible)


def chart(figure) -> gr.Plot:
    """The figure in its place, or nothing, not an empty frame, where there is none."""
    return gr.Plot(figure, visible=figure is not None)


def unchecked(component):
    """Let any value through to the function behind it, which answers an unknown one in a sentence.

    Gradio would compare it with the choices at the start, which the page changes with every image.
    """
    component.preprocess = lambda value: value
    return component


def unknown(value: object, names: Iterable[str], what: str) -> str:
    """One sentence for a value that is none of the names, "" for one that is. It repeats nothing of what a visitor sent."""
    known = list(names)
    return "" if value in known else f"There is no {what} of that name; there are {', '.join(known)}."


def picture_file(picture: np.ndarray | Image.Image) -> str:
    """The path of a picture as PNG among the page's results, in a folder named after its content; written once and whole.

    Gradio 6.31 writes in place, so that a browser which is fetching the same picture at that moment gets a part of it.
    """
    data = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(data, "PNG")
    target = Path(folder()) / hashlib.sha256(data.getvalue()).hexdigest() / "image.png"
    if target.is_file():
        os.utime(target)  # it counts as new for the sweep
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{uuid.uuid4().hex}.partial")
    temporary.write_bytes(data.getvalue())
    os.replace(temporary, target)
    return str(target)


def plain(text: str) -> str:
    """Text with a visitor's words in it, so that Markdown and HTML show it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", text)
