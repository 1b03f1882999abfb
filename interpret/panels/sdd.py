"""Where the evidence lies: SDD's heatmaps over the image, the same in numbers, and whether they can be believed.

Computed after the cheap panels are on the page: `show_heatmap` sets a ticket, whose change starts the work. The maps stay in the
store, so that another layer or opacity is drawn without the model; the session holds the key of the maps that it looks at.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from gradio.events import Dependency

from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, PanelSource, from_store, photo_of, suite_of
from interpret.render import figures
from interpret.render.cards import both
from interpret.render.text import speaker

if TYPE_CHECKING:
    from detector.data.windows import Box
    from interpret.attribution.explain import Explanation

LAYERS = {
    "windows": "Scores of the windows around a place",
    "difference": "Difference map",
    "tokens": "Patch tokens of CLIP",
    "stage1": "Enhancer, stage 1",
    "stage2": "Enhancer, stage 2",
    "stage3": "Enhancer, stage 3",
    "reconstruction_error": "Reconstruction error (no direction)",
}
DETAIL_WINDOWS = {"quick": 36, "fine": 100}  # windows read at most
STORED_SIDE = 512  # pixels that the store keeps of the longer side of the picture and of each map
PICTURE_SIDE = 900  # pixels on the longer side of the picture under its map, so that its frame is fine


@dataclass(frozen=True)
class MapKey:
    """Which maps a session looks at. key: of the image that they belong to. window_limit: windows read at most."""

    key: str
    window_limit: int


@dataclass(frozen=True)
class StoredMaps:
    """One image's maps in the store. explanation: shrunk to `STORED_SIDE`. The rest was measured at full size.

    rows: layer → table. focus: layer → the window that is checked, in the picture that was read. reading: what was read, in words.
    """

    explanation: Explanation = field(repr=False)
    rows: dict[str, list[list[str]]]
    focus: dict[str, Box]
    reading: str


# --- layout --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeatmapPanel:
    """ticket: a change of it starts the work. maps: what the session looks at, a `MapKey`. reading: what was read. body: the column of
    the rest: picture, legend, point (the value where the visitor pointed), the controls layer, opacity and detail, trust, table, and
    the check of the map: check (the button), check_reading, deletion, insertion, areas."""

    ticket: gr.State
    maps: gr.State
    reading: gr.Markdown
    body: gr.Column
    picture: gr.Image
    legend: gr.HTML
    point: gr.Markdown
    layer: gr.Dropdown
    opacity: gr.Slider
    detail: gr.Radio
    trust: gr.Markdown
    table: gr.Dataframe
    check: gr.Button
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


class CheckValues(NamedTuple):
    """Values of `HeatmapPanel` for the check of a map, in the order in which the endpoint gives them."""

    check_reading: str
    deletion: gr.Plot
    insertion: gr.Plot
    areas: gr.Dataframe


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
                layer, opacity, detail = _build_controls()
                trust = gr.Markdown(elem_classes="reading", elem_id="heatmap-trust")
                table = parts.table(["place", "evidence", "for"], "Regions, strongest places, shares", ["48%", "22%", "30%"], 9)
        with gr.Column(elem_classes="expert"):
            check = _build_check()
    return HeatmapPanel(ticket, maps, reading, body, picture, legend, point, layer, opacity, detail, trust, table, **check)


def _build_controls() -> tuple[gr.Dropdown, gr.Slider, gr.Radio]:
    labelled = [(label, name) for name, label in LAYERS.items()]
    layer = parts.accept_any(gr.Dropdown(labelled, value="windows", label="Map", elem_id="heatmap-layer"))
    opacity = gr.Slider(0, 1, 0.6, step=0.05, label="Opacity at full evidence", elem_id="heatmap-opacity", buttons=[])
    choices = [(f"{name}: at most {count} windows", name) for name, count in DETAIL_WINDOWS.items()]
    detail = parts.accept_any(gr.Radio(choices, value="quick", label="Detail, for large images", elem_id="heatmap-detail"))
    return layer, opacity, detail


def _build_check() -> dict[str, Any]:
    gr.Markdown("#### Does it hold on this image?")
    with gr.Row(elem_classes="stack"):
        button = gr.Button("Blur what the map points at", scale=0, min_width=240, elem_id="heatmap-check")
        reading = gr.Markdown(elem_classes="reading", elem_id="check-reading")
    with gr.Row(elem_classes="stack"):
        deletion = parts.plot("Deletion: lower is better", "deletion", visible=False)
        insertion = parts.plot("Insertion: higher is better", "insertion", visible=False)
    areas = gr.Dataframe(
        headers=["map", "deletion (lower is better)", "insertion (higher is better)"],
        interactive=False,
        visible=False,
        label="Areas under the curves, in logits",
        wrap=True,
    )
    return {"check": button, "check_reading": reading, "deletion": deletion, "insertion": insertion, "areas": areas}


def show_heatmap(source: PanelSource) -> HeatmapValues:
    """Nothing of the last image, and a ticket that starts the work; one sentence where the backbone has no sdd head."""
    from interpret.attribution.explain import ExplainError, layers_of

    check = CheckValues("", parts.chart(None), parts.chart(None), gr.Dataframe(visible=False))
    try:
        layers = layers_of(source.suite)
    except ExplainError as error:
        hidden = gr.Column(visible=False)
        return HeatmapValues(None, None, parts.plain(str(error)), hidden, None, "", "", gr.skip(), "", None, *check)
    layer = gr.Dropdown([(LAYERS.get(name, name), name) for name in layers], value=layers[0])
    body, reading = gr.Column(visible=True), "Reading the image window by window …"
    return HeatmapValues(uuid.uuid4().hex, None, reading, body, None, "", "", layer, "", None, *check)


def wire_heatmap(panel: HeatmapPanel, current: gr.State) -> list[Dependency]:
    """The events of the panel; those that use the model are returned."""
    maps = gr.on(
        [panel.ticket.change, panel.detail.input],
        heatmap,
        [current, panel.layer, panel.opacity, panel.detail],
        parts.outputs(panel, MapValues),
        api_name="heatmap",
        concurrency_id="model",
        trigger_mode="always_last",
        show_progress_on=panel.picture,
    )
    gr.on(
        [panel.layer.input, panel.opacity.release],
        draw,
        [current, panel.maps, panel.layer, panel.opacity],
        parts.outputs(panel, LayerValues),
        api_visibility="private",
        concurrency_id="panels",
        trigger_mode="always_last",
        show_progress="hidden",
    )
    panel.picture.select(
        value_at,
        [current, panel.maps, panel.layer],
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
    return [maps, check]


# --- actions -------------------------------------------------------------------------------------------------------


def heatmap(
    current: CurrentImage | None,
    layer: str = "windows",
    opacity: float = 0.6,
    detail: str = "quick",
    progress=gr.Progress(),  # noqa: B008
) -> MapValues:
    """Heatmaps of the image analysed last in this session.

    Args:
        layer: "windows" (default), "difference", "tokens", "stage1", "stage2", "stage3" or "reconstruction_error".
        opacity: of the colour where the evidence is full, 0 to 1.
        detail: "quick" or "fine"; matters for large images only.

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
        _stored_maps(current, maps, progress)
    except explain.ExplainError as error:
        return MapValues(None, *_only(parts.plain(str(error))))
    return MapValues(maps, *draw(current, maps, layer, opacity))


def _only(sentence: str) -> LayerValues:
    """A sentence, without a map."""
    return LayerValues(sentence, None, "", "", None)


def _stored_maps(current: CurrentImage, maps: MapKey, progress: Callable = lambda share, desc: None) -> StoredMaps:
    """All maps of the image, from the store or made now. ExplainError where the backbone has none."""
    return from_store(current, maps, lambda: _make_maps(current, maps.window_limit, progress))


def _make_maps(current: CurrentImage, window_limit: int, progress: Callable) -> StoredMaps:
    from interpret.attribution import explain

    def show(done: int, total: int) -> None:
        progress(done / total, desc="windows")

    explanation = explain.explain(suite_of(current), photo_of(current), window_limit=window_limit, progress=show)
    words = f"{explain.pooling(explanation, current.record)} {speaker(current.record, 'sdd')}"
    reading = both("Read window by window. Orange speaks for synthetic, blue for real.", words)
    return StoredMaps(
        explain.shrink(explanation, STORED_SIDE),
        {name: explain.rows(explanation, name) for name in explanation.maps},
        {name: explain.focus(explanation, name) for name in explanation.maps},
        reading,
    )


def maps_of(current: CurrentImage | None, maps: MapKey | None) -> StoredMaps | None:
    """The maps that the session looks at, if they are of the image analysed last: a client may have analysed another one since."""
    return _stored_maps(current, maps) if current is not None and maps is not None and maps.key == current.key else None


def draw(current: CurrentImage | None, maps: MapKey | None, layer: str, opacity: float) -> LayerValues:
    """Words, picture, colour scale, trust and table of one layer of the maps that the session looks at."""
    stored_maps = maps_of(current, maps)
    if stored_maps is None:
        return LayerValues(*[gr.skip()] * len(LayerValues._fields))
    if refusal := parts.refusal(layer, stored_maps.rows, "layer"):
        return _only(refusal)
    from interpret.attribution.explain import picture

    explanation, measures = stored_maps.explanation, stored_maps.explanation.measures
    legend = _legend(explanation.maps[layer].signed, measures.scale(layer), layer in measures.scales)
    file = parts.picture_file(picture(explanation, layer, float(opacity), PICTURE_SIDE))
    return LayerValues(stored_maps.reading, file, legend, measures.trust(layer), stored_maps.rows[layer])


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


def value_at(current: CurrentImage | None, maps: MapKey | None, layer: str, place: gr.SelectData) -> str:
    """The evidence where the visitor pointed."""
    stored_maps = maps_of(current, maps)
    if stored_maps is None or layer not in stored_maps.explanation.maps:
        return ""
    values, shape = stored_maps.explanation.maps[layer].values, stored_maps.explanation.shape
    rows, columns = values.shape
    column, row = (
        min(at * max(rows, columns) // PICTURE_SIDE, length - 1) for at, length in zip(place.index, (columns, rows), strict=True)
    )
    value, x, y = float(values[row, column]), (2 * column + 1) * shape[1] // (2 * columns), (2 * row + 1) * shape[0] // (2 * rows)
    return f"At x {x}, y {y}: " + ("not read." if value != value else f"{value:+.2f} logits per window.")


def faithfulness(current: CurrentImage | None, maps: MapKey | None, layer: str = "difference") -> CheckValues:
    """Blur what a heatmap points at, then bring it back, against maps that know nothing; for the image analysed last.

    Args:
        layer: as for /heatmap, which must be called first.

    Returns:
        The result in words; a chart of deletion and one of insertion; the areas under the curves.
    """
    stored_maps = maps_of(current, maps)
    if current is None or maps is None or stored_maps is None:
        return _only_check("Draw a heatmap first.")
    if refusal := parts.refusal(layer, stored_maps.focus, "layer"):
        return _only_check(refusal)
    from interpret.attribution import explain

    try:
        curves = explain.check(suite_of(current), photo_of(current), layer, stored_maps.focus[layer], maps.window_limit)
    except explain.ExplainError as error:
        return _only_check(parts.plain(str(error)))
    deletion, insertion = (parts.chart(figures.curve_chart(curves, layer, curve)) for curve in ("deletion", "insertion"))
    words = f"**{LAYERS.get(layer, layer)}.** {explain.check_reading(curves, layer)}"
    return CheckValues(words, deletion, insertion, gr.Dataframe(explain.check_rows(curves), visible=True))


def _only_check(sentence: str) -> CheckValues:
    """A sentence, without charts and table."""
    return CheckValues(sentence, parts.chart(None), parts.chart(None), gr.Dataframe(visible=False))
