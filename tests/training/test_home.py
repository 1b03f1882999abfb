"""Where heads are written and looked up: the user's own folder, never the shipped one unless it is named."""

import shutil

import pytest
from tiny import write_tiny

from detector.assets import EMBEDDED, MODELS
from detector.cli.main import main
from detector.clip.backbone import Backbone
from detector.hub.download import cache_folder
from detector.methods.registry import PIXEL_METHODS, find_heads, heads_folders, home_folder
from detector.suite import Suite
from detector.training.train import TrainingRun


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def backbone(tmp_path):
    return str(write_tiny(tmp_path / "tiny", decoder=False))


def train(method, data, backbone, *options):
    assert (
        main(["train", method, "--data", str(data), "--backbone", backbone, "--cache", f"{backbone}/../cache", "--copies", "1", *options])
        == 0
    )


def test_train_writes_into_the_user_s_folder_and_score_reads_there_first(home, backbone, data, tmp_path):
    train("linear_probe", data, backbone, "--out", f"{backbone}/heads")
    folder = home_folder(Backbone.load(backbone))
    assert not folder.exists() and find_heads(backbone)["linear_probe"].parent.parent.samefile(backbone)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tiny" / "heads").iterdir()}
    train("linear_probe", data, backbone, "--seed", "1")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tiny" / "heads").iterdir()} == before
    assert {path.name for path in folder.iterdir()} == {f"{name}.safetensors" for name in ("linear_probe", "reference", "verdict")}
    assert folder.is_relative_to(home / "models" / "tiny") and find_heads(backbone)["linear_probe"].parent == folder
    suite = Suite.load(backbone)
    assert "--seed 1" in suite.cards["linear_probe"].command and set(suite.fusion.methods) == {"linear_probe", "physical", "residual"}


def test_heads_of_other_weights_in_the_user_s_folder_are_left_alone(home, backbone, data, tmp_path):
    train("linear_probe", data, backbone)
    shutil.rmtree(tmp_path / "tiny")
    write_tiny(tmp_path / "tiny", seed=1, decoder=False)
    assert set(Suite.load(backbone).heads) == set(PIXEL_METHODS)  # a new version of the weights starts without the heads of the old one


def test_out_fuses_what_lies_in_its_folder(backbone, data, tmp_path):
    train("physical", data, backbone, "--out", str(tmp_path / "out"))
    train("linear_probe", data, backbone, "--out", str(tmp_path / "out"))
    shutil.copytree(tmp_path / "out", f"{backbone}/heads")
    assert set(Suite.load(backbone).fusion.methods) == {"linear_probe", "physical"}


def test_shipped_heads_are_written_only_where_out_names_them(home, suite):
    run = TrainingRun(MODELS)
    assert run.folder("sdd", suite.backbone) == run.folder("physical", suite.backbone) == home_folder(suite.backbone)
    assert home_folder(suite.backbone).is_relative_to(home) and heads_folders(EMBEDDED)[0].is_relative_to(home)
    shipped = TrainingRun(MODELS, out=MODELS / EMBEDDED / "heads")
    assert shipped.folder("sdd", suite.backbone) == shipped.out and shipped.folder("physical", suite.backbone) == MODELS / "pixels"
    assert shipped.present(suite.backbone).keys() == find_heads(EMBEDDED).keys()


def test_an_account_without_a_home_folder_has_the_shipped_heads(monkeypatch):
    def missing(self):
        raise RuntimeError("no home")

    monkeypatch.delenv("CUESCOPE_HOME")
    monkeypatch.setattr("pathlib.Path.expanduser", missing)
    assert find_heads(EMBEDDED)["sdd"].is_relative_to(MODELS)
    with pytest.raises(RuntimeError, match="set CUESCOPE_CACHE"):
        cache_folder()
