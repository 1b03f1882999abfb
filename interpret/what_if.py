"""What if the picture were another: its copy with operations applied, the verdict's path, what moved, and sweeps over one operation.

The operations are those of `detector.clip.attributes`, and scale, blur and JPEG of `detector.data.perturbations`. Their order is fixed:
crop, attribute, scale, blur, JPEG.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from detector.clip.attributes import OPERATIONS
from detector.steps import checkpoint

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go

    from detector.data.images import Photo
    from detector.suite import Suite

PIXEL_LIMIT = 4_000_000  # pixels of the picture that is changed; a larger one is shrunk first (choice)
LEVELS = 7  # settings of a sweep
LEAST_CROP = 0.2  # of a side that is left
RANGES = {"jpeg": (10.0, 100.0), "scale": (0.25, 2.0), "blur": (0.0, 4.0), "strength": (0.0, 1.0)}
NONE = "none"
SWEEPS = (*OPERATIONS, "JPEG quality", "scale", "blur in pixels")


class SettingsError(ValueError):
    """One sentence that says what is wrong with settings."""


@dataclass(frozen=True)
class Settings:
    """operation: of OPERATIONS, or "none"; strength: 0 to 1. jpeg: quality, 100 for not saved again. scale: factor of sides. blur: sigma in
    pixels. left, top, right, bottom: of the crop box, 0 to 1 of the sides. caption: the user's words, "" for the machine's own."""

    operation: str = NONE
    strength: float = 0.5
    jpeg: float = 100
    scale: float = 1.0
    blur: float = 0.0
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    caption: str = ""

    def to_json(self) -> str:
        """As `parse` takes it."""
        return json.dumps(asdict(self))

    @property
    def words(self) -> str:
        """What is changed, in words."""
        start, parts = Settings(), []
        if self.operation != NONE:
            parts.append(f"{self.operation} {self.strength:g}")
        parts += [f"{name} {getattr(self, name):g}" for name in ("jpeg", "scale", "blur") if getattr(self, name) != getattr(start, name)]
        if (self.left, self.top, self.right, self.bottom) != (0, 0, 1, 1):
            parts.append("cropped")
        return ", ".join([*parts, *(["own caption"] if self.caption else [])]) or "as it is"


def parse(text: str) -> Settings:
    """The settings of a JSON object; what it lacks is as it is. SettingsError, one sentence that repeats nothing of the text."""
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise SettingsError("The settings are no JSON object; press Reset.") from error
    names = {entry.name: entry.type for entry in fields(Settings)}
    if not isinstance(values, dict) or set(values) - set(names):
        raise SettingsError(f"The settings are a JSON object with the names {', '.join(names)}; press Reset.")
    for name, value in values.items():
        if not (isinstance(value, str) if names[name] == "str" else isinstance(value, int | float) and not isinstance(value, bool)):
            raise SettingsError(f"The setting {name} must be {'text' if names[name] == 'str' else 'a number'}; press Reset.")
    settings = Settings(**values)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if settings.operation not in (NONE, *OPERATIONS):
        raise SettingsError(f"There is no operation of that name; there are {', '.join(OPERATIONS)}.")
    for name, (low, high) in RANGES.items():
        if not low <= getattr(settings, name) <= high:
            raise SettingsError(f"The setting {name} must lie between {low:g} and {high:g}.")
    box = (settings.left, settings.right), (settings.top, settings.bottom)
    if not all(0 <= low and high <= 1 and high - low >= LEAST_CROP for low, high in box):
        raise SettingsError(f"The crop box must lie within 0 and 1 and leave {LEAST_CROP:.0%} of each side.")
    if len(settings.caption) > 500:
        raise SettingsError("The caption is longer than 500 characters; shorten it.")


def applied(pixels: np.ndarray, settings: Settings) -> np.ndarray:
    """(H, W, 3) uint8 → the changed picture."""
    import numpy as np

    from detector.data import perturbations

    height, width = pixels.shape[:2]
    rows = slice(round(settings.top * height), max(round(settings.bottom * height), round(settings.top * height) + 1))
    columns = slice(round(settings.left * width), max(round(settings.right * width), round(settings.left * width) + 1))
    changed = np.ascontiguousarray(pixels[rows, columns])
    if settings.operation != NONE:
        changed = OPERATIONS[settings.operation][0](changed, settings.strength)
    if settings.scale != 1:
        changed = perturbations.resize(settings.scale).apply(changed)
    if settings.blur:
        changed = perturbations.blur(settings.blur).apply(changed)
    if settings.jpeg < 100:
        changed = perturbations.jpeg(round(settings.jpeg)).apply(changed)
    return np.ascontiguousarray(changed)


def changed_photo(photo: Photo, settings: Settings) -> Photo:
    """The photo with the operations applied, shrunk first where it is larger than PIXEL_LIMIT."""
    from detector.data.perturbations import shrink_to

    return replace(photo, pixels=applied(shrink_to(photo.pixels, PIXEL_LIMIT), settings))


# --- path and sweep ------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """One setting on the verdict's path. words: the setting. logit: the verdict's."""

    words: str
    logit: float


def path_chart(path: Sequence[Point]) -> go.Figure:
    """The verdict's logit from setting to setting, the last one to the right."""
    import plotly.graph_objects as go

    from interpret.render.figures import INK, NEUTRAL, _layout

    figure = go.Figure()
    figure.add_hline(y=0, line={"color": NEUTRAL, "dash": "dot"})
    steps = list(range(len(path)))
    figure.add_scatter(
        x=steps, y=[point.logit for point in path], text=[point.words for point in path], mode="lines+markers",
        line={"color": INK, "width": 2.5}, hovertemplate="%{text}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    _layout(figure, 0, "setting").update_layout(height=260)
    title = {"text": "← real · logit · synthetic →", "font": {"size": 12}}
    return figure.update_yaxes(autorange=True, title=title, gridcolor="rgba(128,128,128,0.25)").update_xaxes(dtick=1)


@dataclass(frozen=True)
class Sweep:
    """operation: of SWEEPS. levels: its settings. logits: the detector's for the picture at each of them. low, high: the band that holds
    80 % of the reference photographs' logits at each, from `count` photographs."""

    operation: str
    levels: list[float]
    logits: list[float]
    low: list[float]
    high: list[float]
    count: int


def levels_of(operation: str) -> list[Settings]:
    """The settings of a sweep, the mildest first. SettingsError for an operation that is none."""
    if operation not in SWEEPS:
        raise SettingsError("There is no operation of that name to sweep; choose one of the list.")
    names = {"JPEG quality": "jpeg", "scale": "scale", "blur in pixels": "blur"}
    name = names.get(operation, "strength")
    low, high = RANGES[name]
    steps = [low + (high - low) * place / (LEVELS - 1) for place in range(LEVELS)]
    if name == "jpeg":
        steps.reverse()
    start = Settings(operation=operation if name == "strength" else NONE)
    changes: list[dict[str, Any]] = [{name: step} for step in steps]
    return [replace(start, **change) for change in changes]


def sweep(suite: Suite, photo: Photo, references: Sequence[Photo], operation: str, detector: str) -> Sweep:
    """A detector's logit over the whole range of one operation, for the photo and for reference photographs.

    detector: name in an analysis' "detectors", or "verdict". SettingsError for one without an answer.
    """
    import numpy as np

    settings = levels_of(operation)
    curves = np.array([_curve(suite, each, settings, detector) for each in (photo, *references)])
    if not np.isfinite(curves[0]).all():
        raise SettingsError("That detector has no answer for this picture; choose another.")
    levels = [_level(each, operation) for each in settings]
    if len(references):
        low, high = np.nanpercentile(curves[1:], [10, 90], axis=0).tolist()
    else:
        low, high = [], []
    return Sweep(operation, levels, curves[0].tolist(), low, high, len(references))


def _level(settings: Settings, operation: str) -> float:
    return {"JPEG quality": settings.jpeg, "scale": settings.scale, "blur in pixels": settings.blur}.get(operation, settings.strength)


def _curve(suite: Suite, photo: Photo, settings: Sequence[Settings], detector: str) -> list[float]:
    logits = []
    for each in settings:
        checkpoint()
        analysis = suite.analyze_photos([changed_photo(photo, each)])[0]
        logits.append(logit_of(analysis, detector))
    return logits


def logit_of(analysis: Any, detector: str) -> float:
    """The logit of a detector, or of the verdict; NaN without an answer."""
    if detector == "verdict":
        return analysis.verdict.logit if analysis.verdict else float("nan")
    return float(analysis.detectors[detector]["logit"]) if detector in analysis.detectors else float("nan")


def sweep_chart(result: Sweep) -> go.Figure:
    """The picture's curve over the band of the reference photographs."""
    import plotly.graph_objects as go

    from interpret.render.figures import INK, NEUTRAL, _layout

    figure = go.Figure()
    if result.low:
        x = [*result.levels, *reversed(result.levels)]
        band = {"fill": "toself", "fillcolor": "rgba(0,114,178,0.18)", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=[*result.high, *reversed(result.low)], name=f"{result.count} reference photographs", **band)
    figure.add_hline(y=0, line={"color": NEUTRAL, "dash": "dot"})
    figure.add_scatter(x=result.levels, y=result.logits, mode="lines+markers", name="this picture", line={"color": INK, "width": 2.5})
    _layout(figure, 0, result.operation).update_layout(height=320, showlegend=True)
    title = {"text": "← real · logit · synthetic →", "font": {"size": 12}}
    return figure.update_yaxes(autorange=True, title=title, gridcolor="rgba(128,128,128,0.25)")


def sweep_sentence(result: Sweep) -> str:
    """How far the picture moves, and whether it leaves the band; plain text."""
    span = max(result.logits) - min(result.logits)
    text = f"Over the whole range of {result.operation} the logit moves by {span:.2f}."
    if not result.low:
        return text
    outside = sum(not low <= value <= high for low, value, high in zip(result.low, result.logits, result.high, strict=True))
    band = f"{result.count} reference photographs"
    return f"{text} It lies outside what {band} do at {outside} of {len(result.levels)} settings."
