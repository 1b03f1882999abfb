"""A CoCa from the hub writes the captions: on the command line and on the page, downloaded only when somebody chooses it."""

import json

import open_clip
import pytest
import torch
from hub_server import serve
from open_clip import factory, pretrained

from detector.cli.main import main
from detector.clip import captioning
from detector.clip.backbone import Backbone
from detector.data.images import load_photo
from interpret.panels import model, service

REPOSITORY = "someone/coca"
NAME = "coca_ViT-B-32/demo"
TEXT = {"context_length": 16, "vocab_size": 600, "width": 24, "heads": 2, "layers": 1}
ARCHITECTURE = {  # of coca_ViT-B-32, but small
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16, "output_tokens": True}
    | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8},
    "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
    "multimodal_cfg": TEXT | {"attn_pooler_heads": 2},
    "custom_text": True,
}


@pytest.fixture
def coca(stand_in, monkeypatch):
    """Its random weights on the hub; its words, which mean nothing, count as usable."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, "coca_ViT-B-32", ARCHITECTURE)
    monkeypatch.setitem(pretrained._PRETRAINED, "coca_ViT-B-32", {"demo": {"hf_hub": f"{REPOSITORY}/"}})
    monkeypatch.setattr(captioning, "is_usable", bool)
    torch.manual_seed(3)
    model = open_clip.create_model("coca_ViT-B-32")
    torch.nn.init.normal_(model.text_decoder.text_projection)  # which open_clip leaves as memory happens to be
    serve(stand_in, model, REPOSITORY)
    return stand_in


def words_of(picture) -> str:
    writer = Backbone.load(NAME)
    images = writer.prepare(load_photo(picture))[None]
    return captioning.write(writer, writer.model._encode_image(images)[1])[0]


def test_the_command_line_downloads_it_and_says_who_wrote(coca, picture, capsys, monkeypatch):
    assert main(["score", picture, "--detectors", "embedded/item", "--captioner", NAME]) == 0
    output = capsys.readouterr()
    item = json.loads(output.out)["item"]
    assert item["caption_source"] == NAME and item["caption"] == words_of(picture) != ""
    assert "embedded/item learned from captions that another model wrote" in output.err
    monkeypatch.setenv("CUESCOPE_CAPTIONER", NAME)
    assert main(["score", picture, "--detectors", "embedded/item"]) == 0
    assert json.loads(capsys.readouterr().out)["item"] == item
    assert [method for method, _, _ in coca.asked].count("HEAD") == 1


def test_nothing_is_asked_of_the_hub_where_no_caption_is_read_or_written(coca, picture, capsys):
    assert main(["score", picture, "--detectors", "embedded/concepts", "--captioner", NAME]) == 0
    assert main(["score", picture, "--detectors", "embedded/item", "--captioner", "ViT-B-32/openai"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("'ViT-B-32/openai' writes no captions; choose 'embedded' or a CoCa") and coca.asked == []


def test_the_page_downloads_it_when_a_visitor_chooses_it(coca, suite, picture, monkeypatch):
    monkeypatch.setattr(service, "_suites", {"embedded": suite})
    monkeypatch.setattr(service, "_captioners", {})
    monkeypatch.setenv("CUESCOPE_CAPTIONER", NAME)
    assert service.analyze(picture)[0]["item"]["caption_source"] == "embedded" and coca.asked == []
    *chosen, sentence = model.use_captioner(NAME, "embedded")
    assert chosen == [NAME, NAME] and f"written by: {NAME}. embedded/item and embedded/physical_clip learned" in sentence
    record, current = service.analyze(picture, captioner=NAME)
    assert record["item"]["caption_source"] == NAME and record["item"]["caption"] == words_of(picture)
    assert service.suite_of(current).backbone.captioner is service.get_captioner(NAME)
    assert suite.backbone.captioner is None and not suite.strange_captions  # other visitors keep theirs
    for other in ("magic/<b>", 5, None):
        refused, nobody = service.analyze(picture, captioner=other)
        assert nobody is None and "is offered; there are" in refused["error"] and "magic" not in refused["error"]
        *left, sentence = model.use_captioner(other, "embedded")
        assert left == ["embedded", "embedded"] and "There is no writer of captions of that name" in sentence
    for other in ([], {"a": 1}):
        assert model.use_captioner(other, "embedded")[0] == "embedded"


def test_a_hub_out_of_reach_leaves_the_embedded_writer(coca, suite, monkeypatch):
    monkeypatch.setattr(service, "_suites", {"embedded": suite})
    monkeypatch.setattr(service, "_captioners", {})
    monkeypatch.setenv("CUESCOPE_CAPTIONER", NAME)
    coca.refusal = 503
    *chosen, sentence = model.use_captioner(NAME, "embedded")
    assert chosen == ["embedded", "embedded"] and "HTTP status 503" in sentence and "still written by: embedded" in sentence
