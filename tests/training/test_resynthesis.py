"""Re-syntheses of training photographs: what they look like, where they stand, and that folds hold them out with their photographs."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from test_stacking import Spy, table
from tiny import write_tiny

from detector.cli.main import main
from detector.clip.autoencoder import Architecture, Autoencoder, Crops, quantised
from detector.data.datasets import DataError, Pictures, read_datasets, training_splits
from detector.methods.base import Evidence
from detector.methods.table import Table, Training
from detector.training import train as train_module
from detector.training.resynthesis import ARCHITECTURES, Resynthesis, as_sharp, sharpness, whole_resynthesis, with_resyntheses
from detector.training.splits import Splits
from detector.training.stacking import fold_count, out_of_source_logits

SHORT = Crops(steps=2, batch=2, size=32)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES.values(), Architecture("bilinear", (6, 8), 3, levels=5)])
def test_every_architecture_keeps_the_size_of_the_picture(architecture):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    assert whole_resynthesis(pixels, Autoencoder(architecture).eval()).shape == pixels.shape
    assert Autoencoder(architecture).encoder(torch.rand(1, 3, 64, 64)).shape[2:] == (64 // architecture.factor, 64 // architecture.factor)


def test_a_blurred_picture_becomes_about_as_sharp_as_its_photograph(photographs):
    blurred = cv2.GaussianBlur(photographs[0], (0, 0), 0.6)
    before, after = (sharpness(image) / sharpness(photographs[0]) for image in (blurred, as_sharp(blurred, photographs[0])))
    assert before < 0.5 < 0.9 < after < 1.1
    np.testing.assert_array_equal(as_sharp(photographs[0], photographs[0]), photographs[0])


def test_quantised_numbers_take_few_values_and_pass_the_gradient_on():
    latent = torch.linspace(-3, 3, 101, requires_grad=True)
    assert quantised(latent, 5).unique().tolist() == [-2, -1, 0, 1, 2] and quantised(latent, 0) is latent
    quantised(latent, 5).sum().backward()
    torch.testing.assert_close(latent.grad, 2 * (1 - latent.detach().tanh() ** 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A corpus of JPEG files, four sources of each class, in train and val."""
    root, generator = tmp_path_factory.mktemp("corpora") / "web", np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, kind in enumerate(("real", "synthetic")):
            for number in range(4):
                for index in range(count):
                    path = root / split / kind / f"{kind}{number}" / f"{split}{number}{index}.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image = cv2.GaussianBlur(generator.integers(0, 256, (66, 81, 3)).astype(np.uint8), (0, 0), 1 + label)
                    Image.fromarray(image).save(path, quality=70 + 5 * number)
    return [str(root)]


def test_re_syntheses_stand_behind_the_training_images_and_nowhere_else(folders, tmp_path):
    train, val = training_splits(read_datasets(folders), "web")
    more = with_resyntheses(train, Resynthesis(1.0, SHORT), tmp_path)
    made = more[len(train) :]
    photographs = {(e.source, e.path.name): e for e in train if e.label == 0}
    assert more[: len(train)] == train and len(made) == len(photographs) == 16
    assert {(e.origin, e.path.name) for e in made} == set(photographs)
    for example in made:
        photograph = photographs[example.origin, example.path.name]
        assert (example.label, example.split, example.corpus) == (1, "train", "web")
        assert example.source.removeprefix("resynthesis-") in ARCHITECTURES
        with Image.open(example.path) as image, Image.open(photograph.path) as original:
            assert image.size == original.size and image.quantization == original.quantization
            assert np.abs(np.asarray(image, int) - np.asarray(original, int)).mean() > 1
    assert not {e.path.name for e in made} & {e.path.name for e in val}


def test_a_larger_share_holds_the_smaller_one_s_and_files_are_made_once(folders, tmp_path):
    train, _ = training_splits(read_datasets(folders), "web")
    shares = [with_resyntheses(train, Resynthesis(share, SHORT), tmp_path)[len(train) :] for share in (0.5, 1.0)]
    times = {e.path: e.path.stat().st_mtime_ns for e in shares[1]}
    assert 0 < len(shares[0]) < len(shares[1]) and set(shares[0]) < set(shares[1])
    assert with_resyntheses(train, Resynthesis(1.0, SHORT), tmp_path)[len(train) :] == shares[1]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert with_resyntheses(train, Resynthesis(0.0, SHORT), None) == train
    with pytest.raises(DataError, match="folder of measured features"):
        with_resyntheses(train, Resynthesis(0.5, SHORT), None)
    with pytest.raises(DataError, match="96 pixels or more"):
        with_resyntheses(train, Resynthesis(0.5), tmp_path)


def with_made_up(train: Table) -> Table:
    """The table with a re-synthesis of each photograph's row, whose number of a source is its photograph's plus 100."""
    real = train.rows(train.labels == 0)
    made = [replace(e, label=1, source="resynthesis-x", origin=e.source) for e in real.pictures.examples]
    codes = np.concatenate([train.evidence.descriptors, real.evidence.descriptors + 100])
    pictures = Pictures([*train.pictures.examples, *made], [*train.pictures.copy, *real.pictures.copy])
    clip = replace(train.evidence.clip, pooled=torch.from_numpy(codes), projected=torch.from_numpy(codes))
    columns = [np.array([getattr(e, name) for e in pictures.examples]) for name in ("label", "source", "corpus")]
    return Table(Evidence(clip, codes, codes, pixels=pictures), *columns[:2], np.array(pictures.copy), pictures, columns[2])


def test_folds_hold_re_syntheses_out_with_their_photographs(monkeypatch):
    fits = []

    def fit(train, val, training):
        fits.append((train, val))
        return Spy.fit(train, val, training)

    monkeypatch.setattr("detector.methods.registry.Method.fitter", lambda self: fit)
    splits = Splits(with_made_up(table()), table(split="val", copies=1), None)
    stack = out_of_source_logits(["physical"], splits, Training(SimpleNamespace(device="cpu")), {})
    assert "resynthesis-x" not in stack.sources and splits.counts == (48, 48) and fold_count(splits) == 4
    for fold, (train, val) in enumerate(fits):
        held = set(stack.sources[stack.folds == fold])
        origins = set(train.origins[train.origins != ""])
        assert origins and origins == {source for source in train.sources if source.startswith("real")}
        assert not (origins | set(val.sources)) & held and "resynthesis-x" not in val.sources


def test_the_command_line_takes_a_share(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_module, "Resynthesis", partial(Resynthesis, crops=SHORT))
    backbone = write_tiny(tmp_path / "tiny", decoder=False)
    options = ["--backbone", str(backbone), "--cache", str(tmp_path / "cache"), "--data", *folders, "--copies", "1"]
    out = tmp_path / "out.json"
    command = ["evaluate", *options, "--protocol", "leave-sources-out", "--method", "residual", "--fold-seed", "1", "--out", str(out)]
    assert main([*command, "--resyntheses", "0.5"]) == 0
    assert json.loads(out.read_text())["corpora"]["web"]["residual"]["images"] == [24, 24]
    assert main(["train", "residual", *options, "--resyntheses", "0.5", "--out", str(tmp_path / "heads")]) == 0
    assert b"--copies 1 --seed 0 --resyntheses 0.5" in (tmp_path / "heads" / "residual.safetensors").read_bytes()
    with pytest.raises(SystemExit):
        main([*command, "--resyntheses", "1.5"])
    assert "'1.5' is not a number from 0 to 1" in capsys.readouterr().err
