"""Where the evidence lies: SDD's heatmaps over the image, the same in numbers, and whether they can be believed.

Computed after the cheap panels have been shown: `show_heatmap` sets a ticket, whose change starts the work. What it finds stays in
the store, so that another layer or opacity is drawn without the model; the session holds which maps it looks at.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.service import Seen, Shown, photo_of, stored, suite_of
from interpret.render import figures

if TYPE_CHECKING:
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
WINDOWS = {"quick": 36, "fine": 100}  # read at most
SIDE = 512  # pixels that the store keeps of the picture and of each map
DRAWN = 900  # pixels on the longer side of what is drawn, so that its frame is fine


@dataclass(frozen=True)
class Drawn:
    """Which maps a session looks at: of the image under `key`, read through at most `most` windows."""

    key: str
    most: int


@dataclass(frozen=True)
class Maps:
    """One image's maps in the store. found: shrunk to `SIDE`. The rest was read off at full size.

    rows: layer → table. focus: layer → the window that is checked, in the picture that was read.
    """

    found: Explanation = field(repr=False)
    rows: dict[str, list]
    focus: dict[str, tuple[int, int, int, int]]
    read: str


# --- layout --------------------------------------------------------------------------------------------------------


def build_heatmap() -> list:
    parts.heading("Where the evidence lies", "heatmap")
    ticket, shown, reading = gr.State(), gr.State(), gr.Markdown(elem_classes="reading", elem_id="heatmap-reading")
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
                point = gr.Markdown(elem_classes="reading", elem_id="heatmap-point")
            with gr.Column(scale=2):
                layer, opacity, detail = _controls()
                trust = gr.Markdown(elem_classes="reading", elem_id="heatmap-trust")
                table = parts.table(["place", "logits", "for"], "Regions, strongest places, shares", ["48%", "22%", "30%"], 9)
        check = _check()
    return [ticket, shown, reading, body, picture, legend, point, layer, opacity, detail, trust, table, *check]


def _controls() -> list:
    labelled = [(label, name) for name, label in LAYERS.items()]
    layer = parts.unchecked(gr.Dropdown(labelled, value="windows", label="Map", elem_id="heatmap-layer"))
    opacity = gr.Slider(0, 1, 0.6, step=0.05, label="Opacity at full evidence", elem_id="heatmap-opacity", buttons=[])
    choices = [(f"{name}: at most {count} windows", name) for name, count in WINDOWS.items()]
    detail = parts.unchecked(gr.Radio(choices, value="quick", label="Detail, for large images", elem_id="heatmap-detail"))
    return [layer, opacity, detail]


def _check() -> list:
    gr.Markdown("### Does it hold on this image?")
    with gr.Row(elem_classes="stack"):
        button = gr.Button("Blur what the map points at", scale=0, min_width=240, elem_id="heatmap-check")
        reading = gr.Markdown(elem_classes="reading", elem_id="check-reading")
    with gr.Row(elem_classes="stack"):
        deletion = parts.plot("Deletion: lower is better", "deletion", visible=False)
        insertion = parts.plot("Insertion: higher is better", "insertion", visible=False)
    table = gr.Dataframe(
        headers=["map", "deletion (lower is better)", "insertion (higher is better)"],
        interactive=False,
        visible=False,
        label="Areas under the curves, in logits",
        wrap=True,
    )
    return [button, reading, deletion, insertion, table]


def show_heatmap(shown: Shown) -> list:
    """Nothing of the last image, and a ticket that starts the work; one sentence where the backbone has no sdd head."""
    from interpret.attribution.explain import ExplainError, layers_of

    hidden = [gr.skip(), "", gr.Plot(visible=False), gr.Plot(visible=False), gr.Dataframe(visible=False)]
    keep = [gr.skip()] * 2  # opacity, detail
    try:
        known = layers_of(shown.suite)
    except ExplainError as error:
        return [None, None, parts.plain(str(error)), gr.Column(visible=False), None, "", "", gr.skip(), *keep, "", None, *hidden]
    layer = gr.Dropdown([(LAYERS.get(name, name), name) for name in known], value=known[0])
    return [
        uuid.uuid4().hex,
        None,
        "Reading the image window by window …",
        gr.Column(visible=True),
        None,
        "",
        "",
        layer,
        *keep,
        "",
        None,
        *hidden,
    ]


def wire_heatmap(components: list, seen: gr.State) -> list:
    ticket, shown, reading, _, picture, legend, point, layer, opacity, detail, trust, table, *checked = components
    check, words, deletion, insertion, areas = checked
    drawn = [reading, picture, legend, trust, table]
    maps = gr.on(
        [ticket.change, detail.input],
        heatmap,
        [seen, layer, opacity, detail],
        [shown, *drawn],
        api_name="heatmap",
        concurrency_id="model",
        trigger_mode="always_last",
        show_progress_on=picture,
    )
    gr.on(
        [layer.input, opacity.release],
        draw,
        [seen, shown, layer, opacity],
        drawn,
        api_visibility="private",
        concurrency_id="panels",
        trigger_mode="always_last",
        show_progress="hidden",
    )
    picture.select(value_at, [seen, shown, layer], point, api_visibility="private", concurrency_id="panels", show_progress="hidden")
    return [
        maps,
        check.click(
            faithfulness,
            [seen, shown, layer],
            [words, deletion, insertion, areas],
            api_name="faithfulness",
            concurrency_id="model",
            show_progress_on=words,
        ),
    ]


# --- actions -------------------------------------------------------------------------------------------------------


def heatmap(seen: Seen | None, layer: str = "windows", opacity: float = 0.6, detail: str = "quick", progress=gr.Progress()) -> list:  # noqa: B008
    """Heatmaps of the image analysed last in this session.

    Args:
        layer: "windows" (default), "difference", "tokens", "stage1", "stage2", "stage3" or "reconstruction_error".
        opacity: of the colour where the evidence is full, 0 to 1.
        detail: "quick" or "fine"; matters for large images only.

    Returns:
        What was read, in words; the image under its map; its colour scale; how far the map can be trusted; the map in numbers.
    """
    if seen is None or seen.evidence is None:
        return [None, "Analyse an image first.", None, "", "", None]
    from interpret.attribution import explain

    if refusal := parts.unknown(detail, WINDOWS, "detail"):
        return [gr.skip(), refusal, None, "", "", None]
    shown = Drawn(seen.key, WINDOWS[detail])
    try:
        if refusal := parts.unknown(layer, explain.layers_of(suite_of(seen)), "layer"):
            return [gr.skip(), refusal, None, "", "", None]
        _maps(seen, shown, progress)
    except explain.ExplainError as error:
        return [None, parts.plain(str(error)), None, "", "", None]
    return [shown, *draw(seen, shown, layer, opacity)]


def _maps(seen: Seen, shown: Drawn, progress: Callable = lambda share, desc: None) -> Maps:
    """All maps of the image, from the store or made now. ExplainError where the backbone has none."""
    return stored(seen, shown, lambda: _made(seen, shown.most, progress))


def _made(seen: Seen, most: int, progress: Callable) -> Maps:
    from interpret.attribution import explain

    found = explain.explain(suite_of(seen), photo_of(seen), most=most, progress=lambda done, total: progress(done / total, desc="windows"))
    read = f"{explain.pooling(found, seen.record)}\n\n{parts.trust(seen.record, 'sdd')}"
    return Maps(
        explain.shrunk(found, SIDE),
        {name: explain.rows(found, name) for name in found.maps},
        {name: explain.focus(found, name) for name in found.maps},
        read,
    )


def _looks_at(seen: Seen | None, shown: Drawn | None) -> bool:
    """Whether the maps are of the image analysed last: a client may have analysed another one since it drew them."""
    return seen is not None and shown is not None and shown.key == seen.key


def draw(seen: Seen | None, shown: Drawn | None, layer: str, opacity: float) -> list:
    """Words, picture, colour scale, trust and table of one layer of the maps that the session looks at."""
    if not _looks_at(seen, shown):
        return [gr.skip()] * 5
    maps = _maps(seen, shown)
    if refusal := parts.unknown(layer, maps.rows, "layer"):
        return [refusal, None, "", "", None]
    from interpret.attribution.explain import drawn

    found, measures = maps.found, maps.found.measures
    legend = _legend(found.maps[layer].signed, measures.scale(layer), layer in measures.scales)
    return [maps.read, parts.picture_file(drawn(found, layer, float(opacity), DRAWN)), legend, measures.trust(layer), maps.rows[layer]]


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


def value_at(seen: Seen | None, shown: Drawn | None, layer: str, place: gr.SelectData) -> str:
    """The evidence where the visitor pointed."""
    if not _looks_at(seen, shown) or layer not in (found := _maps(seen, shown).found).maps:
        return ""
    values, shape = found.maps[layer].values, found.shape
    rows, columns = values.shape
    column, row = (min(at * max(rows, columns) // DRAWN, length - 1) for at, length in zip(place.index, (columns, rows), strict=True))
    value, x, y = float(values[row, column]), (2 * column + 1) * shape[1] // (2 * columns), (2 * row + 1) * shape[0] // (2 * rows)
    return f"At x {x}, y {y}: " + ("not seen." if value != value else f"{value:+.2f} logits per window.")


def faithfulness(seen: Seen | None, shown: Drawn | None, layer: str = "difference") -> list:
    """Blur what a heatmap points at, then bring it back, against maps that know nothing; for the image analysed last.

    Args:
        layer: as for /heatmap, which must be called first.

    Returns:
        What was found, in words; a chart of deletion and one of insertion; the areas under the curves.
    """
    nothing = [parts.chart(None), parts.chart(None), gr.Dataframe(visible=False)]
    if not _looks_at(seen, shown):
        return ["Draw a heatmap first.", *nothing]
    focus = _maps(seen, shown).focus
    if refusal := parts.unknown(layer, focus, "layer"):
        return [refusal, *nothing]
    from interpret.attribution import explain

    try:
        curves = explain.check(suite_of(seen), photo_of(seen), layer, focus[layer], shown.most)
    except explain.ExplainError as error:
        return [parts.plain(str(error)), *nothing]
    charts = [parts.chart(figures.curve_chart(curves, layer, measure)) for measure in ("deletion", "insertion")]
    table = gr.Dataframe(explain.check_rows(curves), visible=True)
    return [f"**{LAYERS.get(layer, layer)}.** {explain.check_reading(curves, layer)}", *charts, table]
