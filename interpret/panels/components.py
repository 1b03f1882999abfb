"""Building blocks of the page: a heading with its explanation, a chart, a table, one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

import gradio as gr

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
    return gr.Dataframe(headers=headers, label=label, column_widths=widths, interactive=False, wrap=True,
                        max_height=60 + 36 * rows, elem_classes="table")


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


def plain(text: str) -> str:
    """Text with a visitor's words in it, so that Markdown and HTML show it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", text)
