"""The detector that leads, on one backbone and on two: its logit is the verdict, and its parts move it."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from detector.cli.main import main
from detector.data.images import load_photo
from detector.detectors.names import DetectorError, parse
from detector.methods.registry import METHODS
from detector.suite import Suite
from interpret.concepts import switch_off

CONCEPTS, ORTHOGONAL = "vit-l-14-336/concepts@synthclic-combined", "vit-l-14-336/orthogonal@synthclic-cnnspot"


@pytest.fixture(scope="module")
def photo(picture):
    return load_photo(picture)


@pytest.fixture(scope="module")
def record(both, photo):
    return both.analyze(photo).to_dict()


def test_beside_another_backbone_the_released_concept_head_leads_with_its_own_logit(both, large, photo, record):
    head = large.released.heads["clip-cues/cm_antonyms_combined"]
    features = large.backbone.encode(torch.stack([large.backbone.prepare(photo)])).projected
    logit, verdict = float(head.logits(features)[0]), record["verdict"]
    assert record["leader"] == verdict["detector"] == CONCEPTS and verdict["logit"] == pytest.approx(logit, abs=1e-4)
    assert verdict["probability"] == pytest.approx(expit(logit)) and verdict["label"] == ("synthetic" if logit > 0 else "real")
    assert verdict["calibration"] == "as published, not calibrated here"


def test_every_panel_is_filled_and_says_which_backbone_speaks(record, suite, photo):
    detectors, alone = record["detectors"], suite.analyze(photo).to_dict()
    assert {"orthogonal", "concepts", "item", "physical_text", "residual", "physical_contributions"} <= record.keys()
    speaks = {method: detectors[record["heads"].get(method, method)]["backbone"] for method in METHODS if method != "linear_probe"}
    large = "ViT-L-14-336-quickgelu/openai"
    assert speaks == {
        "physical": "pixels", "residual": "pixels", "orthogonal": large, "concepts": large,
        "item": "embedded", "physical_clip": "embedded", "sdd": "embedded",
    }  # fmt: skip
    for method in ("item", "physical_clip", "sdd", "concepts"):
        assert detectors[f"embedded/{method}"]["logit"] == pytest.approx(alone["detectors"][method]["logit"], abs=1e-4)
    assert record["item"] == alone["item"] and record["item"]["caption_source"] == "embedded"


def test_switching_a_concept_off_moves_the_verdict_by_its_contribution(both, record):
    strongest = record["concepts"][0]
    result = switch_off(both, record, [], [strongest["name"]])
    after = record["verdict"]["logit"] - strongest["contribution"]
    assert abs(strongest["contribution"]) > 0.01 and result.probabilities[1] == pytest.approx(expit(after))


def test_another_leader_gives_its_own_verdict_and_its_own_parts(both, photo):
    led = both.with_leader(parse(ORTHOGONAL)).analyze(photo).to_dict()
    assert led["heads"]["orthogonal"] == "clip-cues/clip_orthogonal_cnnspot"
    assert sum(led["orthogonal"]["contributions"]) + led["orthogonal"]["bias"] == pytest.approx(led["verdict"]["logit"], abs=1e-4)
    small = both.with_leader(parse("embedded/concepts")).analyze(photo).to_dict()
    assert small["heads"]["concepts"] == "embedded/concepts" and len(small["concepts"]) == 236


def test_the_fusion_of_the_embedded_model_can_lead_beside_another_backbone(both, suite, photo):
    fused, alone = both.with_leader(parse("embedded/verdict")).analyze(photo), suite.analyze(photo)
    assert fused.verdict.logit == pytest.approx(alone.verdict.logit, abs=1e-4) and alone.leader == fused.leader == "embedded/verdict"


def test_a_method_that_leads_alone_speaks_through_its_validation_images(suite, photo):
    led = suite.with_leader(parse("embedded/sdd"))
    verdict, fusion = led.analyze(photo).verdict, suite.fusion.restrict(("sdd",))
    assert verdict.calibration == "calibrated" and np.isfinite(fusion.band).all()
    assert verdict.logit == pytest.approx(fusion.decide({"sdd": suite.analyze(photo).detectors["sdd"]["logit"]}).logit)


def test_a_leader_without_an_answer_gives_no_label(suite, photo):
    verdict = suite.with_leader(parse("embedded/item")).analyze(photo, caption="?!").verdict
    assert verdict.label == "inconclusive" and "choose another" in verdict.reason


def test_own_heads_do_not_hide_released_ones(large, suite):
    class Own:
        weight = torch.ones(8, 32)

    trained = Suite(large.backbone, {**large.heads, "orthogonal": Own()}, large.cards, large.verdict, large.released)
    assert trained.head_of("orthogonal") == "clip-cues/clip_orthogonal_combined"
    assert "ViT-L-14-336-quickgelu/openai" in {name.backbone for name in trained.roster.names.values()}
    assert {"orthogonal", "clip-cues/clip_orthogonal_combined"} <= trained.roster.names.keys()
    own = trained.with_leader(parse("vit-l-14-336/orthogonal"))
    assert own.head_of("orthogonal") == "orthogonal"


def test_features_of_a_backbone_are_computed_once_for_all_its_heads(both, large, suite, photo, monkeypatch):
    counts = {}
    for part in (large, suite):
        encode = part.backbone.encode

        def counted(images, encode=encode, name=part.backbone.name, **options):
            counts[name] = counts.get(name, 0) + 1
            return encode(images, **options)

        monkeypatch.setattr(part.backbone, "encode", counted)
    both.evidence([photo], ["a photograph"])
    assert counts["ViT-L-14-336-quickgelu/openai"] == 2  # bicubic for the concept heads and bilinear for the others, of twelve heads


def test_a_head_that_is_not_here_gets_one_sentence(suite):
    with pytest.raises(DetectorError, match="not here; fetch it with .*--fetch clip-cues/cm_antonyms_combined"):
        suite.with_leader(parse(CONCEPTS))


def test_the_command_line_takes_a_leader_and_the_environment_names_one(picture, tmp_path, capsys, monkeypatch):
    import json

    def leader(*options):
        assert main(["score", picture, *options]) == 0
        return json.loads(capsys.readouterr().out)["leader"]

    assert leader("--detector", "embedded/sdd") == "embedded/sdd" and leader() == "embedded/verdict"
    monkeypatch.setenv("CUESCOPE_DETECTORS", "embedded/concepts, embedded/sdd")
    assert leader() == "embedded/concepts" and leader("--detector", "pixels/residual") == "pixels/residual"
    assert main(["score", picture, "--detector", "embedded/magic"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "is no detector" in sentence
