"""The first screen: the image under a map of choice, what speaks for the verdict, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from gradio.events import Dependency

from interpret.panels import components as parts
from interpret.panels.item import objects_over
from interpret.panels.service import CurrentImage, photo_of, suite_of
from interpret.panels.stability import StabilityValues, changes_of, stability_values
from interpret.panels.stored_maps import MapKey, maps_of, reduced
from interpret.panels.story import Place, place_of
from interpret.render.cards import card_html, sdd_card, stability_card
from interpret.render.overview import TRYING, reasons_html, saved_again_html
from interpret.render.text import PANEL_NAMES
from interpret.render.trust import trust_html

if TYPE_CHECKING:
    from PIL import Image

OFF = "Off"
SIDE = 900  # pixels on the longer side of the picture under its map, at most


SEMANTIC = ("token_logits", "difference")  # SDD's own maps, the first that there is


def map_over(layers: Sequence[str], current: CurrentImage, maps: MapKey | None) -> Image.Image | None:
    """The image under the first of these maps that there is, of all if none is named; None while the maps are not there."""
    stored = maps_of(current, maps)
    layer = None if stored is None else first_of(stored.explanation.maps, layers)
    if stored is None or layer is None:
        return None
    from interpret.attribution.explain import picture

    return picture(stored.explanation, reduced(photo_of(current).pixels, SIDE), layer, 0.6)


def first_of(maps: Iterable[str], layers: Sequence[str]) -> str | None:
    """The first layer that is among the maps; without layers the first map; None where there is none."""
    names = list(maps)
    return next((layer for layer in layers or names if layer in names), None)


# Name in the switch → the image under that map, None while it is not there yet.
MAPS: dict[str, Callable[[CurrentImage, MapKey | None], Image.Image | None]] = {
    "Best measured": partial(map_over, ()),
    PANEL_NAMES["sdd"]: partial(map_over, SEMANTIC),
    PANEL_NAMES["residual"]: partial(map_over, ("residual",)),
    "Objects": lambda current, maps: objects_over(current),
}
FIRST = "Best measured"
LEGEND = "Orange speaks for synthetic, blue for real."


@dataclass(frozen=True)
class Overview:
    """over: the map, laid over the image. switch: which map. reasons, trust, saved: lists in words."""

    over: gr.HTML
    switch: gr.Radio
    reasons: gr.HTML
    trust: gr.HTML
    saved: gr.HTML


class OverviewValues(NamedTuple):
    """Values of `Overview` for a new image."""

    reasons: str
    trust: str
    saved: str


def build_over() -> tuple[gr.HTML, gr.Radio]:
    """The map over the image, and its switch; laid out inside the column of the image."""
    over = gr.HTML("", elem_id="map-over")
    switch = parts.accept_any(gr.Radio([OFF, *MAPS], value=FIRST, label="Map over the image", elem_id="map-switch"))
    return over, switch


def build_words() -> tuple[gr.HTML, gr.HTML, gr.HTML]:
    """The two lists beside the image."""
    with gr.Row(elem_id="words", equal_height=False):
        with gr.Column(min_width=280):
            reasons = gr.HTML("", elem_id="reasons", elem_classes="words")
        with gr.Column(min_width=280, elem_id="trust-column"):
            trust, saved = gr.HTML("", elem_id="trust", elem_classes="words"), gr.HTML("", elem_id="saved-again", elem_classes="words")
    return reasons, trust, saved


def wire_overview(overview: Overview, verdict: Dependency, last: Dependency, current: gr.State, places: list[Place]) -> list[Dependency]:
    """Fill the lists after the verdict, draw the map when it is there, and try changes when all cards are filled.

    verdict: the event that shows the verdict. last: the one that fills the last card. Returns the events, for `cancels`.
    """
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    words = verdict.success(show_overview, current, parts.outputs(overview, OverviewValues), concurrency_id="panels", **quiet)
    sdd, item, stability = (place_of(places, key) for key in ("sdd", "item", "stability"))
    maps = sdd.components.maps
    gr.on(
        [overview.switch.input, maps.change, item.components.wording.change],
        show_map,
        [current, maps, overview.switch],
        overview.over,
        concurrency_id="panels",
        trigger_mode="always_last",
        **quiet,
    )
    maps.change(show_map_card, [current, maps], sdd.card, concurrency_id="panels", **quiet)
    outputs = [overview.saved, stability.card, *parts.outputs(stability.components, StabilityValues)]
    tried = last.success(try_in_background, current, outputs, concurrency_id="model", **quiet)
    return [words, tried]


# --- actions -------------------------------------------------------------------------------------------------------


def show_overview(current: CurrentImage | None) -> OverviewValues:
    """The reasons, the measured figures, and a line for what is still being tried."""
    if current is None or current.record["error"] or "verdict" not in current.record:
        return OverviewValues("", "", "")
    return OverviewValues(reasons_html(current.record), trust_html(current.record, kind_of(current)), TRYING)


def kind_of(current: CurrentImage) -> str:
    """The kind of picture that CLIP takes an image for, a name in `KINDS`; "" for an image that cannot be used."""
    from detector.evaluation.audit_facts import content_facts, kinds_of

    evidence = current.evidence
    return "" if evidence is None else str(kinds_of(content_facts(evidence.clip.projected, suite_of(current).backbone))[0])


def show_map(current: CurrentImage | None, maps: MapKey | None, name: str) -> str:
    """The image under the map of that name, as HTML; "" for none, or while it is not there yet."""
    if current is None or name not in MAPS or current.evidence is None:
        return ""
    picture = MAPS[name](current, maps)
    return parts.inline_picture(picture, f"The image under its map: {name}. {LEGEND}") if picture else ""


def show_map_card(current: CurrentImage | None, maps: MapKey | None) -> Any:
    """The card of the maps with its small chart."""
    stored = maps_of(current, maps)
    if current is None or stored is None:
        return gr.skip()
    from interpret.attribution.explain import regions

    layers = stored.explanation.maps
    means = regions(layers[first_of(layers, SEMANTIC) or next(iter(layers))].values)
    return card_html("sdd", sdd_card(current.record, means), current.record)


def try_in_background(current: CurrentImage | None) -> list:
    """The line on copies saved again, the card, and the panel of stability."""
    if current is None or current.evidence is None:
        return [gr.skip()] * (2 + len(StabilityValues._fields))
    result = changes_of(current)
    card = card_html("stability", stability_card(current.record, result))
    return [saved_again_html(result) if "verdict" in current.record else "", card, *stability_values(result)]
