"""The tour: six cues, each with one operation on a picture, one slider from 0 to 1, and one sentence computed from what was measured.

An amount of 0 leaves the picture as it is. Operations and ranges are choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detector.clip.attributes import OPERATIONS
from detector.records import AnalysisRecord
from interpret.compare import differences
from interpret.render import svg
from interpret.render.cards import leaning
from interpret.render.figures import pole, words_of
from interpret.render.text import METHOD_NAMES

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from PIL import Image

    from detector.data.images import Photo
    from detector.data.windows import Box
    from detector.suite import Suite
    from interpret.attribution.explain import Explanation

PIXEL_LIMIT = 512 * 512  # pixels of the picture that the tour reads; a larger one is shrunk first, so that each slide answers quickly
BLUR = 4.0  # pixels, sigma at the end of the slider
PATCH = 0.7  # of each side that the made patch covers at the end of the slider
WINDOWS = 36  # that a map reads at most
OPACITY = 0.6  # of the map where the evidence is full
CLEAR = 0.3  # logits by which a map must rise more inside the patch than outside it to point to it
OTHER_SCENE = "a red bus in a busy city street at night with many people"  # whose words replace a caption's
CHANGES = 5  # concepts in the chart


class TourError(ValueError):
    """One sentence that says why a step cannot be shown."""


@dataclass(frozen=True)
class Measured:
    """A picture and what was measured of it."""

    photo: Photo
    record: AnalysisRecord


@dataclass(frozen=True)
class View:
    """One position of a step's slider. before, after: the pictures to show. records: their analyses. sentence: plain text. chart: SVG."""

    before: np.ndarray | Image.Image
    after: np.ndarray | Image.Image
    records: tuple[AnalysisRecord, AnalysisRecord]
    sentence: str
    chart: str


@dataclass(frozen=True)
class Step:
    """title: the cue and its idea. slider: what the slider changes. show: the view at an amount from 0 to 1."""

    title: str
    slider: str
    show: Callable[[Suite, Measured, float], View]


def start(suite: Suite, photo: Photo) -> Measured:
    """The picture that the tour is about, shrunk to `PIXEL_LIMIT` where it is larger."""
    from detector.data.perturbations import shrink_to

    return _measured(suite, replace(photo, pixels=shrink_to(photo.pixels, PIXEL_LIMIT)))


def _measured(suite: Suite, photo: Photo, caption: str | None = None) -> Measured:
    return Measured(photo, suite.analyze_photos([photo], caption)[0].to_dict())


def _changed(suite: Suite, first: Measured, operation: Callable[[np.ndarray, float], np.ndarray], amount: float) -> Measured:
    """The picture after an operation; the very same at an amount of 0, where some operations still do something."""
    return _measured(suite, replace(first.photo, pixels=operation(first.photo.pixels, amount))) if amount else first


# --- words ---------------------------------------------------------------------------------------------------------


def moves(before: float, after: float, form: str) -> str:
    """ "rises from 1 to 2", "falls from 2 to 1" or "stays at 1"; form: of the numbers, after which equal ones are equal."""
    first, second = (form.format(value).replace("-", "−") for value in (before, after))
    return f"stays at {first}" if first == second else f"{'rises' if after > before else 'falls'} from {first} to {second}"


def _leans(records: tuple[AnalysisRecord, AnalysisRecord], method: str) -> str:
    """How a method leaned and leans now; "" where it has no answer to both."""
    scores = [record.get("detectors", {}).get(method) for record in records]
    if not scores[0] or not scores[1]:
        return ""
    first, second = leaning(scores[0]["logit"]), leaning(scores[1]["logit"])
    name = f"; “{METHOD_NAMES[method]}”"
    return f"{name} still {second}" if first == second else f"{name} {first.replace('leans', 'leaned', 1)} and now {second}"


# --- noise and sharpness -------------------------------------------------------------------------------------------


def _descriptor_view(first: Measured, after: Measured, name: str, method: str) -> View:
    """What one descriptor does, as percentiles among real pictures, and what a method makes of it."""
    records = first.record, after.record
    (value, place), (value_after, place_after) = (_descriptor(record, name) for record in records)
    words = f"{words_of(name).capitalize()} {moves(value, value_after, '{:.2g}')}"
    among = f"higher than in {place_after:.0f} % of real pictures" + ("" if first is after else f", {place:.0f} % before")
    chart = svg.small_dots([("as it is", place), ("changed", place_after)], f"{words_of(name)}, percentile among real pictures")
    return View(first.photo.pixels, after.photo.pixels, records, f"{words}: {among}{_leans(records, method)}.", chart)


def _descriptor(record: AnalysisRecord, name: str) -> tuple[float, float]:
    """A descriptor's value and its percentile among real pictures. TourError where either is not known."""
    value = record.get("physical", {}).get(name)
    place = record.get("physical_percentiles", {}).get(name, {"real": None})["real"]
    if value is None or place is None:
        raise TourError("The detector in use measures no descriptors; choose another under Model.")
    return value, place


def _noise(suite: Suite, first: Measured, amount: float) -> View:
    return _descriptor_view(first, _changed(suite, first, OPERATIONS["film grain"][0], amount), "noise_sigma", "residual")


def _sharpness(suite: Suite, first: Measured, amount: float) -> View:
    from detector.data.perturbations import blur

    after = _changed(suite, first, lambda pixels, share: blur(BLUR * share).apply(pixels), amount)
    return _descriptor_view(first, after, "laplacian_variance", "physical")


# --- spectrum ------------------------------------------------------------------------------------------------------


def _spectrum(suite: Suite, first: Measured, amount: float) -> View:
    import numpy as np

    from detector.methods.residual.features import spectrum

    after = _changed(suite, first, OPERATIONS["checkerboard"][0], amount)
    frequency, before = spectrum(first.photo.pixels)
    change = spectrum(after.photo.pixels)[1][0] - before[0]
    place = int(np.abs(change).argmax())
    records = first.record, after.record
    words = (
        f"The pattern changes the spectrum of the fine detail most at {frequency[place]:.2f} cycles per pixel, where its power is "
        f"{np.exp(abs(change[place])):.3g} times {'higher' if change[place] > 0 else 'lower'}"
        if abs(change[place]) > 0.01
        else "The spectrum shows how much fine detail there is of each fineness; move the slider to lay a pattern over the picture"
    )
    chart = svg.to_svg(_spectrum_chart(suite, frequency, before[0], change), "Spectrum of the fine detail before and after")
    return View(first.photo.pixels, after.photo.pixels, records, f"{words}{_leans(records, 'residual')}.", chart)


def _spectrum_chart(suite: Suite, frequency: np.ndarray, before: np.ndarray, change: np.ndarray) -> go.Figure:
    """Both curves, against the mean real one where a head knows it."""
    import plotly.graph_objects as go

    from interpret.render.figures import INK, NEUTRAL, REAL, _layout

    head = suite.roster.suite_for("residual").heads.get("residual")
    base = head.spectrum_real[0] if head is not None else 0 * before
    lines = [("as it is", before - base, NEUTRAL, 3), ("changed", before + change - base, INK, 3)]
    if head is not None:
        lines.insert(0, ("mean of real pictures", 0 * before, REAL, 2))
    figure = go.Figure()
    for name, curve, colour, width in lines:
        figure.add_scatter(x=frequency.tolist(), y=curve.tolist(), name=name, mode="lines", line={"color": colour, "width": width})
    return _layout(figure, 8, "fineness: cycles per pixel").update_yaxes(autorange=True, title="log power")


# --- concepts ------------------------------------------------------------------------------------------------------


def _concepts(suite: Suite, first: Measured, amount: float) -> View:
    after = _changed(suite, first, OPERATIONS["vignetting"][0], amount)
    records = first.record, after.record
    concepts = [{concept["name"]: concept for concept in record.get("concepts", [])} for record in records]
    if "vignetting" not in concepts[0] or "vignetting" not in concepts[1]:
        raise TourError("The detector in use reads no concepts; choose another under Model.")
    one, other = (named["vignetting"] for named in concepts)
    words = f"“{one['positive']}” {moves(one['activation'], other['activation'], '{:+.2f}')} on a scale from −1 to 1"
    changed = [each for each in differences(*records) if each.kind.startswith("concept") and each.first != each.second][:CHANGES]
    if changed:
        side = "synthetic" if changed[0].second > changed[0].first else "real"
        words += f"; the concept that pushes most is “{pole(concepts[1][changed[0].name])}”, towards {side}"
    rows = [(pole(concepts[1][each.name]), each.second - each.first) for each in changed]
    if not rows:
        strongest = sorted(concepts[0].values(), key=lambda concept: -abs(concept["contribution"]))[:CHANGES]
        rows = [(pole(concept), concept["contribution"]) for concept in strongest]
    chart = svg.small_bars(rows, "Change of the concepts' contributions" if changed else "The concepts' contributions")
    return View(first.photo.pixels, after.photo.pixels, records, f"{words}{_leans(records, 'concepts')}.", chart)


# --- caption -------------------------------------------------------------------------------------------------------


def exchanged(caption: str, share: float) -> str:
    """A caption of which a share of the words, from the first on, is exchanged for those of another scene."""
    words, others = caption.split(), OTHER_SCENE.split()
    count = round(share * max(len(words), len(others)))
    return " ".join([*others[:count], *words[count:]])


def _caption(suite: Suite, first: Measured, amount: float) -> View:
    item = first.record.get("item")
    if not item or not item["caption"] or item["global"] is None:
        raise TourError("The detector in use has no caption for this picture; choose another picture, or another detector under Model.")
    text = exchanged(item["caption"], amount)
    after = _measured(suite, first.photo, text) if amount else first
    records = first.record, after.record
    cosine = after.record["item"]["global"]
    if cosine is None:
        raise TourError("The text tower can read none of these words; move the slider.")
    words = f"“{text.strip(' .')}”: how well caption and picture agree {moves(item['global'], cosine, '{:.2f}')}"
    chart = svg.small_bars([("as it is", item["global"]), ("changed", cosine)], "How well caption and picture agree", neutral=True)
    return View(first.photo.pixels, after.photo.pixels, records, f"{words}{_leans(records, 'item')}.", chart)


# --- where ---------------------------------------------------------------------------------------------------------


def patched(pixels: np.ndarray, share: float) -> tuple[np.ndarray, Box | None]:
    """(H, W, 3) uint8 → the picture with its middle made again by our autoencoder, and that box; None where it is empty.

    share: of each side. WeightsError, one sentence, where the autoencoder's weights are missing.
    """
    from detector.clip.autoencoder import load_autoencoder, resynthesise

    height, width = pixels.shape[:2]
    half_height, half_width = round(height * share / 2), round(width * share / 2)
    box = (width // 2 - half_width, height // 2 - half_height, width // 2 + half_width, height // 2 + half_height)
    made = resynthesise(pixels, load_autoencoder())
    box = (box[0], box[1], min(box[2], made.shape[1]), min(box[3], made.shape[0]))
    if box[2] <= box[0] or box[3] <= box[1]:
        return pixels, None
    changed = pixels.copy()
    changed[box[1] : box[3], box[0] : box[2]] = made[box[1] : box[3], box[0] : box[2]]
    return changed, box


def _where(suite: Suite, first: Measured, amount: float) -> View:
    """The map of the pixel residual where there is one, since an autoencoder changes the finest detail most (choice)."""
    from interpret.attribution import explain
    from interpret.attribution.exact import RESIDUAL_LAYER

    pixels, box = patched(first.photo.pixels, PATCH * amount) if amount else (first.photo.pixels, None)
    after = _measured(suite, replace(first.photo, pixels=pixels)) if box else first
    try:
        layers = explain.layers_of(suite)
        layer = RESIDUAL_LAYER if RESIDUAL_LAYER in layers else layers[0]
        maps = [explain.explain(suite, each.photo, [layer], WINDOWS) for each in ([first, after] if box else [first])]
    except explain.ExplainError as error:
        raise TourError(str(error)) from error
    pictures = [_under_map(first.photo.pixels, each, layer, box) for each in maps]
    values = [each.maps[layer].values for each in maps]
    means = [_inside(each, box, first.photo.pixels.shape[:2]) for each in values] if box else []
    words = _where_words(means)
    chart = svg.small_grid(explain.regions(values[-1]), "Evidence in nine fields of the picture: orange for synthetic, blue for real")
    return View(pictures[0], pictures[-1], (first.record, after.record), words, chart)


def _inside(values: np.ndarray, box: Box, shape: tuple[int, int]) -> tuple[float, float]:
    """Mean of a map inside and outside a box of the picture. shape: (H, W) of the picture, of which the map may be a reduced copy."""
    import numpy as np

    from interpret.attribution.cam import scaled_box

    x0, y0, x1, y1 = scaled_box(box, shape, values.shape[:2])
    mask = np.zeros(values.shape, bool)
    mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return float(np.nanmean(values[mask])), float(np.nanmean(values[~mask]))


def _where_words(means: list[tuple[float, float]]) -> str:
    """Whether the map rose more inside the patch than around it."""
    if not means:
        return "The map shows where the evidence lies; move the slider to let the autoencoder make the middle of the picture again."
    (inside, outside), (inside_after, outside_after) = means
    gain = (inside_after - inside) - (outside_after - outside)
    end = "points to the patch" if gain > CLEAR else "points away from the patch" if gain < -CLEAR else "hardly tells the patch apart"
    inner, outer = moves(inside, inside_after, "{:+.2f}"), moves(outside, outside_after, "{:+.2f}")
    return f"The evidence for synthetic {inner} inside the made patch and {outer} outside it: the map {end}."


def _under_map(pixels: np.ndarray, explanation: Explanation, layer: str, box: Box | None) -> Image.Image:
    """The picture under a map, with the outline of the patch."""
    from PIL import ImageDraw

    from interpret.attribution.explain import form_of
    from interpret.attribution.overlay import overlay_at

    heatmap, scale = form_of(explanation, layer, standing=False)
    picture = overlay_at(pixels, heatmap, scale, OPACITY, region=None)
    if box is not None:
        draw = ImageDraw.Draw(picture)
        draw.rectangle(box, outline="white", width=3)
        draw.rectangle(box, outline="black", width=1)
    return picture


STEPS: dict[str, Step] = {
    "noise": Step("Noise: a sensor leaves grain, a generator other traces", "Film grain", _noise),
    "spectrum": Step("Spectrum: upsampling leaves a regular pattern", "Checkerboard pattern", _spectrum),
    "sharpness": Step("Sharpness: how abruptly brightness changes", "Blur", _sharpness),
    "concepts": Step("Concepts: photographic style in words", "Vignetting", _concepts),
    "caption": Step("Caption: do words and picture agree?", "Words exchanged for those of another scene", _caption),
    "where": Step("Where: which part of the picture speaks", "Size of a made patch in the middle", _where),
}


def show(suite: Suite, first: Measured, step: str, amount: float) -> View:
    """The view of a step at an amount from 0 to 1. TourError, one sentence, for a step that is none or cannot be shown."""
    from detector.hub.weights import WeightsError

    if step not in STEPS:
        raise TourError(f"There is no step of that name; there are {', '.join(STEPS)}.")
    try:
        return STEPS[step].show(suite, first, amount)
    except WeightsError as error:
        raise TourError(str(error)) from error
