"""The page's state in its address: example, detector, map, step of the tour; tab and wording are the browser's own affair
(`interpret/render/page.js`).

Never an uploaded picture: a link holds names that the page offers to everybody.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs

import gradio as gr

from detector.assets import EMBEDDED
from interpret.examples import existing_examples
from interpret.panels import components as parts
from interpret.panels.overview import MAPS, OFF
from interpret.panels.service import is_loaded, split_choice

LONGEST = 500  # characters of a query that is read (choice)


class LinkValues(NamedTuple):
    """What a link sets: the image, the detector in use, the map in the switch."""

    image: str | parts.Skip
    detector: str | parts.Skip
    map_name: str | parts.Skip


def note(key: str) -> str:
    """JavaScript of an event with one input: its value goes into the page's address under that key; nothing or "" takes it out."""
    return f"(value) => {{ window.cuescope?.link({{{key}: value}}); return []; }}"


def restore(query: str) -> LinkValues:
    """What the query of a link sets. What is not offered here is left as it is, and so is a detector whose weights are not loaded: a link
    starts no download."""
    wanted = _wanted(query)
    files = {path.name: str(path) for path, _ in existing_examples()}
    detector, name = wanted.get("detector", ""), wanted.get("map", "")
    return LinkValues(
        files.get(wanted.get("example", ""), gr.skip()),
        detector if _is_ready(detector) else gr.skip(),
        name if name in (OFF, *MAPS) else gr.skip(),
    )


def step_of(query: str) -> str:
    """The step of the tour that the query of a link names, as it stands there; "" for none."""
    return _wanted(query).get("step", "")


def _wanted(query: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs((query or "")[:LONGEST].lstrip("?")).items()}


def _is_ready(detector: str) -> bool:
    from detector.clip.backbone import BackboneError

    try:
        backbone, _ = split_choice(detector)
    except BackboneError:
        return False
    return backbone == EMBEDDED or is_loaded(backbone)
