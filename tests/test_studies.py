"""detector/studies.py on planted features: known answers come out, and the tables hold them."""

import json

import numpy as np
import pytest
import torch

from detector.backbone import ClipFeatures
from detector.concepts import ConceptHead
from detector.heads import Evidence
from detector.studies import STUDIES, Corpus, halves, load_corpus, mean_ap, sparsity, spread
from detector.train import Table


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
    return Corpus("planted", table(1600, 0, strength), table(120, 1, strength), {"test": table(200, 2, strength)})


class Words:
    """A backbone that only encodes texts, as random unit vectors."""

    def encode_text(self, texts):
        generator = torch.Generator().manual_seed(len(texts))
        return torch.nn.functional.normalize(torch.randn(len(texts), 12, generator=generator), dim=1)


def test_mean_ap_weighs_sources_alike():
    labels = np.array([0, 0, 1, 1, 1, 1])
    t = table(6, 0, {"x": 0.0})
    t = Table(t.evidence, labels, np.array(["camera", "camera", "a", "b", "b", "b"]), t.copy)
    # a lies above all reals (AP 1); every b below both reals (AP of 3 positives ranked 3, 4, 5)
    expected = (1 + np.mean([1 / 3, 2 / 4, 3 / 5])) / 2
    assert mean_ap(t, np.array([1.0, 2, 9, -1, -2, -3])) == pytest.approx(expected)


def test_units_find_the_planted_direction_whatever_their_number(corpus):
    result = STUDIES["units"].run([corpus], None, 2)
    for name, row in result["rows"].items():
        found = row["measures"]["test"]["auroc"]
        assert 0.6 < found["mean"] < 0.85 and found["low"] <= found["mean"] <= found["high"], name  # half of the sources is chance
    assert 0 <= result["rows"]["8 units"]["axes"] <= 1 and result["rows"]["8 units"]["boundary"] > 0.8
    text = STUDIES["units"].report(json.loads(json.dumps(result)))
    assert text.count("\n|") >= 6 and "at most 0.03" in text and "16 units" in text


def test_sparsity_by_hand():
    # two concepts: gates of 1 and of 0 for every image, so one contributes all
    head = ConceptHead(torch.eye(2), torch.zeros(2, 2), torch.tensor([20.0, -20.0]), torch.ones(2), torch.tensor(0.0))
    found = sparsity(head, torch.tensor([[1.0, 1.0], [1.0, 0.5]]))
    assert found == {"open": 1.0, "ever": 1.0, "needed": 1.0}


def test_concepts_study_reports_sparsity_beside_the_probe(corpus):
    result = STUDIES["concepts"].run([corpus], Words(), 2)
    assert set(result["rows"]) == {"linear probe", "concept model"} and result["sparsity"]["needed"]["mean"] >= 1
    assert "make up 90 %" in STUDIES["concepts"].report(json.loads(json.dumps(result)))


def test_halves_share_no_generator(corpus):
    first, second = halves(corpus)
    synthetic = [set(part.train.sources[part.train.labels == 1]) for part in (first, second)]
    assert synthetic == [{"easy"}, {"hard"}]
    assert (first.train.labels == 0).sum() == (corpus.train.labels == 0).sum()


def test_trained_on_one_tested_on_the_other(corpus, monkeypatch):
    from detector import studies
    from detector.orthogonal import fit_linear_probe

    probe = {"linear probe": lambda c, seed: fit_linear_probe(c.train.pooled(), c.val.pooled(), seed=seed)}
    monkeypatch.setattr(studies, "cross_fitters", lambda backbone: probe)
    result = STUDIES["cross"].run([corpus], None, 1)
    cells = {key: value["auroc"]["mean"] for key, value in result["cells"].items()}
    assert cells["linear probe|A (easy)|A (easy) test"] > 0.95  # its own generator
    assert abs(cells["linear probe|A (easy)|B (hard) test"] - 0.5) < 0.15  # nothing to find there
    assert "trained on" in STUDIES["cross"].report(json.loads(json.dumps(result)))


def test_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == {"mean": 3.0, "low": 1.0, "high": 6.0}


def test_a_folder_without_splits_is_divided_into_three(tmp_path, suite):
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in ("real", "synthetic"):
        (tmp_path / name).mkdir()
        for i in range(40):
            Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name / f"{name}{i}.png")
    corpus = load_corpus(suite.backbone, tmp_path, None)
    assert set(corpus.tests) == {"test"}
    assert (corpus.train.copy == 0).sum() + len(corpus.val.labels) + len(corpus.tests["test"].labels) == 80
