"""Where the evidence lies: SDD's heatmaps over the image, the same in numbers, and whether they can be believed.

Computed after the cheap panels are on the page: `show_heatmap` sets a ticket, whose change starts the work. The maps stay in the
store, so that another layer or opacity is drawn without the model; the session holds the key of the maps that it looks at.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from gradio.events import Dependency

from interpret.panels import components as parts
from interpret.panels.map_checks import (
    LAYERS,
    BlurValues,
    CheckValues,
    FileValues,
    blur,
    build_checks,
    faithfulness,
    map_files,
    no_blur,
    no_check,
    no_files,
)
from interpret.panels.service import CurrentImage, PanelSource, photo_of, suite_of
from interpret.panels.stored_maps import MapKey, maps_of, reduced, stored_maps
from interpret.render import figures

DETAIL_WINDOWS = {"quick": 36, "fine": 100}  # windows read at most
PICTURE_SIDE = 2048  # pixels on the longer side of the picture under its map, at most: a larger one is reduced for the browser's sake
FORMS = {"logits": "Logits: what speaks for synthetic or real", "standing out": "What stands out of this picture"}


# --- layout --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeatmapPanel:
    """ticket: a change of it starts the work. maps: what the session looks at, a `MapKey`. reading: what was read. body: the column of
    the rest: picture, legend, point (the value where the visitor pointed), the controls layer, form, opacity and detail, trust, table, and
    what `build_checks` makes: buttons blur, check and export, and what they fill."""

    ticket: gr.State
    maps: gr.State
    reading: gr.Markdown
    body: gr.Column
    picture: gr.Image
    legend: gr.HTML
    point: gr.Markdown
    layer: gr.Dropdown
    form: gr.Radio
    opacity: gr.Slider
    detail: gr.Radio
    trust: gr.Markdown
    table: gr.Dataframe
    blur: gr.Button
    check: gr.Button
    export: gr.Button
    files_reading: gr.Markdown
    files: gr.File
    blur_reading: gr.Markdown
    blur_picture: gr.Image
    check_reading: gr.Markdown
    deletion: gr.Plot
    insertion: gr.Plot
    areas: gr.Dataframe


class LayerValues(NamedTuple):
    """Values of `HeatmapPanel` that follow from the layer and its opacity."""

    reading: str | parts.Skip
    picture: str | parts.Skip | None
    legend: str | parts.Skip
    trust: str | parts.Skip
    table: list[list[str]] | parts.Skip | None


class MapValues(NamedTuple):
    """Values of `HeatmapPanel` for new maps, in the order in which the endpoint gives them."""

    maps: MapKey | parts.Skip | None
    reading: str | parts.Skip
    picture: str | parts.Skip | None
    legend: str | parts.Skip
    trust: str | parts.Skip
    table: list[list[str]] | parts.Skip | None


class HeatmapValues(NamedTuple):
    """Values of `HeatmapPanel` for a new image."""

    ticket: str | None
    maps: None
    reading: str
    body: gr.Column
    picture: None
    legend: str
    point: str
    layer: gr.Dropdown | parts.Skip
    trust: str
    table: None
    files_reading: str
    files: gr.File
    blur_reading: str
    blur_picture: gr.Image
    check_reading: str
    deletion: gr.Plot
    insertion: gr.Plot
    areas: gr.Dataframe


def build_heatmap() -> HeatmapPanel:
    """The picture under its map, the controls, the map in numbers, and the check."""
    parts.heading("sdd", "heatmap")
    ticket, maps, reading = gr.State(), gr.State(), gr.Markdown(elem_classes="reading", elem_id="heatmap-reading")
    with gr.Column(elem_id="heatmap") as body:
        with gr.Row(elem_classes="stack"):
            with gr.Column(scale=3):
                picture = gr.Image(
                    label="Orange: synthetic, blue: real",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen", "download"],
                    elem_id="heatmap-picture",
                    type="pil",
                    alt_text="The image under its heatmap; the table holds the same in numbers",
                )
                legend = gr.HTML()
                point = gr.Markdown(elem_classes="reading expert", elem_id="heatmap-point")
            with gr.Column(scale=2):
                layer, form, opacity, detail = _build_controls()
                trust = gr.Markdown(elem_classes="reading", elem_id="heatmap-trust")
                table = parts.table(["place", "evidence", "for"], "Regions, strongest places, shares", ["48%", "22%", "30%"], 9)
        with gr.Column(elem_classes="expert"):
            checks = build_checks()
    return HeatmapPanel(ticket, maps, reading, body, picture, legend, point, layer, form, opacity, detail, trust, table, **checks)


def _build_controls() -> tuple[gr.Dropdown, gr.Radio, gr.Slider, gr.Radio]:
    labelled = [(label, name) for name, label in LAYERS.items()]
    layer = parts.accept_any(gr.Dropdown(labelled, value="windows", label="Map", elem_id="heatmap-layer"))
    forms = [(label, name) for name, label in FORMS.items()]
    form = parts.accept_any(gr.Radio(forms, value="logits", label="Form", elem_id="heatmap-form"))
    opacity = gr.Slider(0, 1, 0.6, step=0.05, label="Opacity at full evidence", elem_id="heatmap-opacity", buttons=[])
    choices = [(f"{name}: at most {count} windows", name) for name, count in DETAIL_WINDOWS.items()]
    detail = parts.accept_any(gr.Radio(choices, value="quick", label="Detail, for large images", elem_id="heatmap-detail"))
    return layer, form, opacity, detail


def show_heatmap(source: PanelSource) -> HeatmapValues:
    """Nothing of the last image, and a ticket that starts the work; one sentence where the backbone has no sdd head."""
    from interpret.attribution.explain import ExplainError, worths

    checks = (*no_files(), *no_blur(), *no_check())
    try:
        layers = worths(source.suite)
    except ExplainError as error:
        hidden = gr.Column(visible=False)
        return HeatmapValues(None, None, parts.plain(str(error)), hidden, None, "", "", gr.skip(), "", None, *checks)
    layer = gr.Dropdown([(f"{LAYERS.get(name, name)} ({worth})", name) for name, worth in layers.items()], value=next(iter(layers)))
    body, reading = gr.Column(visible=True), "Reading the image window by window …"
    return HeatmapValues(uuid.uuid4().hex, None, reading, body, None, "", "", layer, "", None, *checks)


def wire_heatmap(panel: HeatmapPanel, current: gr.State) -> list[Dependency]:
    """The events of the panel; those that use the model are returned."""
    maps = gr.on(
        [panel.ticket.change, panel.detail.input],
        heatmap,
        [current, panel.layer, panel.opacity, panel.detail, panel.form],
        parts.outputs(panel, MapValues),
        api_name="heatmap",
        concurrency_id="model",
        trigger_mode="always_last",
        show_progress_on=panel.picture,
    )
    gr.on(
        [panel.layer.input, panel.form.input, panel.opacity.release],
        draw,
        [current, panel.maps, panel.layer, panel.opacity, panel.form],
        parts.outputs(panel, LayerValues),
        api_visibility="private",
        concurrency_id="panels",
        trigger_mode="always_last",
        show_progress="hidden",
    )
    panel.picture.select(
        value_at,
        [current, panel.maps, panel.layer, panel.form],
        panel.point,
        api_visibility="private",
        concurrency_id="panels",
        show_progress="hidden",
    )
    check = panel.check.click(
        faithfulness,
        [current, panel.maps, panel.layer],
        parts.outputs(panel, CheckValues),
        api_name="faithfulness",
        concurrency_id="model",
        show_progress_on=panel.check_reading,
    )
    return [maps, check, *_wire_blur_and_files(panel, current)]


def _wire_blur_and_files(panel: HeatmapPanel, current: gr.State) -> list[Dependency]:
    blur_event = panel.blur.click(
        blur,
        [current, panel.maps, panel.layer],
        parts.outputs(panel, BlurValues),
        api_name="blur",
        concurrency_id="model",
        show_progress_on=panel.blur_reading,
    )
    panel.export.click(
        map_files,
        [current, panel.maps, panel.layer],
        parts.outputs(panel, FileValues),
        api_name="map_files",
        concurrency_id="panels",
        show_progress_on=panel.files_reading,
    )
    return [blur_event]


# --- actions -------------------------------------------------------------------------------------------------------


def heatmap(
    current: CurrentImage | None,
    layer: str = "windows",
    opacity: float = 0.6,
    detail: str = "quick",
    form: str = "logits",
    progress=gr.Progress(),  # noqa: B008
) -> MapValues:
    """Heatmaps of the image analysed last in this session.

    Args:
        layer: "windows" (default), "token_logits", "residual", "combined", "difference", "tokens", "stage1", "stage2", "stage3" or
            "reconstruction_error", "attention_rollout".
        opacity: of the colour where the evidence is full, 0 to 1.
        detail: "quick" or "fine"; matters for large images only.
        form: "logits", or "standing out": how far a place differs from the rest of the picture.

    Returns:
        What was read, in words; the image under its map; its colour scale; how far the map can be trusted; the map in numbers.
    """
    if current is None or current.evidence is None:
        return MapValues(None, *_only("Analyse an image first."))
    from interpret.attribution import explain

    if refusal := parts.refusal(detail, DETAIL_WINDOWS, "detail"):
        return MapValues(gr.skip(), *_only(refusal))
    maps = MapKey(current.key, DETAIL_WINDOWS[detail])
    try:
        if refusal := parts.refusal(layer, explain.layers_of(suite_of(current)), "layer"):
            return MapValues(gr.skip(), *_only(refusal))
        stored_maps(current, maps, progress)
    except explain.ExplainError as error:
        return MapValues(None, *_only(parts.plain(str(error))))
    return MapValues(maps, *draw(current, maps, layer, opacity, form))


def _only(sentence: str) -> LayerValues:
    """A sentence, without a map."""
    return LayerValues(sentence, None, "", "", None)


def draw(current: CurrentImage | None, maps: MapKey | None, layer: str, opacity: float, form: str = "logits") -> LayerValues:
    """Words, picture, colour scale, trust and table of one layer of the maps that the session looks at."""
    stored = maps_of(current, maps)
    if current is None or stored is None:
        return LayerValues(*[gr.skip()] * len(LayerValues._fields))
    if refusal := parts.refusal(layer, stored.rows, "layer") or parts.refusal(form, FORMS, "form"):
        return _only(refusal)
    from interpret.attribution.explain import form_of, picture

    explanation, standing = stored.explanation, form == "standing out"
    heatmap, scale = form_of(explanation, layer, standing)
    legend = _legend(heatmap.signed, scale, standing or layer in explanation.measures.scales)
    file = parts.picture_file(picture(explanation, reduced(photo_of(current).pixels, PICTURE_SIDE), layer, float(opacity), standing))
    return LayerValues(stored.reading, file, legend, explanation.measures.trust(layer), stored.rows[layer])


def _legend(signed: bool, scale: float, measured: bool) -> str:
    """The colour scale, the same for every image."""
    above, below = (figures.SYNTHETIC, figures.REAL) if signed else (figures.INK, "")
    ends = [f"real −{scale:.2g}", "0", f"+{scale:.2g} synthetic"] if signed else ["0", f"{scale:.2g} and more"]
    origin = "one scale for every image" if measured else "one scale for every image, not measured for this head"
    spans = "".join(f"<span>{end}</span>" for end in ends)
    return (
        f'<div class="evidence" style="--above:{above};--below:{below}"><i class="{"signed" if signed else "unsigned"}"></i>'
        f"<p>{spans}</p><p>{origin}</p></div>"
    )


def value_at(current: CurrentImage | None, maps: MapKey | None, layer: str, form: str, place: gr.SelectData) -> str:
    """The evidence where the visitor pointed."""
    stored = maps_of(current, maps)
    if stored is None or layer not in stored.explanation.maps or form not in FORMS:
        return ""
    from interpret.attribution.explain import form_of

    shape, values = stored.explanation.shape, form_of(stored.explanation, layer, form == "standing out")[0].values
    factor = max(1.0, max(shape) / PICTURE_SIDE)  # of the picture on the page to the original
    x, y = (min(int(at * factor), length - 1) for at, length in zip(place.index, shape[::-1], strict=True))
    value = float(values[y * values.shape[0] // shape[0], x * values.shape[1] // shape[1]])
    unit = "robust standard deviations" if form == "standing out" else "logits per window"
    return f"At x {x}, y {y}: " + ("not read." if value != value else f"{value:+.2f} {unit}.")
