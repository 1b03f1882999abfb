"""detector/evaluation/studies/ on planted features: known answers come out, and the tables hold them."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import ClipFeatures
from detector.data.datasets import DataError
from detector.evaluation.studies import STUDIES, concepts, cross, sdd, units
from detector.evaluation.studies.base import Corpus, load_corpus, scores, spread
from detector.evaluation.studies.concepts import sparsity
from detector.evaluation.studies.cross import cross_fitters, foreign_tests, halves
from detector.methods.base import Evidence
from detector.methods.concepts.head import ConceptHead
from detector.methods.orthogonal.train import AffineRecipe
from detector.methods.table import Table


def table(count: int, seed: int, strength: dict[str, float], width: int = 12) -> Table:
    """Half real; synthetic sources move the first feature by their strength."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    names = sorted(strength)
    sources = np.array([names[i // 2 % len(names)] if y else "camera" for i, y in enumerate(labels)])
    features = generator.standard_normal((count, width)).astype(np.float32)
    features[:, 0] += [strength.get(s, 0.0) for s in sources]
    tensor = torch.from_numpy(features)
    described = np.column_stack([features, features[:, :3]]).astype(np.float64)
    return Table(Evidence(ClipFeatures(tensor, tensor, None), described, described), labels, sources, np.zeros(count, int))


@pytest.fixture
def corpus():
    strength = {"easy": 4.0, "hard": 0.0}
    return Corpus("planted", table(800, 0, strength), table(120, 1, strength), {"test": table(200, 2, strength)})


class Words:
    """A backbone that only encodes texts, as random unit vectors."""

    name = "embedded"  # whose embeddings are never written to the user's folder
    device = torch.device("cpu")

    def encode_text(self, texts):
        generator = torch.Generator().manual_seed(len(texts))
        return torch.nn.functional.normalize(torch.randn(len(texts), 12, generator=generator), dim=1)


@pytest.fixture
def quick(monkeypatch):
    """Both affine heads at ten times their rate: these few rows need no more."""
    recipe = AffineRecipe(rate=0.01)
    for study in (units, concepts, cross):
        for name in ("fit_linear_probe", "fit_orthogonal"):
            if hasattr(study, name):
                monkeypatch.setattr(study, name, partial(getattr(study, name), recipe=recipe))


def test_units_find_the_planted_direction_whatever_their_number(corpus, quick, monkeypatch):
    monkeypatch.setattr(units, "UNITS", (2, 8))
    result = STUDIES["units"].run([corpus], Words(), 2)
    for name, row in result["rows"].items():
        found = row["measures"]["test"]["auroc"]
        assert 0.6 < found["mean"] < 0.85 and found["low"] <= found["mean"] <= found["high"], name  # half of the sources is chance
    assert 0 <= result["rows"]["8 units"]["axes"] <= 1 and result["rows"]["8 units"]["boundary"] > 0.8
    text = STUDIES["units"].report(json.loads(json.dumps(result)))
    assert text.count("\n|") == 5 and "at most 0.03" in text and "8 units" in text


def test_sparsity_by_hand():
    # gates of 1, 0.27 and 0 for every image: |contributions| of image 1 are 1, 0.27, 0; of image 2, all 0 but 0.27
    head = ConceptHead(torch.eye(3), torch.zeros(3, 3), torch.tensor([20.0, -1.0, -20.0]), torch.ones(3), torch.tensor(0.0))
    found = sparsity(head, torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    assert found == {"above_half": 1.0, "above_tenth": 2.0, "ever": pytest.approx(1 / 3), "needed": pytest.approx((2 + 1) / 2)}


def test_sparsity_where_nothing_contributes_is_finite():
    head = ConceptHead(torch.eye(2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), torch.tensor(0.0))
    assert sparsity(head, torch.ones(1, 2))["needed"] == 1


def test_concepts_study_reports_sparsity_beside_the_probe(corpus, quick):
    result = STUDIES["concepts"].run([corpus], Words(), 1)
    assert set(result["rows"]) == {"linear probe", "concept model"} and result["sparsity"]["needed"]["mean"] >= 1
    assert result["sparsity"]["above_tenth"]["mean"] >= result["sparsity"]["above_half"]["mean"]
    assert "make up 90 %" in STUDIES["concepts"].report(json.loads(json.dumps(result)))


def test_studies_of_one_data_set_refuse_several(corpus):
    for name in ("units", "concepts"):
        with pytest.raises(DataError, match="one data folder"):
            STUDIES[name].run([corpus, corpus], Words(), 1)


def test_halves_share_no_generator(corpus):
    first, second = halves(corpus)
    synthetic = [set(part.train.sources[part.train.labels == 1]) for part in (first, second)]
    assert synthetic == [{"easy"}, {"hard"}]
    assert (first.train.labels == 0).sum() == (corpus.train.labels == 0).sum()


def with_sources(source: Table, names: list[str]) -> Table:
    """The table with its synthetic rows named so, the remaining ones by the last name."""
    renamed = source.sources.astype("<U20")
    rows = np.flatnonzero(source.labels == 1)
    renamed[rows] = [*names, *[names[-1]] * (len(rows) - len(names))]
    return Table(source.evidence, source.labels, renamed, source.copy)


def test_halves_are_cut_where_the_images_balance_and_keep_the_order_of_names(corpus):
    # 400 synthetic rows: 50 of a, 75 of b, 125 of c, 150 of d; half lies at 200, between b (125) and c (250): c is nearer
    train = with_sources(corpus.train, ["a"] * 50 + ["b"] * 75 + ["c"] * 125 + ["d"])
    val, test = (with_sources(t, ["a", "b", "c", "d"]) for t in (corpus.val, corpus.tests["test"]))
    first, second = halves(Corpus("x", train, val, {"test": test}))
    assert sorted(set(first.train.sources)) == ["a", "b", "c", "camera"]
    assert sorted(set(second.tests["test"].sources)) == ["camera", "d"]


def test_halves_that_cannot_be_made_get_one_sentence(corpus):
    one = with_sources(corpus.train, ["easy"])
    with pytest.raises(DataError, match="at least two synthetic sources"):
        halves(Corpus("x", one, corpus.val, corpus.tests))
    with pytest.raises(DataError, match="'val' has no image of the sources hard"):
        halves(Corpus("x", corpus.train, with_sources(corpus.val, ["easy"]), corpus.tests))


@pytest.fixture
def only_the_probe(quick, monkeypatch):
    probe = {"linear probe": lambda c, seed: cross.fit_linear_probe(c.train.pooled(), c.val.pooled(), seed=seed)}
    monkeypatch.setattr(cross, "cross_fitters", lambda backbone: probe)


def test_trained_on_one_half_tested_on_the_other_and_on_foreign_generators(corpus, only_the_probe):
    corpus.tests["test_foreign"] = with_sources(table(200, 3, {"easy": 4.0, "hard": 4.0}), ["new"])
    assert list(foreign_tests(corpus)) == ["test_foreign"]
    result = STUDIES["cross"].run([corpus], Words(), 1)
    cells = {(cell["trained"], cell["tested"]): cell["auroc"]["mean"] for cell in result["cells"]}
    assert set(cells) == {(a, b) for a in "AB" for b in ("A test", "B test", "test_foreign")}
    assert cells["A", "A test"] > 0.95  # its own generator
    assert abs(cells["A", "B test"] - 0.5) < 0.15  # nothing to find there
    assert cells["A", "test_foreign"] > 0.95 and result["tested"]["test_foreign"] == [100, 100]
    text = STUDIES["cross"].report(json.loads(json.dumps(result)))
    assert "A: easy; B: hard" in text and "| trained on B |" in text and "test_foreign: 100 real, 100 synthetic" in text
    assert "mAP of 0.333 on A test, 0.333 on B test, 0.500 on test_foreign" in text  # 50 of 150 each, 100 of 200


def test_two_data_sets_are_crossed_by_name(corpus, only_the_probe):
    other = Corpus("other", *(with_sources(t, ["new"]) for t in (corpus.train, corpus.val)), corpus.tests)
    result = STUDIES["cross"].run([corpus, other], Words(), 1)
    assert list(result["tested"]) == ["planted test", "other test"] and len(result["cells"]) == 4
    assert result["sets"]["other"] == ["new"] and "divided by name" not in STUDIES["cross"].report(result)
    with pytest.raises(DataError, match="same name"):
        STUDIES["cross"].run([corpus, corpus], Words(), 1)


@pytest.mark.parametrize("method", ["linear probe", "orthogonal", "concepts", "physical", "residual"])
def test_every_method_that_is_crossed_can_be_trained_and_scored(corpus, method):
    found = scores(cross_fitters(Words())[method](wide(corpus), 0), wide(corpus).tests["test"])
    assert 0 <= found["auroc"] <= 1 and 0 < found["map"] <= 1


def wide(corpus: Corpus) -> Corpus:
    """The corpus, small, with residual features of their true width."""
    from detector.methods.residual.features import FEATURES

    def grown(t: Table) -> Table:
        part = t.rows(np.arange(len(t.labels)) < 200)
        repeated = np.resize(part.evidence.residual.T, (len(FEATURES), len(part.labels))).T
        return Table(Evidence(part.evidence.clip, part.evidence.descriptors, repeated), part.labels, part.sources, part.copy)

    return Corpus(corpus.name, grown(corpus.train), grown(corpus.val), {name: grown(t) for name, t in corpus.tests.items()})


def test_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == {"mean": 3.0, "low": 1.0, "high": 6.0}


def test_a_folder_without_splits_is_divided_into_three(tmp_path):
    from PIL import Image

    from detector.clip.backbone import Backbone

    generator = np.random.default_rng(0)
    for name in ("real", "synthetic"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{name}{i}.png")
    corpus = load_corpus(Backbone.load(str(write_tiny(tmp_path / "tiny"))), tmp_path / "data", None)
    assert set(corpus.tests) == {"test"} and corpus.name == "data"
    assert (corpus.train.copy == 0).sum() + len(corpus.val.labels) + len(corpus.tests["test"].labels) == 40


def test_a_data_set_without_a_test_split_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,split,label,source\na,train,0,s\nb,train,1,s\nc,val,0,s\nd,val,1,s\n")
    with pytest.raises(DataError, match="split 'test' of .* needs images of both classes"):
        load_corpus(None, tmp_path, None)


def test_every_study_can_be_run_and_reported():
    for name, study in STUDIES.items():
        assert callable(study.run) and callable(study.report) and study.question.endswith("?"), name


def test_the_sdd_study_leaves_out_each_part_and_takes_finished_trainings_from_their_checkpoints(tmp_path, monkeypatch):
    import cv2

    from detector.clip.backbone import Backbone
    from detector.methods.sdd.train import SddTrainer

    backbone = Backbone.load(str(write_tiny(tmp_path / "tiny")))
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        for index in range(count):
            path = tmp_path / "data" / split / ("synthetic/grid" if index % 2 else "real") / f"{split}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), generator.integers(0, 256, (40, 40, 3)).astype(np.uint8))
    monkeypatch.setattr(sdd, "ABLATION_CHECKPOINTS", tmp_path / "checkpoints")
    corpus = load_corpus(backbone, tmp_path / "data", None)
    result = STUDIES["sdd"].run([corpus], backbone, 1)
    assert list(result["rows"]) == ["all", "without STS", "without CFDL", "without the enhancer"]
    assert "| without CFDL | " in STUDIES["sdd"].report(result)
    assert len(list((tmp_path / "checkpoints").glob("*.pt"))) == 4

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(SddTrainer, "run_epoch", never)
    assert STUDIES["sdd"].run([corpus], backbone, 1) == result
