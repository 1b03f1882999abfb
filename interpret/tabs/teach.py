"""Teach: a quiz, a tour of six cues, a generator to draw with, and a hand-out to print."""

from __future__ import annotations

import gradio as gr

from interpret.tabs.draw import build_draw
from interpret.tabs.handout import build_handout
from interpret.tabs.links import AnalyzeLinks
from interpret.tabs.quiz import build_quiz
from interpret.tabs.tour import build_tour


def build_teach(links: AnalyzeLinks) -> None:
    """The tab with its four parts."""
    with gr.Tabs(elem_id="teach-parts"):
        with gr.Tab("Quiz"):
            build_quiz(links)
        with gr.Tab("Tour") as tour:
            build_tour(links, tour)
        with gr.Tab("Draw"):
            build_draw(links)
        with gr.Tab("Hand-out") as handout:
            build_handout(links, handout)
