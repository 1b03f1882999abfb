"""Full screen: one element of the page alone, in large type, for a projector. `page.js` and `page.css` do the work."""

from __future__ import annotations

import gradio as gr


def full_screen_button(of: str) -> None:
    """A button that shows one element alone, in the browser's full screen where that is allowed. of: the element's id."""
    gr.HTML(f'<button type="button" data-slides="{of}" aria-pressed="false">Full screen</button>', elem_classes="slides-button")
