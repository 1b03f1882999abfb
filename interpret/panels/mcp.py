"""For MCP clients: one tool that needs no session, in place of the page's actions."""

from __future__ import annotations

import json
import os

import gradio as gr

from detector.assets import EMBEDDED
from interpret.panels.gate import image_file
from interpret.panels.service import analyze


def mcp_wanted() -> bool:
    """Whether Gradio's own switch, `GRADIO_MCP_SERVER=True`, is set."""
    return os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"


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
    return json.dumps(record or {"error": "Give an image file."}, ensure_ascii=False)


def build_tools(demo: gr.Blocks) -> None:
    """Add the tool, and take all other actions out of the list of tools; called inside the page's layout, at its end.

    MCP calls share no session, and Gradio 6.31 stumbles over actions that return one. The page itself works on as it did.
    """
    for action in demo.fns.values():
        if action.api_visibility == "public":
            action.api_visibility = "undocumented"
    image = gr.Image(type="filepath", image_mode=None, visible=False, label="image")
    setattr(image, "preprocess", image_file)  # noqa: B010 (a type checker refuses to replace a method)
    backbone = gr.Textbox(EMBEDDED, visible=False, label="backbone")
    numbers = gr.Textbox(visible=False, label="analysis")  # gr.JSON would reach the client as Python's notation
    gr.Button(visible=False).click(analyze_image, [image, backbone], numbers, api_name="analyze_image", concurrency_id="model")
