"""What the tabs share with Analyze: its image, its choice of a detector, and the bar of tabs."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

ANALYZE = "analyze"  # id of the Analyze tab


@dataclass(frozen=True)
class AnalyzeLinks:
    """page: all of it. tabs: the bar of tabs. image: the input of Analyze, which starts an analysis when it changes. in_use: the backbone
    or detector in use. note: the sentence about it. current: the image analysed last."""

    page: gr.Blocks
    tabs: gr.Tabs
    image: gr.Image
    in_use: gr.Textbox
    note: gr.Markdown
    current: gr.State
