"""What if: sliders that change a picture, the verdict's path, what moved, and sweeps over one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from interpret import compare, what_if
from interpret.panels import components as parts
from interpret.panels.service import CurrentImage, analyze, photo_of, suite_of
from interpret.render.text import METHOD_NAMES, verdict_card
from interpret.tabs.compare import image_input
from interpret.tabs.links import AnalyzeLinks

FIRST = "Give an image first."
LONGEST_PATH = 50  # settings that a session remembers
MOST_REFERENCES = 20
NAMES = ("operation", "strength", "jpeg", "scale", "blur", "left", "top", "right", "bottom", "caption")
COLLECT = f"(...values) => JSON.stringify(Object.fromEntries({list(NAMES)}.map((name, i) => [name, values[i] ?? '']))).slice(0, 9000)"


@dataclass(frozen=True)
class Path:
    """current: the analysis of the image as it is. points: the settings so far, the newest last."""

    current: CurrentImage
    points: tuple[what_if.Point, ...]


@dataclass(frozen=True)
class WhatIfTab:
    """image: the input. controls: sliders and others, in the order of NAMES. settings: the same as JSON. reset, swept: buttons. picture,
    card, sentence, chart, table: of the changed image. path: of this session. operation, detector: of a sweep; sweep_reading,
    sweep_chart: its result."""

    image: gr.Image
    controls: tuple[Any, ...]
    settings: gr.Textbox
    reset: gr.Button
    picture: gr.Image
    card: gr.HTML
    sentence: gr.Markdown
    chart: gr.Plot
    table: gr.Dataframe
    path: gr.State
    operation: gr.Dropdown
    detector: gr.Dropdown
    swept: gr.Button
    sweep_reading: gr.Markdown
    sweep_chart: gr.Plot


class WhatIfValues(NamedTuple):
    """Values of `WhatIfTab`, in the order in which the endpoint gives them."""

    picture: str | None
    card: str
    sentence: str
    chart: gr.Plot
    table: list[list]
    path: Path | None


class SweepValues(NamedTuple):
    """Values of `WhatIfTab` after a sweep."""

    sweep_reading: str
    sweep_chart: gr.Plot


def build_what_if(links: AnalyzeLinks) -> None:
    """The tab, and what its sliders do."""
    tab = _layout()
    inputs = [tab.image, tab.settings, links.in_use, tab.path]
    outputs = parts.outputs(tab, WhatIfValues)
    line: dict[str, Any] = {"concurrency_id": "model", "show_progress_on": tab.card}
    collect: dict[str, Any] = {"fn": None, "inputs": list(tab.controls), "outputs": tab.settings, "js": COLLECT}
    moved = gr.on([getattr(control, _event(control)) for control in tab.controls], show_progress="hidden", **collect)
    moved.then(change_image, inputs, outputs, api_name="what_if", trigger_mode="always_last", **line)
    gr.on(
        [tab.image.change, tab.settings.submit], change_image, inputs, outputs, api_visibility="private", trigger_mode="always_last", **line
    )
    cleared = tab.reset.click(lambda: tuple(vars(what_if.Settings()).values()), None, list(tab.controls), api_visibility="private",
                              concurrency_id="panels", show_progress="hidden")  # fmt: skip
    cleared.then(show_progress="hidden", **collect).then(change_image, inputs, outputs, api_visibility="private", **line)
    tab.swept.click(
        sweep_image, [tab.image, tab.operation, tab.detector, links.in_use], parts.outputs(tab, SweepValues), api_name="sweep",
        concurrency_id="model", trigger_mode="once", show_progress_on=tab.sweep_reading,
    )  # fmt: skip


def _event(control: Any) -> str:
    """When a control's value counts: a slider when it is let go."""
    return "release" if isinstance(control, gr.Slider) else "submit" if isinstance(control, gr.Textbox) else "input"


def _layout() -> WhatIfTab:
    gr.Markdown("Change the picture, and see what the verdict does. Sliders count when they are let go; a caption with Enter.")
    with gr.Row(elem_classes="stack", equal_height=False):
        with gr.Column(scale=2, min_width=280):
            image = image_input("Image", "whatif-image")
            controls = _controls()
            settings = gr.Textbox("{}", label="Settings as JSON; Enter applies them", lines=1, buttons=["copy"], elem_id="whatif-settings")
            reset = gr.Button("Reset", elem_id="whatif-reset")
        with gr.Column(scale=3, min_width=280):
            picture = gr.Image(label="As changed", format="png", interactive=False, height=280, elem_id="whatif-picture")
            card = gr.HTML("", elem_id="whatif-card")
            sentence = gr.Markdown("", elem_classes="reading", elem_id="whatif-sentence")
            chart = parts.plot("The verdict's path from setting to setting", "whatif-path", visible=False)
            table = parts.table(compare.HEADERS, "What moved against the image as it is", ["26%", "20%", "13%", "13%", "13%", "15%"], 8)
    gr.Markdown("## Sweep: one operation over its whole range, against what photographs do", elem_classes="section")
    with gr.Row(elem_classes="stack"):
        operation = gr.Dropdown(list(what_if.SWEEPS), value="JPEG quality", label="Operation")
        names = [("Verdict", "verdict"), *[(label, name) for name, label in METHOD_NAMES.items()]]
        detector = gr.Dropdown(names, value="verdict", label="Detector")
        swept = gr.Button("Sweep", elem_id="whatif-sweep")
    reading, curve = gr.Markdown("", elem_classes="reading", elem_id="whatif-reading"), parts.plot("Sweep", "whatif-curve", visible=False)
    results = (picture, card, sentence, chart, table, gr.State())
    return WhatIfTab(image, controls, settings, reset, *results, operation, detector, swept, reading, curve)


def _controls() -> tuple[Any, ...]:
    """One for each of NAMES, in their order."""
    operation = gr.Dropdown([what_if.NONE, *what_if.OPERATIONS], value=what_if.NONE, label="Operation")
    strength = gr.Slider(0, 1, 0.5, step=0.05, label="Strength")
    jpeg = gr.Slider(10, 100, 100, step=5, label="JPEG quality; 100: not saved again")
    scale = gr.Slider(0.25, 2, 1, step=0.05, label="Scale")
    blur = gr.Slider(0, 4, 0, step=0.25, label="Blur, pixels")
    with gr.Accordion("Crop box and caption", open=False):
        sides = (("Left", 0), ("Top", 0), ("Right", 1), ("Bottom", 1))
        box = [gr.Slider(0, 1, value, step=0.05, label=f"{name} edge") for name, value in sides]
        caption = gr.Textbox("", label="Caption; empty for the machine's own", max_length=500)
    return operation, strength, jpeg, scale, blur, *box, caption


# --- actions -------------------------------------------------------------------------------------------------------


def change_image(image: str | None, settings: str = "{}", in_use: str = "embedded", path: Path | None = None) -> WhatIfValues:
    """Change an image and analyse it again.

    Args:
        image: an image file.
        settings: a JSON object with any of operation, strength, jpeg, scale, blur, left, top, right, bottom, caption.
        in_use: the backbone or detector in use.

    Returns:
        The changed picture; its verdict in HTML; one sentence; the verdict's path as a chart; a table of what moved.
    """
    if not image:
        return _only("")
    try:
        chosen = what_if.parse(settings)
    except what_if.SettingsError as error:
        return _only(str(error))
    path = path if path is not None and (path.current.file, path.current.backbone) == (image, in_use) else _start(image, in_use)
    if path is None or path.current.record["error"]:
        return _only("The image cannot be analysed." if path is None else str(path.current.record["error"]))
    before, photo = path.current.record, what_if.changed_photo(photo_of(path.current), chosen)
    after = suite_of(path.current).analyze_photos([photo], chosen.caption or None)[0].to_dict()
    points = [*path.points, *([what_if.Point(chosen.words, after["verdict"]["logit"])] if after.get("verdict") else [])][-LONGEST_PATH:]
    rows = [difference.row for difference in compare.differences(before, after)]
    words = f"**{parts.plain(chosen.words)}.** {parts.plain(compare.sentence(before, after))}"
    chart = parts.chart(what_if.path_chart(points) if points else None)
    return WhatIfValues(parts.picture_file(photo.pixels), verdict_card(after), words, chart, rows, Path(path.current, tuple(points)))


def _start(image: str, in_use: str) -> Path | None:
    record, current = analyze(image, in_use)
    if record is None or current is None:
        return None
    points = (what_if.Point("as it is", record["verdict"]["logit"]),) if record.get("verdict") else ()
    return Path(current, points)


def _only(sentence: str) -> WhatIfValues:
    return WhatIfValues(None, "", parts.plain(sentence), parts.chart(None), [], None)


def sweep_image(image: str | None, operation: str = "JPEG quality", detector: str = "verdict", in_use: str = "embedded") -> SweepValues:
    """A detector's logit over the whole range of one operation, against the band of reference photographs.

    Args:
        image: an image file.
        operation: an attribute operation such as film grain, "JPEG quality", "scale" or "blur in pixels".
        detector: "verdict", or a method such as sdd.
        in_use: the backbone or detector in use.

    Returns:
        One sentence, and a chart. References: photographs in the server's open folders, else the examples' photographs.
    """
    if not image:
        return SweepValues(FIRST, parts.chart(None))
    path = _start(image, in_use)
    if path is None or path.current.record["error"]:
        return SweepValues("The image cannot be analysed.", parts.chart(None))
    try:
        result = what_if.sweep(suite_of(path.current), photo_of(path.current), references(), operation, detector)
    except what_if.SettingsError as error:
        return SweepValues(str(error), parts.chart(None))
    return SweepValues(f"**{parts.plain(what_if.sweep_sentence(result))}**", parts.chart(what_if.sweep_chart(result)))


def references() -> list[Any]:
    """Up to twenty photographs: images below real/ in the folders that the server opens, else the examples' photographs."""
    from detector.data.collections import ImageFile, allowed_folders, folder_files
    from detector.data.datasets import DataError
    from detector.data.images import ImageError
    from interpret.examples import existing_examples

    files: list[ImageFile] = []
    for folder in allowed_folders().values():
        try:
            files += [file for file in folder_files(folder) if file.label == 0]
        except DataError:
            continue
    files = files or [ImageFile(path.name, path) for path, label in existing_examples() if label.startswith("Photograph")]
    photos = []
    for file in files[:: max(1, len(files) // MOST_REFERENCES)][:MOST_REFERENCES]:
        try:
            photos.append(file.photo())
        except (DataError, ImageError):
            continue
    return photos
