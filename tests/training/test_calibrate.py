"""Calibration on the user's images: own and released heads, the same numbers after a restart, reference features for any backbone."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from tiny import write_tiny

from detector.cli.main import main
from detector.clip.backbone import Backbone
from detector.data.images import load_photo
from detector.methods.base import HeadError
from detector.methods.concepts.head import ConceptHead
from detector.methods.orthogonal.head import OrthogonalHead
from detector.methods.registry import PIXEL_METHODS, home_folder
from detector.methods.released import Released
from detector.suite import Suite
from interpret.concepts import drop_curve, probe

ORTHOGONAL, CONCEPT = "clip-cues/clip_orthogonal_combined", "clip-cues/cm_antonyms_combined"


@dataclass(frozen=True)
class Source:
    method: str
    feature: str
    interpolation: str
    sha256: str
    resize: bool = True


@dataclass(frozen=True)
class Head:
    source: Source
    head: OrthogonalHead | ConceptHead
    bias: torch.Tensor = torch.tensor(0.0)

    def logits(self, features):
        return self.head.logits(features)


def released_heads() -> Released:
    """An orthogonal and a concept head as wide as the tiny backbone's features."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    unit = OrthogonalHead(draw(8, 32), draw(8), draw(8), torch.tensor(0.0))
    concept = ConceptHead(torch.nn.functional.normalize(draw(5, 24), dim=1), draw(5, 24), draw(5), draw(5), torch.tensor(0.0))
    return Released(
        {
            ORTHOGONAL: Head(Source("orthogonal", "pooled", "bilinear", "1" * 64), unit),
            CONCEPT: Head(Source("concept", "projected", "bicubic", "2" * 64), concept),
        }
    )


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    return str(write_tiny(tmp_path / "tiny", decoder=False))


@pytest.fixture
def images(tmp_path):
    """Forty images of 66 pixels, the synthetic ones a little noisier; four of them in a test split."""
    generator, folder = np.random.default_rng(0), tmp_path / "images"
    for i in range(48):
        label, split = i % 2, "test" if i >= 44 else ""
        path = folder / split / ("synthetic/noisy" if label else "real") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = 128 + generator.normal(0, 20 + 3 * label, (66, 66, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def calibrate(backbone, images):
    return main(["calibrate", "--data", str(images), "--backbone", backbone, "--cache", f"{images}/../cache"])


def test_score_uses_the_calibration_and_gives_the_same_numbers_after_a_restart(backbone, images, tmp_path, capsys):
    shipped = Suite.load(backbone)
    assert shipped.reference is None
    assert calibrate(backbone, images) == 0
    assert "no label between the logits" in capsys.readouterr().out
    suite = Suite.load(backbone)
    assert suite.verdict.card.training_data.startswith("images: 44 images") and set(suite.fusion.methods) == set(PIXEL_METHODS)
    assert not np.allclose(suite.fusion.platt, shipped.fusion.platt) and len(suite.fusion.labels) == 88
    path = images / "real" / "0.png"
    before = suite.analyze(path).to_dict()["verdict"]
    assert before["logit"] != pytest.approx(shipped.analyze(path).verdict.logit, abs=1e-3)
    command = [sys.executable, "-m", "detector", "score", str(path), "--backbone", backbone]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    after = json.loads(done.stdout)["verdict"]
    assert after["contributions"] == pytest.approx(before["contributions"], abs=1e-6) and after["label"] == before["label"]
    assert after["probability"] == pytest.approx(before["probability"], abs=1e-6)


def test_released_heads_are_calibrated_and_get_reference_images(backbone, images, monkeypatch):
    for module in ("suite", "training.calibrate"):
        monkeypatch.setattr(f"detector.{module}.load_released", lambda *_: released_heads())
    photo = load_photo(images / "real" / "0.png")
    bare = Suite.load(backbone)
    evidence = bare.evidence([photo])
    assert drop_curve(bare, evidence) is None and not any(bare.parts.unit_names["names"])
    assert set(bare.fusion.methods) == set(PIXEL_METHODS)
    assert calibrate(backbone, images) == 0
    suite = Suite.load(backbone)
    assert set(suite.fusion.methods) == {*PIXEL_METHODS, ORTHOGONAL, CONCEPT}
    record = suite.analyze_photos([photo])[0].to_dict()
    assert set(record["verdict"]["contributions"]) == {*PIXEL_METHODS, ORTHOGONAL, CONCEPT}
    assert all(len(names) == 3 for names in suite.parts.unit_names["names"])
    for kind in ("concepts", "orthogonal"):
        assert len(drop_curve(suite, evidence, kind, draws=2).auroc["named"]) > 1
    assert 0 <= probe(suite, evidence, "a dog", "a cat").percentiles["real"] <= 100
    capped = {name: values for name, values in suite.logits(evidence).items() if name in suite.released.heads}
    assert set(capped) == {ORTHOGONAL, CONCEPT}  # so that `evaluate` can fuse them


def test_a_released_head_that_left_the_cache_is_absent_and_one_that_changed_is_refused(backbone, images, monkeypatch, capsys):
    for module in ("suite", "training.calibrate"):
        monkeypatch.setattr(f"detector.{module}.load_released", lambda *_: released_heads())
    assert calibrate(backbone, images) == 0
    fewer = Released({ORTHOGONAL: released_heads().heads[ORTHOGONAL]})
    monkeypatch.setattr("detector.suite.load_released", lambda *_: fewer)
    assert Suite.load(backbone).absent == (CONCEPT,)
    assert main(["score", str(images / "real" / "0.png"), "--backbone", backbone]) == 0
    assert f"heads --fetch {CONCEPT}" in capsys.readouterr().err
    changed = Head(Source("orthogonal", "pooled", "bilinear", "3" * 64), released_heads().heads[ORTHOGONAL].head)
    monkeypatch.setattr("detector.suite.load_released", lambda *_: Released({ORTHOGONAL: changed}))
    with pytest.raises(HeadError, match="fit it again with `python -m detector calibrate`"):
        Suite.load(backbone)
    assert calibrate(backbone, images) == 0  # which mends it, although the suite could not be loaded


def test_too_few_images_get_one_sentence(backbone, images, capsys):
    for path in sorted((images / "real").iterdir())[:3]:
        path.unlink()
    assert calibrate(backbone, images) == 1
    error = capsys.readouterr().err
    assert "holds 19 real and 22 synthetic images to calibrate on" in error and "use 20 or more of each class" in error
    assert error.count("\n") == 1 and not home_folder(Backbone.load(backbone)).exists()


def test_named_detectors_alone_are_calibrated(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    data = ["calibrate", "--data", str(images), "--cache", str(tmp_path / "cache"), "--detectors"]
    assert main([*data, "embedded/linear_probe", "pixels/physical"]) == 0
    rows = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    suite = Suite.load()
    assert set(rows) == set(suite.fusion.methods) == {"linear_probe", "physical"} and len(suite.fusion.labels) == 2 * 44
    assert len(suite.heads) > 2  # the other heads still speak, beside the verdict
    assert main([*data, "embedded/linear_probe", "vit-l-14/linear@univfd"]) == 1
    assert "A verdict fuses detectors of one backbone" in capsys.readouterr().err
