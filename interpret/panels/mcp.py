"""For MCP clients: tools that need no session, in place of the page's actions."""

from __future__ import annotations

import json
import os
from typing import Any

import gradio as gr

from detector.assets import EMBEDDED
from detector.clip.attributes import OPERATIONS
from detector.records import AnalysisRecord
from interpret import compare, what_if
from interpret.panels import components as parts
from interpret.panels.downloads import make_report
from interpret.panels.gate import image_file
from interpret.panels.service import analyze, photo_of, suite_of

NO_IMAGE = "Give an image file."
MOST_DIFFERENCES = 40  # in an answer; the largest come first


def mcp_wanted() -> bool:
    """Whether Gradio's own switch, `GRADIO_MCP_SERVER=True`, is set."""
    return os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"


# --- tools ---------------------------------------------------------------------------------------------------------


def analyze_image(image: str | None, backbone: str = EMBEDDED) -> str:
    """Say whether an image looks photographed or AI-generated, and why, as far as small detectors can tell.

    The verdict may be "inconclusive"; it is a measurement and not a proof, and says nothing about a person.

    Args:
        image: the image file, as it is: every change of format or size changes what is measured.
        backbone: the CLIP model, "embedded" for the one that needs no download.

    Returns:
        JSON: verdict, each method's probability, descriptors, concepts and their contributions; `error` holds one sentence if
        the image is unusable.
    """
    record, _ = analyze(image, backbone)
    return _json(record or {"error": NO_IMAGE})


def compare_images(first: str | None, second: str | None, backbone: str = EMBEDDED) -> str:
    """Analyse two images and say what differs between them: their verdicts, methods, descriptors and concepts.

    Args:
        first: an image file, as it is.
        second: an image file, as it is, such as an edit of the first.
        backbone: the CLIP model, "embedded" for the one that needs no download.

    Returns:
        JSON: `sentence` in words; `verdicts` of both; `differences`, the largest first, each with name, kind, first, second and size
        from 0 to 1; `error` holds one sentence if an image is unusable.
    """
    one, other = (analyze(image, backbone)[0] for image in (first, second))
    if one is None or other is None or one["error"] or other["error"]:
        return _json({"error": _refusal(one) or _refusal(other)})
    return _json({**_differences(one, other), "error": None})


def what_if_image(
    image: str | None, operation: str = what_if.NONE, strength: float = 0.5, jpeg: float = 100, scale: float = 1, blur: float = 0
) -> str:
    """Change an image and analyse it again with the embedded model: what would the verdict be if it were edited, saved again or resized?

    Args:
        image: an image file, as it is.
        operation: a photographic attribute to bring about, such as film grain, vignetting or plastic smoothing; none for no such change.
        strength: of the operation, from 0 to 1.
        jpeg: quality of a last saving as JPEG, from 10 to 100; 100 for no such saving.
        scale: factor of both sides, from 0.25 to 2.
        blur: sigma of a Gaussian blur in pixels, from 0 to 4.

    Returns:
        JSON: `settings` in words; the other keys are those of compare_images, first the image as it is, then the changed one.
    """
    try:
        values = {"operation": operation, "strength": strength, "jpeg": jpeg, "scale": scale, "blur": blur}
        settings = what_if.parse(json.dumps(values))
    except what_if.SettingsError as error:
        return _json({"error": str(error)})
    before, current = analyze(image)
    if current is None or before is None or before["error"]:
        return _json({"error": _refusal(before)})
    photo = what_if.changed_photo(photo_of(current), settings)
    after = suite_of(current).analyze_photos([photo])[0].to_dict()
    return _json({"settings": settings.words, **_differences(before, after), "error": None})


def report_image(image: str | None, backbone: str = EMBEDDED) -> str:
    """Analyse an image and write the report on it: one HTML file with charts and words that needs no network.

    Args:
        image: an image file, as it is.
        backbone: the CLIP model, "embedded" for the one that needs no download.

    Returns:
        The address of the HTML file, which lies on the server for six hours.
    """
    record, current = analyze(image, backbone)
    if refusal := _refusal(record):
        raise gr.Error(refusal, print_exception=False)
    return make_report(current)


def _refusal(record: AnalysisRecord | None) -> str:
    """Why there is nothing to say of an image, in one sentence; "" where there is."""
    return NO_IMAGE if record is None else record["error"] or ""


def _differences(first: AnalysisRecord, second: AnalysisRecord) -> dict[str, Any]:
    """What two analyses have in common and what not."""
    rows = [difference._asdict() for difference in compare.differences(first, second)[:MOST_DIFFERENCES]]
    verdicts = [record.get("verdict") for record in (first, second)]
    return {"sentence": compare.sentence(first, second), "verdicts": verdicts, "differences": rows}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- wiring --------------------------------------------------------------------------------------------------------


def build_tools(demo: gr.Blocks) -> None:
    """Add the tools, and take all other actions out of the list of tools; called inside the page's layout, at its end.

    MCP calls share no session, and Gradio 6.31 stumbles over actions that return one. The page itself works on as it did. The names of
    the tools end in "image", since the page's own /compare and /what_if keep theirs.
    """
    for action in demo.fns.values():
        if action.api_visibility == "public":
            action.api_visibility = "undocumented"
    _add(analyze_image, [_image("image"), _backbone()])
    _add(compare_images, [_image("first"), _image("second"), _backbone()])
    _add(what_if_image, [_image("image"), *_changes()])
    _add(report_image, [_image("image"), _backbone()], gr.File(visible=False, label="report"))


def _add(tool: Any, inputs: list[Any], output: Any = None) -> None:
    answer = output or gr.Textbox(visible=False, label="answer")  # gr.JSON would reach the client as Python's notation
    gr.Button(visible=False).click(tool, inputs, answer, api_name=tool.__name__, concurrency_id="model")


def _image(label: str) -> gr.Image:
    image = gr.Image(type="filepath", image_mode=None, visible=False, label=label)
    setattr(image, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
    return image


def _backbone() -> gr.Textbox:
    return gr.Textbox(EMBEDDED, visible=False, label="backbone")


def _changes() -> list[Any]:
    """One input for each argument of `what_if_image` after the image."""
    operation = parts.accept_any(gr.Dropdown([what_if.NONE, *OPERATIONS], value=what_if.NONE, visible=False, label="operation"))
    start, names = what_if.Settings(), ("strength", "jpeg", "scale", "blur")
    return [operation, *[gr.Slider(*what_if.RANGES[name], getattr(start, name), visible=False, label=name) for name in names]]
