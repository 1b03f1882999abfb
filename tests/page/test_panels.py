"""interpret/panels: every panel names its values like its components, and an action's values arrive where their names say."""

from dataclasses import fields
from typing import NamedTuple

import gradio as gr
import pytest
from gradio.components import Component

from interpret.panels import item, probe, sdd, stability, story
from interpret.panels.components import outputs

ACTIONS = {
    "/caption": item.CaptionValues,
    "/first_caption": item.CaptionValues,
    "/probe": probe.PhraseValues,
    "/drop_directions": probe.DropValues,
    "/heatmap": sdd.MapValues,
    "/faithfulness": sdd.CheckValues,
    "/blur": sdd.BlurValues,
    "/map_files": sdd.FileValues,
    "/stability": stability.StabilityValues,
}


@pytest.fixture(scope="module")
def page():
    """(page, its places)."""
    with gr.Blocks() as page:
        places = story.build_story()
        story.wire_story(places, gr.State())
    return page, places


def test_each_value_has_a_component_of_its_name(page):
    for panel, place in zip(story.PANELS, page[1], strict=True):
        names = [field.name for field in fields(place.components)]
        assert set(panel.values._fields) <= set(names), panel.title
        assert all(isinstance(getattr(place.components, name), Component | gr.Column) for name in names), panel.title
        assert outputs(place.components, panel.values) == [getattr(place.components, name) for name in panel.values._fields]


def test_the_endpoints_give_their_values_in_the_order_of_their_names(page):
    components = {id(getattr(place.components, f.name)): f.name for place in page[1] for f in fields(place.components)}
    named = {
        f"/{action.api_name}": [components[id(c)] for c in action.outputs]
        for action in page[0].fns.values()
        if action.fn and action.api_name
    }
    for endpoint, values in ACTIONS.items():
        assert named[endpoint] == [*values._fields], endpoint


def test_a_name_without_a_component_is_an_error(page):
    with pytest.raises(AttributeError, match="opposite"):
        outputs(page[1][0].components, NamedTuple("Wrong", [("opposite", str)]))
