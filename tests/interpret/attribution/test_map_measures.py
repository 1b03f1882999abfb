"""interpret/attribution/map_measures.py: what was measured of a head's maps stays with that head, and is said plainly."""

from dataclasses import replace

import pytest
from small_models import Head, Red
from test_faithfulness import passing, reddish_examples

from detector.data.datasets import DataError
from interpret.attribution import cam
from interpret.attribution import map_measures as mapcard
from interpret.attribution.exact import COMBINED_LAYER, RESIDUAL_LAYER, MapHeads
from interpret.attribution.faithfulness import MeasurePlan
from interpret.attribution.map_measures import Measures


def planted(gain: float = 4.0) -> Head:
    head = Head(Red(), size=64)
    head.model.gain.data.fill_(gain)
    head.tensors = lambda: dict(head.model.state_dict())
    return head


def heads(gain: float = 4.0) -> MapHeads:
    return MapHeads(planted(gain))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return reddish_examples(tmp_path_factory.mktemp("data"), ["val", "test_unseen"])


@pytest.fixture(scope="module")
def measured(examples):
    return mapcard.measure(heads(), examples, ["test_unseen"], MeasurePlan(1, images=4, splices=3, subset=3, shuffles=2))


def test_what_is_stored_comes_back(measured, tmp_path):
    mapcard.save(measured, tmp_path / "new" / "maps.json")
    text = (tmp_path / "new" / "maps.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    found = mapcard.read(tmp_path / "new" / "maps.json", heads())
    assert found.scale("difference") == measured["scales"]["difference"] > 0
    assert found.trust("difference") == Measures(measured["scales"], measured, "test_unseen").trust("difference")
    assert found.failed("difference") is not None


def test_another_head_does_not_borrow_the_trust(measured, tmp_path):
    mapcard.save(measured, tmp_path / "maps.json")
    other = mapcard.read(tmp_path / "maps.json", heads(gain=4.1))
    assert other == Measures() == mapcard.read(tmp_path / "none.json", heads())
    assert "has not been measured" in other.trust("difference") and other.scale("difference") == mapcard.UNMEASURED_SCALE


def test_scales_come_from_validation_images_alone(measured, examples):
    from detector.data.images import load_photo

    pictures = [load_photo(e.path).pixels for e in examples if e.split == "val"]
    assert measured["scales"]["difference"] == pytest.approx(mapcard.reference_scales(heads(), pictures)["difference"])


def test_the_default_tells_the_origins_best_on_validation_images(measured, examples, monkeypatch):
    assert measured["default"] == "difference" and measured["validation"]["difference"] > 0.9
    values = {"difference": (0.9, 0.4), "tokens": (0.7, 0.7)}  # the first points at content: right one way, wrong the other
    kinds = {name: dict(zip(mapcard.DIRECTED, ({"auroc": [v] * 3} for v in pair), strict=True)) for name, pair in values.items()}
    monkeypatch.setattr(mapcard, "measure_splices", lambda *rest: {"maps": {name: {"kinds": kinds[name]} for name in kinds}})
    monkeypatch.setattr(MapHeads, "layers", lambda self: ["difference", "tokens", cam.ERROR_LAYER])
    found = mapcard.choose_default(heads(), [e for e in examples if e.split == "val"], MeasurePlan())
    assert found == {"default": "tokens", "validation": {"difference": pytest.approx(0.65), "tokens": pytest.approx(0.7)}}


def test_a_split_must_have_both_classes(examples):
    with pytest.raises(DataError, match="no split 'train'"):
        mapcard.of_splits(examples, ["train"])
    with pytest.raises(DataError, match="no images of both classes"):
        mapcard.of_splits([e for e in examples if e.label], ["val"])
    assert {e.split for e in mapcard.of_splits(examples, ["test_unseen"])} == {"test_unseen"}
    assert mapcard.default_splits(examples) == ["test_unseen"]
    with pytest.raises(DataError, match="name one with --split"):
        mapcard.default_splits([e for e in examples if e.split == "val"])


def test_a_split_of_one_of_several_folders(examples):
    corpora = [replace(e, corpus=("web", "detection")[i % 4 // 2]) for i, e in enumerate(examples)]
    assert {(e.corpus, e.split) for e in mapcard.of_splits(corpora, ["web/test_unseen"])} == {("web", "test_unseen")}
    both = mapcard.of_splits(corpora, ["web/test_unseen", "detection/test_unseen"])
    assert both == mapcard.of_splits(corpora, ["test_unseen"])


def test_trust_in_words():
    results = passing()
    assert "**beats its baselines**" in Measures({}, results, "test_unseen").trust("difference")
    assert Measures({}, results).worth("difference") == "AUROC 0.80 on splices, chance 0.50" != Measures().worth("difference")
    results["curves"]["difference"]["deletion"]["gain"]["edges"] = [0.1, -0.1, 0.3]
    results["splices"]["maps"]["difference"]["gain"]["synthetic in real"]["auroc"] = [0.0, -0.1, 0.1]
    words = Measures({}, results, "test_unseen").trust("difference")
    assert "does not beat its baselines" in words and "30 splices of each kind, test_unseen" in words
    assert "deletion against edges and synthetic in real, against edges" in words


def test_another_residual_head_does_not_borrow_the_trust_in_its_map(measured, tmp_path):
    stored = measured | {"fingerprints": measured["fingerprints"] | {"residual": "other"}, "default": RESIDUAL_LAYER}
    mapcard.save(stored, tmp_path / "maps.json")
    found = mapcard.read(tmp_path / "maps.json", heads())
    assert found.stale == (RESIDUAL_LAYER, COMBINED_LAYER) and found.default == cam.DEFAULT_LAYER
    assert found.failed(RESIDUAL_LAYER) is None and found.failed("difference") is not None


def test_a_file_of_an_older_version_is_as_none(tmp_path):
    (tmp_path / "maps.json").write_text('{"fingerprint": "6a667ac8f51f858b", "scales": {}}')
    assert mapcard.read(tmp_path / "maps.json", heads()) == Measures()


def test_nan_fails_its_test_also_when_stored(measured, tmp_path):
    import copy

    undefined = copy.deepcopy(measured)
    undefined["randomisation"]["difference"]["all"] = [float("nan")] * 3
    mapcard.save(undefined, tmp_path / "maps.json")
    assert "needing the trained weights" in mapcard.read(tmp_path / "maps.json", heads()).failed("difference")


def test_the_report_names_the_split(measured):
    text = mapcard.report(measured)
    assert (
        text.startswith("Measured on test_unseen; colours scaled on val. Shown first: difference") and "| difference | deletion |" in text
    )


def test_the_command_measures_and_fills_the_card(monkeypatch, examples, tmp_path, capsys):
    from types import SimpleNamespace

    from detector import Suite
    from detector.cli.main import main

    planted_suite = SimpleNamespace(heads={"sdd": planted()})
    planted_suite.roster = SimpleNamespace(suite_for=lambda method: planted_suite)
    monkeypatch.setattr(Suite, "alone", classmethod(lambda cls, *rest: planted_suite))
    data = examples[0].path.parent
    rows = [f"{e.path.name},{e.split},{e.label},{e.source}\n" for e in examples]
    (data / "manifest.csv").write_text("file,split,label,source\n" + "".join(rows))
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- maps -->\nold\n<!-- end maps -->\nafter\n")
    command = [
        "measure-maps",
        "--data",
        str(data),
        "--images",
        "4",
        "--splices",
        "2",
        "--split",
        "test_unseen",
        "--out",
        str(tmp_path / "maps.json"),
    ]
    assert main([*command, "--write", str(card)]) == 0
    assert "| difference |" in card.read_text() and "old" not in card.read_text()
    assert mapcard.read(tmp_path / "maps.json", heads()).results["counts"]["splices"] == 2
    card.write_text("no marks")
    assert main([*command, "--write", str(card)]) == 1
    assert "no marks" in capsys.readouterr().err


def test_a_fingerprint_follows_every_number():
    assert mapcard.fingerprint(planted()) == mapcard.fingerprint(planted()) != mapcard.fingerprint(planted(4.0001))
