"""detector/adapters.py on small local copies of the public sets' layouts, hostile ones included."""

import csv
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from detector import adapters
from detector.adapters import from_rows, label_of, prepare
from detector.data import DataError, read_dataset


def picture(seed: int, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def rows(count: int = 3, **changes):
    """Rows as the hub's sets have them: real and synthetic, each with its image_id."""
    for i in range(count):
        for label, source in ((0, "clic2020"), (1, "flux-dev")):
            yield {"image": {"bytes": picture(10 * i + label), "path": None}, "label": label, "source": source,
                   "image_id": f"id-{i}"} | changes


class FakeStream:
    """What `datasets` gives in streaming mode, as far as it is used."""

    def __init__(self, items):
        self.items_ = items

    def cast_column(self, name, feature):
        assert name == "image" and feature.decode is False
        return self.items_


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the `datasets` library; says what was asked for."""
    asked, splits = [], {"train": list(rows(3)), "validation": list(rows(1)), "test": list(rows(2))}
    module = types.ModuleType("datasets")

    def load_dataset(repository, data_files=None, streaming=False):
        asked.append((repository, data_files, streaming))
        return {split: FakeStream(items) for split, items in splits.items()}

    module.load_dataset = load_dataset
    module.Image = lambda decode: types.SimpleNamespace(decode=decode)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked, splits


@pytest.mark.parametrize("name", ["synthclic", "synthbuster-plus", "cnnspot"])
def test_hub_sets_are_streamed_into_a_data_dir_with_their_own_bytes(hub, tmp_path, name):
    hub[1]["test"] = [row | {"image": {"bytes": picture(90 + i, "PNG"), "path": None}} for i, row in enumerate(rows(2))]
    hub[1]["validation"] = [row | {"image": {"bytes": picture(70 + i), "path": None}} for i, row in enumerate(rows(1))]
    written = prepare(name, tmp_path / "out")
    assert hub[0] == [(adapters.HUB_SETS[name], None, True)]
    examples = read_dataset(tmp_path / "out")
    assert written["images"] == len(examples) == 12 and {e.split for e in examples} == {"train", "val", "test"}
    assert {(e.label, e.source) for e in examples} == {(0, "clic2020"), (1, "flux-dev")}
    assert examples[0].path.read_bytes() == picture(0)
    assert {e.path.suffix for e in examples if e.split == "test"} == {".png"}


def test_limit_counts_each_class_and_split(hub, tmp_path):
    hub[1].clear()
    hub[1]["train"] = list(rows(5))
    assert prepare("synthclic", tmp_path / "out", limit=2)["images"] == 4


def test_repeated_and_unreadable_images_are_left_out_and_counted(hub, tmp_path):
    hub[1].clear()
    broken = {"image": {"bytes": b"not an image", "path": None}, "label": 1, "source": "flux-dev"}
    hub[1]["train"] = [*rows(2), *rows(1), broken, broken | {"image": None}]
    assert prepare("synthclic", tmp_path / "out") == {"images": 4, "skipped": 2, "repeated": 2}


@pytest.mark.parametrize("change, words", [({"label": "maybe"}, "neither real"), ({"label": None}, "neither real")])
def test_unknown_labels_get_one_sentence(change, words):
    with pytest.raises(DataError, match=words):
        list(from_rows(("train", row) for row in rows(1, **change)))


def test_missing_columns_get_one_sentence():
    with pytest.raises(DataError, match="lacks the column.* label; it has image"):
        list(from_rows([("train", {"image": None})]))


def test_a_missing_library_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        prepare("synthclic", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_a_hub_out_of_reach_gets_one_sentence(hub, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fail)
    with pytest.raises(DataError, match="no route to host.*local copy") as caught:
        prepare("cnnspot", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_labels_are_numbers_or_words_of_the_field():
    assert [label_of(v) for v in (0, "1", "Real", "fake", "nature", "ai", 1.0 == 1)] == [0, 1, 0, 1, 0, 1, 1]


def lay(folder, *places):
    for i, place in enumerate(places):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, "PNG" if path.suffix == ".png" else "JPEG"))


def test_genimage_layout(tmp_path):
    lay(tmp_path / "set", *(f"{g}/{s}/{c}/{i}.{'jpg' if c == 'nature' else 'png'}" for g in ("sdv4", "wukong")
                            for s in ("train", "val") for c in ("nature", "ai") for i in range(2)))
    prepare("genimage", tmp_path / "out", tmp_path / "set")
    examples = read_dataset(tmp_path / "out")
    assert {(e.source, e.split, e.label) for e in examples} == {(g, s, y) for g in ("sdv4", "wukong") for s in ("train", "val")
                                                               for y in (0, 1)}


def test_univfd_layout_keeps_classes_and_own_reals(tmp_path):
    lay(tmp_path / "set", "progan/airplane/0_real/a.jpg", "progan/airplane/1_fake/a.png", "dalle/0_real/b.jpg", "dalle/1_fake/b.png")
    prepare("univfd", tmp_path / "out", tmp_path / "set")
    assert {(e.source, e.label) for e in read_dataset(tmp_path / "out")} == {("progan/airplane", 0), ("progan/airplane", 1),
                                                                            ("dalle", 0), ("dalle", 1)}


def test_a_table_of_paths_and_labels(tmp_path):
    lay(tmp_path, "imgs/a.jpg", "imgs/b.png")
    with open(tmp_path / "synris.csv", "w", newline="") as lines:
        csv.writer(lines).writerows([["path", "target", "source"], ["imgs/a.jpg", "real", "laion"], ["imgs/b.png", "fake", "kandinsky"]])
    prepare("table", tmp_path / "out", tmp_path / "synris.csv")
    assert {(e.source, e.label) for e in read_dataset(tmp_path / "out")} == {("laion", 0), ("kandinsky", 1)}


@pytest.mark.parametrize("header, row, words", [(["x", "label"], ["a.jpg", "0"], "needs a column named"),
                                                (["path", "label"], ["../../etc/passwd", "0"], "outside")])
def test_bad_tables_get_one_sentence(tmp_path, header, row, words):
    (tmp_path / "set").mkdir()
    with open(tmp_path / "set" / "t.csv", "w", newline="") as lines:
        csv.writer(lines).writerows([header, row])
    with pytest.raises(DataError, match=words):
        prepare("table", tmp_path / "out", tmp_path / "set" / "t.csv")


@pytest.mark.parametrize("name, words", [("nonsense", "no data set"), ("genimage", "no place on the hub")])
def test_unknown_names_and_missing_folders(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        prepare(name, tmp_path / "out")


def test_an_earlier_manifest_is_not_overwritten(hub, tmp_path):
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(DataError, match="already"):
        prepare("synthclic", tmp_path)


def test_parquet_files_of_a_local_copy_are_read_by_the_real_library(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    for split, count in (("train", 2), ("test", 1)):
        table = datasets.Dataset.from_list([{**row, "image": row["image"]} for row in rows(count)])
        table = table.cast_column("image", datasets.Image(decode=False))
        (tmp_path / "copy" / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(str(tmp_path / "copy" / "data" / f"{split}-00000-of-00001.parquet"))
    prepare("synthclic", tmp_path / "out", tmp_path / "copy")
    assert {(e.split, e.label) for e in read_dataset(tmp_path / "out")} >= {("train", 0), ("train", 1)}
