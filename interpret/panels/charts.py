"""Panels that show what an analysis holds: all methods, and a sentence, a chart and its table for each of four methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr

from interpret.panels import components as parts
from interpret.panels.service import PanelSource
from interpret.render import figures
from interpret.render import text as report
from interpret.render.cards import both, orthogonal_card, residual_card

if TYPE_CHECKING:
    import plotly.graph_objects as go


# --- methods -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodsPanel:
    """trust: how good the verdict is. summary: text to copy. table: the methods. view, view_reading: the pixels that CLIP reads."""

    trust: gr.Markdown
    summary: gr.Textbox
    table: gr.Dataframe
    view: gr.Image
    view_reading: gr.Markdown


class MethodsValues(NamedTuple):
    """Values of `MethodsPanel`."""

    trust: str
    summary: str
    table: list[list[str]]
    view: str
    view_reading: str


def build_methods() -> MethodsPanel:
    """Table and summary of all methods, and the pixels that CLIP reads."""
    with gr.Row(elem_classes="stack"):
        with gr.Column(scale=3):
            parts.heading("methods", "methods")
            table = parts.table(
                ["method", "probability of synthetic", "share of verdict"],
                "Methods and their shares of the verdict",
                ["46%", "27%", "27%"],
                10,
            )
            trust = parts.reading("expert")
            summary = gr.Textbox(label="Summary to copy", lines=4, buttons=["copy"], interactive=False)
        with gr.Column(scale=2):
            gr.Markdown("#### The exact pixels")
            view = gr.Image(label="What CLIP reads", format="png", interactive=False, height=220, buttons=["fullscreen", "download"])
            return MethodsPanel(trust, summary, table, view, parts.reading())


def show_methods(source: PanelSource) -> MethodsValues:
    """The scores of all methods, and the pixels that CLIP reads."""
    view, record = source.suite.backbone.view(source.photo), source.record
    return MethodsValues(
        parts.trust(record, "verdict"),
        report.summary(record),
        report.method_rows(record),
        parts.picture_file(view.pixels),
        report.view_reading(view),
    )


# --- a sentence, a chart, a table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChartTexts:
    """The fixed words of a panel with a chart. name: key of its text in `HOW` and id of the chart. method: as in
    an analysis' "detectors". chart, table: labels. headers, widths: of the table's columns; rows: visible before it scrolls."""

    name: str
    method: str
    chart: str
    table: str
    headers: Sequence[str]
    widths: Sequence[str]
    rows: int


@dataclass(frozen=True)
class ChartPanel:
    """reading: one sentence. trust: how good the method is. chart, table: the same numbers twice."""

    reading: gr.Markdown
    trust: gr.Markdown
    chart: gr.Plot
    table: gr.Dataframe


class ChartValues(NamedTuple):
    """Values of `ChartPanel`."""

    reading: str
    trust: str
    chart: go.Figure | None
    table: list[list[str]]


def build_chart(texts: ChartTexts) -> ChartPanel:
    """Heading, explanation, sentence, how good the method is, the chart, and behind "Numbers" the same as a table."""
    parts.heading(texts.method, texts.name)
    reading, trust = parts.reading(), parts.reading("expert")
    chart = parts.plot(texts.chart, texts.name)
    return ChartPanel(reading, trust, chart, parts.table([*texts.headers], texts.table, texts.widths, texts.rows))


DESCRIPTORS = ChartTexts(
    "descriptors",
    "physical",
    "Descriptors: this image between real and synthetic",
    "Value at two scales, percentile among real and among synthetic images, contribution",
    ["descriptor", "256 px", "native", "% real", "% synth.", "contribution"],
    ["32%", "16%", "16%", "11%", "13%", "12%"],
    15,
)
CONCEPTS = ChartTexts(
    "concepts",
    "concepts",
    "Concepts that push the concept model most",
    "All concepts: activation and contribution",
    ["positive pole", "negative pole", "activation", "contribution"],
    ["31%", "31%", "21%", "17%"],
    10,
)
UNITS = ChartTexts(
    "units",
    "orthogonal",
    "What each unit contributes",
    "Units: names by two methods, activation and contribution",
    ["#", "follows (correlation)", "spanned by (variance so far)", "activation", "contribution"],
    ["7%", "30%", "29%", "19%", "15%"],
    9,
)
RESIDUAL = ChartTexts(
    "residual",
    "residual",
    "Residual spectrum: this image, mean real, mean synthetic",
    "Contribution of each part",
    ["part", "contribution"],
    ["70%", "30%"],
    7,
)


@dataclass(frozen=True)
class DescriptorPanel(ChartPanel):
    """text_reading: what CLIP's text tower reads of the descriptors. views: pictures of four descriptors."""

    text_reading: gr.Markdown
    views: gr.HTML


class DescriptorValues(NamedTuple):
    """Values of `DescriptorPanel`."""

    reading: str
    trust: str
    chart: go.Figure | None
    table: list[list[str]]
    text_reading: str
    views: str


def build_descriptors() -> DescriptorPanel:
    """The chart of the descriptors, and pictures of four of them."""
    chart = build_chart(DESCRIPTORS)
    return DescriptorPanel(**vars(chart), text_reading=parts.reading(), views=gr.HTML(elem_id="views", label="What four of them measure"))


def show_descriptors(source: PanelSource) -> DescriptorValues:
    """The descriptors at both scales, and pictures of four of them."""
    from detector.methods.physical.features import describe
    from interpret.render.descriptor_views import gallery

    record, pixels = source.record, source.photo.pixels
    return DescriptorValues(
        report.descriptor_reading(record),
        parts.trust(record, DESCRIPTORS.method),
        figures.descriptor_chart(record, source.suite.heads.get("physical")),
        figures.descriptor_rows(record, describe(pixels)),
        parts.plain(report.text_reading(record)),
        gallery(pixels),
    )


def show_concepts(source: PanelSource) -> ChartValues:
    """The concepts of the concept model."""
    record = source.record
    trust = parts.trust(record, CONCEPTS.method)
    return ChartValues(report.concept_reading(record), trust, figures.concept_chart(record), figures.concept_rows(record))


def show_units(source: PanelSource) -> ChartValues:
    """The units of the orthogonal head."""
    record = source.record
    words = both(orthogonal_card(record).sentence, report.unit_reading(record))
    return ChartValues(words, parts.trust(record, UNITS.method), figures.unit_chart(record), figures.unit_rows(record))


def show_residual(source: PanelSource) -> ChartValues:
    """The residual spectrum."""
    record = source.record
    chart = figures.residual_chart(source.photo.pixels, source.suite.heads.get("residual"))
    words = both(residual_card(record).sentence, report.residual_reading(record))
    return ChartValues(words, parts.trust(record, RESIDUAL.method), chart, figures.residual_rows(record))
