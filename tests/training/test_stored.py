"""Heads on stored features: the same heads as on features of the same pictures that were measured here."""

import json

import numpy as np
import pytest

from detector.cli.main import main

pa = pytest.importorskip("pyarrow", reason="needs the extra [scale]")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    from tiny import write_tiny

    from detector.clip.backbone import Backbone

    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("stored") / "tiny")))


def write_features(path, backbone, rows=1200, weights=None):
    """Features of two classes that lie apart, as `score --features` writes them, with stored logits of a method without a head."""
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, rows).astype(np.int8)
    shift = np.where(truth, 0.7, -0.7)[:, None]
    vectors = {name: (generator.normal(size=(rows, size)) + shift).astype(np.float32) for name, size in (("pooled", 32), ("projected", 24))}
    columns = {
        "key": [f"set/{place}.jpg" for place in range(rows)],
        "truth": truth,
        "source": np.where(truth, "made", "camera"),
        "error": [None] * rows,
        "sdd_logit": generator.normal(truth * 2.0 - 1, 1),
    } | {name: pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1]) for name, values in vectors.items()}
    facts = {"weights": weights or backbone.fingerprint, "heads": json.dumps({})}
    schema = pa.table(columns).schema.set(3, pa.field("error", pa.string()))
    pq.write_table(pa.table(columns, schema=schema).replace_schema_metadata(facts), path, row_group_size=500)
    return vectors, truth


def test_a_head_on_stored_features_is_the_head_on_the_same_features(backbone, tmp_path):
    import torch

    from detector.methods.orthogonal.train import fit_linear_probe
    from detector.methods.table import Training
    from detector.training.stored import StoredFeatures, split_of

    vectors, truth = write_features(tmp_path / "f.parquet", backbone)
    splits = StoredFeatures(tmp_path / "f.parquet", tmp_path / "maps", False).tables()
    mask = np.array([split_of(f"set/{place}.jpg") == "train" for place in range(len(truth))])
    assert 0.1 < 1 - mask.mean() < 0.2
    pooled = splits.train.evidence.clip.pooled.numpy()
    assert np.array_equal(pooled, vectors["pooled"][mask]) and np.array_equal(splits.train.labels, truth[mask])
    assert isinstance(splits.train.evidence.clip.pooled.numpy().base, np.memmap) or (tmp_path / "maps" / "train-pooled.npy").is_file()
    from detector.methods.registry import METHODS

    fitted = METHODS["linear_probe"].fitter()(splits.train, splits.val, Training(backbone, 0)).head
    labelled = [(torch.from_numpy(vectors["pooled"][rows]), torch.from_numpy(truth[rows].astype(np.float32))) for rows in (mask, ~mask)]
    expected = fit_linear_probe(*labelled, weights=splits.train.weights(0.5))
    assert torch.equal(fitted.weight, expected.weight)


def test_the_command_trains_heads_and_a_verdict(backbone, tmp_path, capsys):
    from detector.methods.base import load_head

    write_features(tmp_path / "f.parquet", backbone)
    arguments = ["train", "orthogonal", "--features", str(tmp_path / "f.parquet"), "--backbone", backbone.name]
    assert main([*arguments, "--out", str(tmp_path / "heads"), "--cache", str(tmp_path / "cache")]) == 0
    written = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert set(written) == {"orthogonal", "reference", "verdict"} and not any((tmp_path / "cache").iterdir())
    _, card = load_head(tmp_path / "heads" / "orthogonal.safetensors")
    assert card.metrics["auroc_val"] > 0.95 and "--features" in card.command and str(tmp_path) not in card.command
    _, verdict = load_head(tmp_path / "heads" / "verdict.safetensors")
    assert list(verdict.details["heads"]) == ["orthogonal"]  # the stored logits belong to a head that is not here


def test_features_of_other_weights_are_refused(backbone, tmp_path, capsys):
    write_features(tmp_path / "f.parquet", backbone, weights="0" * 16)
    arguments = ["train", "orthogonal", "--features", str(tmp_path / "f.parquet"), "--backbone", backbone.name]
    assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 1
    assert "other weights" in capsys.readouterr().err


def test_more_images_are_refused(tmp_path, capsys):
    assert main(["train", "concepts", "--features", str(tmp_path / "a.parquet"), "--photographs", str(tmp_path)]) == 1
    assert "leave out --photographs and --resyntheses" in capsys.readouterr().err


def test_methods_that_read_pixels_are_refused(tmp_path, capsys):
    assert main(["train", "sdd", "--features", str(tmp_path / "f.parquet"), "--cache", str(tmp_path / "cache")]) == 1
    assert "train that one with --data" in capsys.readouterr().err
    assert main(["train", "sdd"]) == 1 and "--data" in capsys.readouterr().err
