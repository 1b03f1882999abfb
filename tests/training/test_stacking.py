"""Leave sources out: no head scores an image of a source that it, or its early stopping, has seen."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny import write_tiny

from detector.cli.main import main
from detector.clip.backbone import ClipFeatures
from detector.data.datasets import DataError, Example, Pictures
from detector.methods import registry
from detector.methods.base import Evidence, Score, load_head
from detector.methods.table import Fitted, Table, Training
from detector.training.splits import Splits
from detector.training.stacking import fold_count, out_of_source_logits, read_logits, write_logits

SOURCES = 6


def table(corpora=("web", "detection"), copies=2, split="train") -> Table:
    """Two images of each of six real and six synthetic sources in each corpus, and their copies. Pixel features hold the row's source."""
    examples = [
        Example(SimpleNamespace(name=f"{split}{index}.png"), label, f"{'fake' if label else 'real'}{number}", split, corpus)
        for corpus in corpora
        for label in (0, 1)
        for number in range(SOURCES)
        for index in range(2)
    ]
    rows = [example for example in examples for _ in range(copies + 1)]
    copy = np.tile(np.arange(copies + 1), len(examples))
    codes = np.array([[int(e.source[4:]) + SOURCES * e.label] for e in rows], float)
    clip = ClipFeatures(torch.from_numpy(codes), torch.from_numpy(codes), None)
    parts = [np.array([getattr(e, name) for e in rows]) for name in ("label", "source", "corpus")]
    pictures = Pictures(rows, copy.tolist())
    return Table(Evidence(clip, codes, codes, pixels=pictures), parts[0], parts[1], copy, pictures, parts[2])


class Spy:
    """A head that remembers what it learned from, and gives an image of such a source a logit of 100."""

    fits: list = []

    def __init__(self, known, slope=1.0):
        self.known, self.slope = known, slope

    def score(self, evidence):
        codes = evidence.clip.pooled[:, 0].numpy()
        noise = np.sin(12.9 * codes + np.arange(len(codes)))
        return Score(np.where(np.isin(codes, self.known), 100.0, noise + (codes >= SOURCES)))

    def scaled(self, slope, offset):
        return self

    @classmethod
    def fit(cls, train, val, training):
        cls.fits.append((set(train.sources), set(val.sources), set(val.copy.tolist())))
        return Fitted(cls(np.unique(train.evidence.clip.pooled)), {})


@pytest.fixture
def spied(monkeypatch):
    Spy.fits = []
    method = replace(registry.METHODS["physical"], name="spy", fit="spy:fit")
    monkeypatch.setattr(type(method), "fitter", lambda self: Spy.fit)
    monkeypatch.setitem(registry.METHODS, "spy", method)
    return Splits(table(), table(split="val", copies=1), None)


def test_no_head_scores_a_source_that_it_learned_from(spied):
    stack = out_of_source_logits(["spy"], spied, Training(SimpleNamespace(device="cpu")), {})
    assert len(Spy.fits) == 4 and np.isfinite(stack.logits["spy"]).all() and (stack.logits["spy"] < 50).all()
    assert stack.views == 2 and len(stack.labels) == 2 * 2 * 24 * 2 and len(set(stack.names.tolist())) == len(stack.names)
    for fold, (learned, stopping, copies) in enumerate(Spy.fits):
        held = set(stack.sources[stack.folds == fold])
        assert learned == stopping and not learned & held and copies == {0}
        assert len(learned | held) == 2 * SOURCES and {name[:4] for name in held} == {"real", "fake"}
    for source in set(stack.sources):  # the same source in both corpora is one source
        assert len(set(stack.folds[stack.sources == source])) == 1


def photographs(*collections: str) -> Table:
    """Two photographs of each collection and a copy of each; the code of a collection that `table` lacks is 99."""
    examples = [Example(SimpleNamespace(name=f"more{i}.png"), 0, name, "train", "more") for name in collections for i in range(2)]
    rows = [example for example in examples for _ in range(2)]
    codes = torch.tensor([[float(e.source[4:]) if e.source.startswith("real") else 99.0] for e in rows], dtype=torch.float64)
    pictures, names = Pictures(rows, [0, 1] * len(examples)), np.array([e.source for e in rows])
    evidence = Evidence.of_clip(ClipFeatures(codes, codes, None), pictures)
    return Table(evidence, np.zeros(len(rows), int), names, np.tile([0, 1], len(examples)), pictures, np.repeat("more", len(rows)))


def test_photographs_are_learned_from_and_never_scored(spied, monkeypatch):
    training = Training(SimpleNamespace(device="cpu"))
    without = out_of_source_logits(["spy"], spied, training, {})
    monkeypatch.setitem(registry.METHODS, "spy", replace(registry.METHODS["spy"], evidence=("clip",)))
    Spy.fits = []
    stack = out_of_source_logits(["spy"], replace(spied, photographs=photographs("real0", "walk")), training, {})
    assert stack.names.tolist() == without.names.tolist() and (stack.folds == without.folds).all()
    assert (stack.logits["spy"] < 50).all()  # a photograph of a collection that is left out is left out, too
    for (learned, stopping, _), fold in zip(Spy.fits, range(4), strict=True):
        assert "walk" in learned and "walk" not in stopping and not learned & set(stack.sources[stack.folds == fold])


def test_only_methods_that_read_clip_s_features_alone_get_photographs(spied):
    splits = replace(spied, photographs=photographs("walk"))
    rows = {method: len(splits.training_table(method).labels) for method in ("residual", "item", "sdd", "linear_probe", "concepts")}
    count = len(spied.train.labels)
    assert rows == {"residual": count, "item": count, "sdd": count, "linear_probe": count + 4, "concepts": count + 4}
    table_ = splits.training_table("orthogonal")
    assert len(table_.pictures) == len(table_.copy) == len(table_.corpora) == len(table_.evidence.clip.projected) == count + 4


def test_given_logits_stand_in_for_training(spied, tmp_path):
    training = Training(SimpleNamespace(device="cpu"))
    stack = out_of_source_logits(["spy"], spied, training, {})
    write_logits(tmp_path / "kept", stack)
    count = len(Spy.fits)
    values = read_logits(tmp_path / "kept" / "spy.npz", spied)
    again = out_of_source_logits(["spy"], spied, training, {}, {"spy": values})
    assert len(Spy.fits) == count
    np.testing.assert_allclose(again.logits["spy"], stack.logits["spy"], rtol=1e-6)
    with pytest.raises(DataError, match="lacks 96 of 192 rows"):
        write_logits(tmp_path / "half", replace(stack, names=stack.names[:96], logits={"spy": stack.logits["spy"][:96]}))
        read_logits(tmp_path / "half" / "spy.npz", spied)
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="'broken.npz' is no file of out-of-source logits"):
        read_logits(tmp_path / "broken.npz", spied)


def test_a_fold_that_a_given_file_lacks_is_left_out_of_the_fusion(spied, monkeypatch, capsys):
    from detector.training import train

    stack = out_of_source_logits(["spy"], spied, Training(SimpleNamespace(device="cpu")), {})
    values = np.where(stack.folds == 2, np.nan, stack.logits["spy"])
    monkeypatch.setattr(train, "stack_of", lambda *arguments: replace(stack, logits={"spy": values}))
    run = train.TrainingRun([Path("a")], given={"spy": Path("spy.npz")})
    logits = train.stacked_logits(["spy"], run, Training(SimpleNamespace(device="cpu")), spied, {})
    assert len(logits.labels) == (stack.folds != 2).sum() and np.isfinite(logits.logits["spy"]).all()
    assert set(logits.sources) == set(stack.sources[stack.folds != 2])
    assert "without 1 folds, of which spy has no logits" in capsys.readouterr().err


def test_few_sources_leave_none_out(spied):
    few = np.isin(spied.train.sources, ["real0", "real1", "real2", "fake0", "fake1", "fake2", "fake3"])
    few_val = np.isin(spied.val.sources, ["real0", "real1", "real2", "fake0", "fake1", "fake2", "fake3"])
    assert fold_count(spied) == 4 and fold_count(Splits(spied.train.rows(few), spied.val.rows(few_val), None)) == 0


# --- on the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two corpora of five sources of each class, which they share but for one. Synthetic pictures have a faint checkerboard."""
    root, generator = tmp_path_factory.mktemp("corpora"), np.random.default_rng(0)
    grid = (np.indices((96, 96)).sum(0) % 2 * 24).astype(np.int64)[..., None]
    for corpus in ("web", "detection"):
        for split, count in (("train", 3), ("val", 2), ("test_seen", 2)):
            for label in (0, 1):
                for number in range(5):
                    source = f"{'fake' if label else 'real'}{number}" + (corpus if number == 4 else "")
                    folder = root / corpus / split / ("synthetic" if label else "real") / source
                    folder.mkdir(parents=True)
                    for index in range(count):
                        image = cv2.GaussianBlur(generator.integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 2) + label * grid
                        cv2.imwrite(str(folder / f"{corpus}{split}{label}{number}{index}.png"), np.clip(image, 0, 255).astype(np.uint8))
    manifest = "file,split,label,source"
    for corpus in ("web", "detection"):
        files = sorted((root / corpus).rglob("*.png"))
        parts = [path.relative_to(root / corpus).parts for path in files]
        rows = [f"{'/'.join(p)},{p[0]},{int(p[1] == 'synthetic')},{p[2]}" for p in parts]
        (root / corpus / "manifest.csv").write_text("\n".join([manifest, *rows]) + "\n")
    return [str(root / "web"), str(root / "detection")]


@pytest.fixture(scope="module")
def arguments(folders, tmp_path_factory):
    backbone = write_tiny(tmp_path_factory.mktemp("backbone") / "tiny", decoder=False)
    return ["--backbone", str(backbone), "--cache", str(tmp_path_factory.mktemp("cache")), "--data", *folders, "--copies", "1"], backbone


def test_the_protocol_prints_a_row_a_method_and_a_column_a_corpus(arguments, tmp_path, capsys):
    options, _ = arguments
    out = tmp_path / "out.json"
    assert (
        main(
            ["evaluate", *options, "--protocol", "leave-sources-out", "--method", "physical", "--method", "linear_probe", "--out", str(out)]
        )
        == 0
    )
    corpora = json.loads(out.read_text())["corpora"]
    assert set(corpora) == {"web", "detection", "all"} and set(corpora["web"]) == {"verdict", "physical", "linear_probe"}
    assert corpora["web"]["verdict"]["sources"] == [5, 5] and corpora["all"]["verdict"]["sources"] == [6, 6]
    assert corpora["web"]["verdict"]["images"] == [25, 25] and corpora["all"]["physical"]["auroc"] > 0.9
    printed = capsys.readouterr().out
    assert "| physical |" in printed and "web, AUROC (95 %), 5 real and 5 synthetic sources" in printed


def test_heads_learn_from_photographs(arguments, tmp_path, capsys):
    options, backbone = arguments
    more, generator = tmp_path / "more", np.random.default_rng(1)
    for collection in ("walk", "real1"):
        (more / collection).mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(more / collection / f"{collection}{index}.png"), generator.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    trained = {}
    for name, extra in (("without", []), ("with", ["--photographs", str(more)])):
        assert main(["train", "linear_probe", *options, *extra, "--out", str(tmp_path / name)]) == 0
        trained[name] = load_head(tmp_path / name / "linear_probe.safetensors")
    (before, _), (after, card) = trained["without"], trained["with"]
    assert any(not torch.equal(torch.as_tensor(before[name]), torch.as_tensor(after[name])) for name in before)
    assert "--photographs DIR" in card.command and "8 more photographs of 2 collections" in card.training_data
    (tmp_path / "empty").mkdir()
    assert main(["train", "linear_probe", *options, "--photographs", str(tmp_path / "empty")]) == 1
    assert "holds no photographs; name a folder with a subfolder for each collection" in capsys.readouterr().err


def test_the_verdict_is_fitted_on_out_of_source_logits(arguments, tmp_path, capsys):
    from detector.suite import Suite

    options, backbone = arguments
    cache = options[options.index("--cache") + 1]
    assert main(["train", "physical", *options, "--out", str(backbone / "heads")]) == 0
    fusion = Suite.load(str(backbone)).fusion
    assert len(fusion.logits) == 2 * 50 * 2 and fusion.views == 2 and len(np.unique(fusion.sources)) == 12
    kept = dict(np.load(f"{cache}/out-of-source/physical.npz"))
    np.testing.assert_allclose(fusion.logits[:, 0], kept["logits"])
    changed = tmp_path / "given.npz"
    np.savez(changed, names=kept["names"][::-1], logits=kept["logits"][::-1] + 7)
    assert main(["train", "physical", *options, "--out", str(backbone / "heads"), "--given", f"physical={changed}"]) == 0
    np.testing.assert_allclose(Suite.load(str(backbone)).fusion.logits[:, 0], kept["logits"] + 7, rtol=1e-5)
    out = tmp_path / "results.json"
    assert main(["evaluate", *options[:-2], "--out", str(out)]) == 0
    results = json.loads(out.read_text())["splits"]
    assert set(results) == {"web/test_seen", "detection/test_seen"}
    assert sum(row["images"] for row in results["web/test_seen"]["verdict"]["reliability"]["bins"]) == 20
