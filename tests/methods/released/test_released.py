"""detector/methods/released.py: each released head is fed as its authors fed it, and shows its units and concepts in the analysis."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.hub.catalogue import SOURCES
from detector.hub.download import PublishedError
from detector.methods import published, released
from detector.methods.released import Released, fetch_released, load_released, released_features
from detector.suite import Suite

BACKBONE = "ViT-L-14-336-quickgelu/openai"
ORTHOGONAL, CONCEPT, LINEAR = ("clip-cues/clip_orthogonal_combined", "clip-cues/cm_antonyms_combined", "clip-cues/linear_probe_combined")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class FakeSource:
    method: str
    feature: str
    interpolation: str
    resize: bool


@dataclasses.dataclass(frozen=True)
class FakeHead:
    source: FakeSource
    head: object
    bias: torch.Tensor = torch.tensor(0.0)

    def logits(self, features):
        return self.head.logits(features)


def heads_for(backbone) -> dict:
    """Heads of the three kinds, as wide as the tiny backbone's features."""
    from detector.methods.concepts.head import ConceptHead
    from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead

    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    zero = torch.tensor(0.0)
    return {
        LINEAR: FakeHead(FakeSource("linear", "pooled", "bilinear", True), LinearProbe(draw(32), zero)),
        ORTHOGONAL: FakeHead(FakeSource("orthogonal", "pooled", "bilinear", True), OrthogonalHead(draw(8, 32), draw(8), draw(8), zero)),
        CONCEPT: FakeHead(
            FakeSource("concept", "projected", "bicubic", True),
            ConceptHead(torch.nn.functional.normalize(draw(5, 24), dim=1), draw(5, 24), draw(5), draw(5), zero),
        ),
        "univfd/fc": FakeHead(FakeSource("linear", "projected", "bilinear", False), LinearProbe(draw(24), zero)),
    }


def test_each_head_gets_its_own_preprocessing(tiny, image, monkeypatch):
    calls = []
    prepare = tiny.prepare
    monkeypatch.setattr(tiny, "prepare", lambda *a, **k: calls.append(k) or prepare(*a, **k))
    clip = tiny.encode(prepare(image)[None])
    features = released_features(heads_for(tiny), tiny, [image], clip)
    assert calls == [{"interpolation": "bilinear", "resize": True}, {"interpolation": "bilinear", "resize": False}]
    assert features[CONCEPT] is clip.projected  # bicubic is the model's own: no forward of its own
    expected = tiny.encode(prepare(image, interpolation="bilinear")[None]).pooled
    assert torch.equal(features[LINEAR], expected) and torch.equal(features[ORTHOGONAL], expected)
    assert not torch.allclose(features[LINEAR], clip.pooled, atol=1e-6)


def test_the_analysis_shows_released_units_and_concepts_that_add_up(tiny, image):
    record = Suite(tiny, {}, {}, None, Released(heads_for(tiny))).analyze(image).to_dict()
    assert record["heads"] == {"orthogonal": ORTHOGONAL, "concepts": CONCEPT} and "verdict" not in record
    detectors = record["detectors"]
    assert set(detectors) == {LINEAR, ORTHOGONAL, CONCEPT, "univfd/fc"}
    assert sum(record["orthogonal"]["contributions"]) + record["orthogonal"]["bias"] == pytest.approx(
        detectors[ORTHOGONAL]["logit"], abs=1e-4
    )
    assert sum(c["contribution"] for c in record["concepts"]) == pytest.approx(detectors[CONCEPT]["logit"], abs=1e-4)
    assert record["concepts"][0]["name"].startswith("concept ")  # the vocabulary has not been fetched
    assert len(record["orthogonal"]["text_span"]) == len(record["orthogonal"]["names"]) == 8


def test_another_training_set_that_is_not_here_shows_nothing(tiny, image):
    suite = Suite(tiny, {}, {}, None, Released(heads_for(tiny)))
    record = suite.with_training("cnnspot").analyze(image).to_dict()
    assert "orthogonal" not in record and "concepts" not in record and LINEAR in record["detectors"]
    assert suite.with_training("combined") is suite


def test_only_what_was_fetched_is_loaded(publish):  # noqa: F811
    assert load_released(BACKBONE).heads == {}
    for name in (ORTHOGONAL, CONCEPT):
        publish(name)
        published.fetch(name)
    found = load_released(BACKBONE, "combined")
    assert set(found.heads) == {ORTHOGONAL, CONCEPT} and found.words == ()
    assert found.shown("clip_orthogonal") == ORTHOGONAL and load_released(BACKBONE, "cnnspot").shown("cm_antonyms") is None


def test_all_are_fetched_with_one_progress(publish, mirror, monkeypatch):  # noqa: F811
    words = b"attribute_name,positive,negative,positive_prompt,negative_prompt,category,explanation\n"
    pinned = dataclasses.replace(released.VOCABULARY, size=len(words), sha256=__import__("hashlib").sha256(words).hexdigest())
    for module in (released, published):
        monkeypatch.setattr(module, "VOCABULARY", pinned)
    mirror.files[pinned.file] = words
    for name in [name for name, source in SOURCES.items() if source.backbone == BACKBONE]:
        publish(name)
    seen = []
    names = fetch_released(BACKBONE, lambda done, total: seen.append((done, total)))
    assert len(names) == 12 and len(load_released(BACKBONE).heads) == 12
    assert seen[-1][0] == seen[-1][1] and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_refusals_are_one_sentence(monkeypatch):
    with pytest.raises(PublishedError, match="No head has been released"):
        fetch_released("embedded")
    with pytest.raises(PublishedError, match="no released heads trained on 'x'"):
        load_released(BACKBONE, "x")
