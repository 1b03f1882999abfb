"""What a visitor does with a heatmap: blur what it points at, compare it with maps that know nothing, take its files along."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, photo_of, suite_of
from interpret.panels.stored_maps import MapKey, StoredMaps, maps_of
from interpret.panels.uploads import folder
from interpret.render import figures

if TYPE_CHECKING:
    from detector.analysis import Analysis

LAYERS = {
    "windows": "Scores of the windows around a place",
    "token_logits": "Logits of the tokens",
    "residual": "Residual: scores of its windows",
    "combined": "Tokens and residual together",
    "difference": "Difference map",
    "tokens": "Patch tokens of CLIP",
    "stage1": "Enhancer, stage 1",
    "stage2": "Enhancer, stage 2",
    "stage3": "Enhancer, stage 3",
    "reconstruction_error": "Reconstruction error (no direction)",
    "attention_rollout": "Attention rollout (no direction)",
}
NO_MAP = "Draw a heatmap first."


class BlurValues(NamedTuple):
    """Values of `HeatmapPanel` for the picture without what the map points at, in the order in which the endpoint gives them."""

    blur_reading: str
    blur_picture: gr.Image


class CheckValues(NamedTuple):
    """Values of `HeatmapPanel` for the check of a map, in the order in which the endpoint gives them."""

    check_reading: str
    deletion: gr.Plot
    insertion: gr.Plot
    areas: gr.Dataframe


class FileValues(NamedTuple):
    """Values of `HeatmapPanel` for the files of a map."""

    files_reading: str
    files: gr.File


def build_checks() -> dict[str, Any]:
    """The components below the map, by their names in `HeatmapPanel`."""
    gr.Markdown("#### Does it hold on this image?")
    with gr.Row(elem_classes="stack"):
        blur = gr.Button("Blur what the map points at", scale=0, min_width=240, elem_id="heatmap-blur")
        check = gr.Button("Compare with maps that know nothing", scale=0, min_width=240, elem_id="heatmap-check")
        export = gr.Button("Files of this map: PNG, NPY, JSON", scale=0, min_width=240, elem_id="heatmap-export")
    files_reading = gr.Markdown(elem_classes="reading", elem_id="files-reading")
    files = gr.File(label="Files of this map", file_count="multiple", interactive=False, visible=False, elem_id="heatmap-files")
    blur_reading = gr.Markdown(elem_classes="reading", elem_id="blur-reading")
    blur_picture = gr.Image(
        label="What was scored again",
        format="png",
        interactive=False,
        visible=False,
        elem_id="blur-picture",
        alt_text="The image with the strongest region of the map blurred",
    )
    check_reading = gr.Markdown(elem_classes="reading", elem_id="check-reading")
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
    buttons = {"blur": blur, "check": check, "export": export}
    shown = {
        "blur_reading": blur_reading,
        "blur_picture": blur_picture,
        "files_reading": files_reading,
        "files": files,
        "check_reading": check_reading,
    }
    return buttons | shown | {"deletion": deletion, "insertion": insertion, "areas": areas}


def _stored(current: CurrentImage | None, maps: MapKey | None, layer: str) -> tuple[StoredMaps | None, str]:
    """The maps that the session looks at; None and one sentence where there are none, or none of that layer."""
    stored = maps_of(current, maps)
    if stored is None:
        return None, NO_MAP
    refusal = parts.refusal(layer, stored.rows, "layer")
    return (None, refusal) if refusal else (stored, "")


# --- blur ----------------------------------------------------------------------------------------------------------


def no_blur(sentence: str = "") -> BlurValues:
    """A sentence, without a picture."""
    return BlurValues(sentence, gr.Image(None, visible=False))


def blur(current: CurrentImage | None, maps: MapKey | None, layer: str = "windows") -> BlurValues:
    """Blur the region to which a heatmap points most and score the picture again; for the image analysed last.

    Args:
        layer: as for /heatmap, which must be called first.

    Returns:
        The verdict before and after, in words; the picture that was scored again.
    """
    stored, sentence = _stored(current, maps, layer)
    if current is None or stored is None:
        return no_blur(sentence)
    from interpret.attribution.region import blurred, strongest_region

    photo = photo_of(current)
    region = strongest_region(stored.explanation.maps[layer], photo.pixels.shape[:2])
    if region is None:
        return no_blur("Nothing stands out in this map, so there is nothing to blur.")
    pixels = blurred(photo.pixels, region)
    suite = suite_of(current)
    (before, after) = suite.analyze_photos([photo, replace(photo, pixels=pixels)])
    side = f", which speaks for {region.side}," if region.side else ""
    words = f"The map's strongest region{side} is {region.share:.0%} of the area. {_verdicts(before, after)}"
    return BlurValues(words, gr.Image(parts.picture_file(pixels), visible=True))


def _verdicts(before: Analysis, after: Analysis) -> str:
    """What the verdict was and what it is without the region."""
    if before.verdict is None or after.verdict is None:
        return "There is no verdict on this backbone."
    first, second = before.verdict, after.verdict
    label = f"stays {first.label}" if first.label == second.label else f"turns from {first.label} to {second.label}"
    return (
        f"With it blurred the verdict **{label}**: its logit goes from {first.logit:+.2f} to {second.logit:+.2f} "
        f"(probability {first.probability:.0%} to {second.probability:.0%}). Blur takes traces of any origin away, so a small move "
        "proves little."
    )


# --- deletion and insertion ----------------------------------------------------------------------------------------


def faithfulness(current: CurrentImage | None, maps: MapKey | None, layer: str = "difference") -> CheckValues:
    """Blur what a heatmap points at step by step, then bring it back, against maps that know nothing; for the image analysed last.

    Args:
        layer: as for /heatmap, which must be called first.

    Returns:
        The result in words; a chart of deletion and one of insertion; the areas under the curves.
    """
    stored, sentence = _stored(current, maps, layer)
    if current is None or maps is None or stored is None:
        return no_check(sentence)
    from interpret.attribution import explain

    try:
        curves = explain.check(suite_of(current), photo_of(current), layer, stored.focus[layer], maps.window_limit)
    except explain.ExplainError as error:
        return no_check(parts.plain(str(error)))
    deletion, insertion = (parts.chart(figures.curve_chart(curves, layer, curve)) for curve in ("deletion", "insertion"))
    words = f"**{LAYERS.get(layer, layer)}.** {explain.check_reading(curves, layer)}"
    return CheckValues(words, deletion, insertion, gr.Dataframe(explain.check_rows(curves), visible=True))


def no_check(sentence: str = "") -> CheckValues:
    """A sentence, without charts and table."""
    return CheckValues(sentence, parts.chart(None), parts.chart(None), gr.Dataframe(visible=False))


# --- files ---------------------------------------------------------------------------------------------------------


def no_files(sentence: str = "") -> FileValues:
    """A sentence, without files."""
    return FileValues(sentence, gr.File(None, visible=False))


def map_files(current: CurrentImage | None, maps: MapKey | None, layer: str = "windows") -> FileValues:
    """The files of a heatmap at the size of the image analysed last.

    Args:
        layer: as for /heatmap, which must be called first.

    Returns:
        What the files are, or why there are none; overlay (PNG) and values (NPY) in logits and as what stands out, and the outline of the
        strongest region (JSON).
    """
    stored, sentence = _stored(current, maps, layer)
    if current is None or stored is None:
        return no_files(sentence)
    from interpret.attribution.explain import write_map

    name = hashlib.sha256(f"{current.key} {maps} {layer}".encode()).hexdigest()  # the key is secret; asking twice fills the disk once
    target = Path(folder()) / "taken" / name
    if not target.is_dir():
        partial = target.with_name(uuid.uuid4().hex)
        write_map(stored.explanation, photo_of(current).pixels, layer, partial / f"cuescope-{layer}")
        with suppress(OSError):  # another request has just written the same files
            partial.rename(target)
    words = "Two pictures and two tables of values, in logits and as what stands out, and the outline of the strongest region."
    return FileValues(words, gr.File(sorted(map(str, target.iterdir())), visible=True))
