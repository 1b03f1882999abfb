"""The page with two backbones: which detector leads and speaks in each panel, and which backbone leaves the memory first."""

import gradio as gr
import pytest

from detector.data.images import load_photo
from interpret.panels import model, probe, service, story

LARGE = "ViT-L-14-336-quickgelu/openai"
CONCEPTS = "vit-l-14-336/concepts@synthclic-combined"


@pytest.fixture
def page(both, suite, monkeypatch):
    monkeypatch.setattr(service, "_suites", {"embedded": suite, LARGE: both})


def test_every_panel_is_filled_and_names_its_detector(page, picture):
    record, current = service.analyze(picture, LARGE)
    assert record["leader"] == CONCEPTS
    source = service.PanelSource(current, service.suite_of(current), load_photo(picture))
    values = {panel.title: panel.show(source) for panel in story.PANELS}
    speaks = {
        "Photographic concepts": CONCEPTS,
        "Orthogonal units": "vit-l-14-336/orthogonal@synthclic-combined",
        "Pixel residual": "pixels/residual",
        "Physical descriptors": "pixels/physical",
    }
    for title, name in speaks.items():
        assert values[title].chart is not None and len(values[title].table) > 3 and f"{name} speaks here" in values[title].trust
    assert CONCEPTS in values["All methods"].trust and len(values["All methods"].table) == len(record["detectors"]) == 20
    words = values["Image against caption"]
    assert words.words == record["item"]["caption"] and words.score.visible and "embedded/item speaks here" in words.null_reading
    assert values["Semantic discrepancy"].body.visible and "order: -1" in story.show_verdict(current).card


def test_probing_and_switching_work_on_the_detector_that_leads(page, picture):
    record, current = service.analyze(picture, LARGE)
    words = probe.switch(current, [], [record["concepts"][0]["name"]])
    assert "The verdict" in words and "weigh little" not in words
    assert "vit-l-14-336" in probe.probe(current, "a dog").reading
    dropped = probe.drop(current, "Concept model")
    assert "Measured on embedded" in dropped.drop_reading and dropped.auroc.visible  # the large one has no reference images


def test_a_detector_s_name_in_place_of_the_backbone_s_chooses_who_leads(page, picture):
    record, current = service.analyze(picture, "vit-l-14-336/linear@synthclic-cnnspot")
    assert record["leader"] == "vit-l-14-336/linear@synthclic-cnnspot" and record["backbone"] == LARGE
    assert record["verdict"]["logit"] == record["detectors"]["clip-cues/linear_probe_cnnspot"]["logit"]
    refused, nobody = service.analyze(picture, "vit-l-14-336/magic")
    assert nobody is None and "not offered" in refused["error"] and "magic" not in refused["error"]


def test_the_list_of_leaders_and_the_sentence_follow_the_choice(page):
    leaders = model.list_leaders(LARGE)
    assert leaders.value == CONCEPTS and "embedded/verdict" in [name for name, _ in leaders.choices]
    in_use, backbone, _, sentence = model.use_model("embedded/sdd", LARGE)
    assert (in_use, backbone) == ("embedded/sdd", "embedded") and "embedded/sdd leads" in sentence


def test_the_backbone_used_least_recently_leaves(page, both, suite, monkeypatch):
    monkeypatch.setattr(service, "SUITE_LIMIT", 0)
    monkeypatch.setattr(type(suite), "alone", lambda name, *rest: both)
    service.get_suite("ViT-L-14-quickgelu/openai")
    assert set(service._suites) == {"embedded", "ViT-L-14-quickgelu/openai"}
    monkeypatch.setattr(service, "SUITE_LIMIT", 2**30)
    service.get_suite(LARGE)
    service.get_suite("ViT-L-14-quickgelu/openai")
    assert [name for name in service._suites if name != "embedded"] == [LARGE, "ViT-L-14-quickgelu/openai"]  # room for both


def test_the_environment_names_who_leads_first(monkeypatch):
    monkeypatch.setenv("CUESCOPE_DETECTORS", "nobody/knows, embedded/sdd")
    assert service.first_choice() == "embedded/sdd"
    with gr.Blocks():
        controls = model.build_model()
    assert controls.in_use.value == controls.leader.value == "embedded/sdd"
