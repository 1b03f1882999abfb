"""The whole analysis and the JSON contract, on the shipped embedded model."""

import json

import numpy as np
import pytest
from PIL import Image

from detector.clip.vocabulary import vocabulary
from detector.data.images import ImageError, load_photo
from detector.methods.physical.features import NAMES, measure
from detector.methods.registry import METHODS, expected_card, find_heads
from detector.suite import Suite
from detector.verdict.files import FusedVerdict


@pytest.fixture(scope="module")
def record(suite, picture):
    return suite.analyze(picture).to_dict()


def test_contract(record):
    assert record["error"] is None and record["format"] == "JPEG" and record["backbone"] == "embedded"
    assert (record["height"], record["width"]) == (256, 384) or record["height"] == 256
    assert "reason" not in record["verdict"]
    assert record["verdict"]["label"] in ("synthetic", "real", "inconclusive") and 0 <= record["verdict"]["probability"] <= 1
    assert set(record["detectors"]) == set(METHODS)
    for score in record["detectors"].values():
        assert score["probability"] == pytest.approx(1 / (1 + np.exp(-score["logit"])))
    assert tuple(record["physical"]) == NAMES and len(NAMES) == 15
    assert len(record["concepts"]) == len(vocabulary())
    assert set(record["concepts"][0]) == {"name", "positive", "negative", "activation", "contribution"}
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_every_part_adds_up_to_its_logit(record):
    detectors, orthogonal = record["detectors"], record["orthogonal"]
    assert orthogonal["bias"] == pytest.approx(detectors["orthogonal"]["bias"])
    parts = {
        "orthogonal": orthogonal["contributions"],
        "concepts": [c["contribution"] for c in record["concepts"]],
        "physical": record["physical_contributions"].values(),
        "residual": record["residual"].values(),
    }
    for method, values in parts.items():
        assert sum(values) + detectors[method]["bias"] == pytest.approx(detectors[method]["logit"], abs=1e-3)
    verdict = record["verdict"]
    assert sum(verdict["contributions"].values()) + verdict["bias"] == pytest.approx(verdict["logit"])


def test_descriptors_are_those_of_the_pixels(record, picture):
    np.testing.assert_allclose(list(record["physical"].values()), measure(load_photo(picture).pixels))


def test_same_image_same_numbers_alone_in_a_batch_or_as_array(suite, record, picture, photographs):
    photo = load_photo(picture)
    batch = suite.analyze_photos([load_photo(photographs[1]), photo, photo])
    for other in (batch[1].to_dict(), batch[2].to_dict(), suite.analyze(photo.pixels).to_dict()):
        assert other["verdict"]["logit"] == pytest.approx(record["verdict"]["logit"], abs=1e-4)
    assert batch[0].to_dict()["verdict"]["logit"] != pytest.approx(record["verdict"]["logit"], abs=1e-3)


def test_files_come_back_in_order_with_their_errors(suite, picture, tmp_path):
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.png"
    broken.write_bytes(open(picture, "rb").read()[:2000])
    found = list(suite.analyze_files([picture, broken, missing, picture], batch_size=3))
    assert [a.file for a in found] == [picture, str(broken), str(missing), picture]
    assert [a.error is None for a in found] == [True, False, False, True]
    assert found[0].verdict.logit == pytest.approx(found[3].verdict.logit, abs=1e-4)
    assert set(found[1].to_dict()) == {"file", "width", "height", "format", "error", "backbone"}


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (2, 2), (2_000_000, 1), (1, 2_000_000)])
def test_odd_sizes_are_analysed(suite, size):
    record = suite.analyze(Image.new("RGB", size, (120, 90, 60))).to_dict()
    json.dumps(record, allow_nan=False)
    assert (record["width"], record["height"]) == size


@pytest.mark.parametrize(
    "image, words",
    [
        (Image.new("RGB", (1, 1)), "smaller than 64"),
        (Image.effect_noise((63, 300), 60), "smaller than 64"),
        (Image.new("RGB", (300, 200), (90, 120, 60)), "flat"),
    ],
)
def test_images_with_too_little_to_judge_get_no_label(suite, image, words):
    verdict = suite.analyze(image).to_dict()["verdict"]
    assert verdict["label"] == "inconclusive" and words in verdict["reason"]


def test_no_image_is_an_image_error(suite):
    with pytest.raises(ImageError):
        suite.analyze(b"not an image")


def verdict_of(suite, heads):
    return FusedVerdict(suite.fusion.restrict(tuple(method for method in suite.fusion.methods if method in heads)))


@pytest.mark.parametrize("missing", sorted(METHODS))
def test_the_page_copes_with_any_missing_method(suite, picture, missing, monkeypatch):
    import gradio as gr

    from interpret.panels import service, story
    from interpret.panels.components import outputs

    fewer = {name: head for name, head in suite.heads.items() if name != missing}
    monkeypatch.setitem(service._suites, "embedded", Suite(suite.backbone, fewer, suite.cards, verdict_of(suite, fewer)))
    record, seen = service.analyze(picture)
    with gr.Blocks():
        places = story.build_story()
    for panel, place in zip(story.PANELS, places, strict=True):
        values = panel.show(service.PanelSource(seen, service.suite_of(seen), load_photo(picture)))
        assert type(values) is panel.values and len(outputs(place.components, panel.values)) == len(values)
    assert missing not in record["detectors"]


def test_methods_without_a_head_are_absent(suite, picture):
    fewer = {name: head for name, head in suite.heads.items() if name in ("physical", "orthogonal")}
    small = Suite(suite.backbone, fewer, suite.cards, verdict_of(suite, fewer))
    record = small.analyze(picture).to_dict()
    assert set(record["detectors"]) == set(record["verdict"]["contributions"]) == {"physical", "orthogonal"}
    assert "concepts" not in record and "residual" not in record


def test_shipped_heads_belong_to_the_shipped_backbone(suite):
    assert set(find_heads("embedded")) == {*METHODS, "verdict", "reference"}
    for method, card in suite.cards.items():
        assert card.method == method and card.labels == "0 real, 1 synthetic" and card.training_data and card.command
        assert card.fingerprint == expected_card(method, suite.backbone).fingerprint and len(card.digest) == 64
    assert len(suite.cards["orthogonal"].details["names"]) == 8


# --- captions ------------------------------------------------------------------------------------------------------


def test_the_user_s_caption_is_the_one_that_is_read(suite, picture):
    made, given = suite.analyze(picture), suite.analyze(picture, caption="a red bus\tnear a dog")
    assert made.item["caption_source"] == "embedded" and given.item["caption_source"] == "user"
    assert given.item["caption"] == "a red bus near a dog" and [o["phrase"] for o in given.item["objects"]] == ["bus", "dog"]
    assert given.physical_text.startswith("a red bus") and given.to_dict()["physical_text"] == given.physical_text
    again = suite.analyze(picture, caption="a red bus\tnear a dog")
    assert again.item == given.item and again.verdict.logit == pytest.approx(given.verdict.logit, abs=1e-6)
    for method in ("item", "physical_clip"):
        assert given.detectors[method]["logit"] != made.detectors[method]["logit"]
    assert given.detectors["orthogonal"] == made.detectors["orthogonal"]


def test_a_caption_without_words_leaves_item_out_and_the_verdict_in(suite, picture):
    analysis = suite.analyze(picture, caption="?! …")
    record = json.loads(json.dumps(analysis.to_dict(), allow_nan=False))
    assert "item" not in record["detectors"] and record["item"]["caption"] == "" and record["item"]["global"] is None
    assert record["verdict"]["contributions"]["item"] == 0
    assert sum(record["verdict"]["contributions"].values()) + record["verdict"]["bias"] == pytest.approx(record["verdict"]["logit"])


def test_no_caption_is_written_where_no_method_reads_one(suite, picture):
    plain = Suite(suite.backbone, {"orthogonal": suite.heads["orthogonal"]}, suite.cards, None)
    assert plain.evidence([load_photo(picture)]).alignment is None and plain.item_reference is None
    assert plain.analyze(picture, caption="a dog").item["caption"] == "a dog"


def test_what_an_item_score_is_compared_with(suite):
    reference = suite.item_reference
    assert len(reference.captions) == 200 and len(reference.real) > 100 and len(reference.synthetic) > 100
    assert reference.synthetic.mean() > reference.real.mean()
