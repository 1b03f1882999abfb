"""Building blocks of the page: a heading with its explanation, a chart, a table, one sentence.

Each panel names its components and its values alike: `build_…` gives a frozen dataclass of components, an action gives a NamedTuple of
values whose fields are the names of the components that they are for, and `outputs` lists these components in that order.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import gradio as gr
import numpy as np
from gradio.components import Component
from PIL import Image

from detector.records import AnalysisRecord
from interpret.panels.uploads import folder
from interpret.render.text import PANEL_NAMES, speaker
from interpret.render.words import HOW

if TYPE_CHECKING:
    import plotly.graph_objects as go

AnyComponent = TypeVar("AnyComponent", bound=Component)
Skip = dict[str, Any]  # what `gr.skip()` gives: the component stays as it is


def outputs(components: object, values: type[NamedTuple]) -> list[Component]:
    """The components that an action's values go to, in the order of the values.

    components: the frozen dataclass of a panel. AttributeError where it has no component of a value's name.
    """
    return [getattr(components, name) for name in values._fields]


def heading(key: str, how: str) -> None:
    """A panel's name, as in `PANEL_NAMES`, and its fold-out "How it works"."""
    gr.Markdown(f"### {PANEL_NAMES[key]}")
    with gr.Accordion("How it works", open=False):
        gr.Markdown(HOW[how])


def reading(kind: str = "") -> gr.Markdown:
    """The panel in one sentence. kind: "expert" for one that only experts see."""
    return gr.Markdown(elem_classes=["reading", kind])


def trust(record: AnalysisRecord, method: str) -> str:
    """How good a panel's method is, from the measured figures, as Markdown for a `reading`; method: as in "detectors"."""
    return f"*{speaker(record, method)}*"


def table(headers: list[str], label: str, widths: Sequence[str], rows: int = 8) -> gr.Dataframe:
    """A read-only table behind "Numbers", which scrolls after `rows` rows. widths: CSS, one for each column."""
    with gr.Accordion("Numbers", open=False, elem_classes="numbers"):
        return gr.Dataframe(
            headers=headers,
            label=label,
            column_widths=list(widths),
            interactive=False,
            wrap=True,
            max_height=60 + 36 * rows,
            elem_classes="table",
        )


def plot(label: str, elem_id: str | None = None, visible: bool = True) -> gr.Plot:
    """A chart; its label is read to those who cannot see it."""
    return gr.Plot(label=label, show_label=False, elem_id=elem_id, visible=visible)


def chart(figure: go.Figure | None) -> gr.Plot:
    """The figure in its place; without a figure the place is hidden."""
    return gr.Plot(figure, visible=figure is not None)


def accept_any(component: AnyComponent) -> AnyComponent:
    """Let any value through to the function behind it, which answers an unknown one in a sentence.

    Gradio would compare it with the choices at the start, which the page changes with every image.
    """
    setattr(component, "preprocess", lambda value: value)  # noqa: B010 (a type checker refuses to replace a method)
    return component


def refusal(value: object, names: Iterable[str], what: str) -> str:
    """One sentence for a value that is none of the names, "" for one that is. It repeats nothing of what a visitor sent."""
    names = list(names)
    return "" if value in names else f"There is no {what} of that name; there are {', '.join(names)}."


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


def inline_picture(picture: Image.Image, words: str, quality: int = 85) -> str:
    """A picture as JPEG that stands in the page itself; `words` are read to those who cannot see it."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=quality)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}" alt="{escape(words)}">'


def plain(text: str) -> str:
    """Text with a visitor's words in it, so that Markdown and HTML show it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", text)
