"""docs/extending.md, followed to the letter: its method trains, travels in a file and takes part in the verdict."""

import re
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from paths import ROOT
from tiny import write_tiny

from detector.methods import registry
from detector.methods.physical import features as physical
from detector.suite import Suite
from detector.training.train import TrainingRun, train_heads

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def code(name: str) -> str:
    return re.search(rf"<!-- {name} -->\n```python\n(.*?)```", TEXT, re.DOTALL).group(1)


@pytest.fixture
def method(monkeypatch) -> str:
    """The page's method, as if its two files and its entry were in the project."""
    for name in ("detector.methods.detail", "detector.methods.detail.head", "detector.methods.detail.train"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for part in ("head", "train"):
        module = sys.modules[f"detector.methods.detail.{part}"]
        exec(compile(code(part), f"docs/extending.md, {part}", "exec"), module.__dict__)
    head = sys.modules["detector.methods.detail.head"].DetailHead
    entry = eval(code("entry"), {"Method": registry.Method, "DetailHead": head, "physical": physical})
    monkeypatch.setitem(registry.METHODS, entry.name, entry)
    monkeypatch.setitem(registry.PIXEL_METHODS, entry.name, entry.features)
    return entry.name


@pytest.fixture
def data(tmp_path):
    """Real: soft noise. Synthetic: sharp noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 12)):
        for index in range(count):
            image = cv2.GaussianBlur(generator.integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 0.6 if index % 2 else 3.0)
            path = tmp_path / "data" / split / ("synthetic" if index % 2 else "real") / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    return tmp_path / "data"


def test_the_method_of_the_page_works(method, data, tmp_path):
    backbone = write_tiny(tmp_path / "tiny", decoder=False)
    written = train_heads([method, "linear_probe"], TrainingRun([data], str(backbone), out=backbone / "heads", copies=1))
    assert written[method].name == "detail.safetensors"
    suite = Suite.load(str(backbone))
    assert set(suite.fusion.methods) == {method, "linear_probe"} and suite.cards[method].fingerprint == physical.VERSION
    soft, sharp = (suite.analyze(data / "val" / name).to_dict() for name in ("real/0.png", "synthetic/1.png"))
    assert soft["detectors"][method]["logit"] < 0 < sharp["detectors"][method]["logit"]
    assert soft["verdict"]["contributions"][method] < sharp["verdict"]["contributions"][method]
    head, evidence = suite.heads[method], suite.evidence([np.zeros((80, 80, 3), np.uint8)])
    assert head.contributions(evidence.descriptors).sum(1) + head.bias == pytest.approx(head.score(evidence).logit)
