"""detector/data/prepare.py on small local copies of the public sets' layouts, hostile ones included."""

import csv
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data import prepare as adapters
from detector.data.datasets import DataError, read_dataset, with_splits
from detector.data.prepare import from_rows, label_of, prepare, split_of


def picture(seed: int, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def rows(count: int = 3, **changes):
    """Rows as the hub's sets have them: real and synthetic, each with its image_id."""
    for i in range(count):
        for label, source in ((0, "clic2020"), (1, "flux-dev")):
            yield {
                "image": {"bytes": picture(10 * i + label), "path": None},
                "label": label,
                "source": source,
                "image_id": f"id-{i}",
            } | changes


class FakeStream:
    """What `datasets` gives in streaming mode, as far as it is used; `names` as of a ClassLabel column."""

    def __init__(self, items, names=None):
        self.items_ = items
        columns = list(items[0]) if items else []
        self.features = {c: types.SimpleNamespace(names=names if c == "label" else None) for c in columns}

    def cast_column(self, name, feature):
        assert name in self.features and feature.decode is False
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


def test_limit_counts_each_source_class_and_split(hub, tmp_path):
    hub[1].clear()
    late = [{"image": {"bytes": picture(80 + i), "path": None}, "label": 1, "source": "imagen3"} for i in range(3)]
    hub[1]["train"] = [*rows(5), *late]  # a source that comes last is not lost
    assert prepare("synthclic", tmp_path / "out", limit=2)["images"] == 6
    assert {e.source for e in read_dataset(tmp_path / "out")} == {"clic2020", "flux-dev", "imagen3"}


def test_what_the_limit_refuses_is_not_read(tmp_path, monkeypatch):
    lay(tmp_path / "set", *(f"{g}/{c}/{i}.png" for g in ("adm", "sdv4") for c in ("nature", "ai") for i in range(4)))
    opened, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self.name) or read(self))
    prepare("genimage", tmp_path / "out", tmp_path / "set", limit=1)
    assert len(opened) == 4


def test_progress_is_told_of_every_image(hub, tmp_path):
    told = []
    prepare("synthclic", tmp_path / "out", progress=told.append)
    assert told == list(range(1, 13))


def test_class_numbers_mean_what_the_set_calls_them(hub, tmp_path, monkeypatch):
    """Folders `fake` and `real` are numbered in this order by the library, so that 0 is synthetic."""
    splits = {"train": FakeStream(list(rows(2)), names=["fake", "real"])}
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", lambda *a, **k: splits)
    prepare("synthclic", tmp_path / "out")
    assert {(e.label, e.source) for e in read_dataset(tmp_path / "out")} == {(1, "clic2020"), (0, "flux-dev")}


def test_other_column_names_can_be_told(hub, tmp_path, monkeypatch):
    names = {"image": "picture", "label": "is_ai", "source": "model"}
    renamed = [{"picture": r["image"], "is_ai": r["label"], "model": r["source"]} for r in rows(2)]
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", lambda *a, **k: {"test": FakeStream(renamed)})
    with pytest.raises(DataError, match="lacks the column.* image; it has picture"):
        prepare("synthclic", tmp_path / "out")
    prepare("synthclic", tmp_path / "out", columns=names)
    assert {e.source for e in read_dataset(tmp_path / "out")} == {"clic2020", "flux-dev"}
    with pytest.raises(DataError, match="no column colour"):
        prepare("synthclic", tmp_path / "other", columns={"colour": "x"})


def test_a_row_cannot_name_a_file_of_this_machine(tmp_path):
    private = tmp_path / "private.jpg"
    private.write_bytes(picture(1))
    for path in (str(private), private.as_uri()):
        (item,) = from_rows([("train", {"image": {"bytes": None, "path": path}, "label": 1})])
        assert item.read() == b""


def test_a_row_may_point_into_the_hub(monkeypatch):
    import fsspec

    monkeypatch.setattr(fsspec, "open", lambda path, mode: io.BytesIO(b"hub " + path.encode()))
    image = {"bytes": None, "path": "zip://a.png::hf://datasets/x/y.zip"}
    (item,) = from_rows([("train", {"image": image, "label": 1})])
    assert item.read() == b"hub " + image["path"].encode()

    def fail(path, mode):
        raise OSError("gone")

    monkeypatch.setattr(fsspec, "open", fail)
    with pytest.raises(DataError, match="could not be fetched .gone.; check the connection"):
        item.read()


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
    given = (0, "1", 1.0, "0.0", True, "Real", " fake ", "nature", "ai", "0_real", "1_fake")
    assert [label_of(value) for value in given] == [0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    for unknown in (2, -1, "10", "", "1.5"):
        with pytest.raises(DataError, match="neither"):
            label_of(unknown)


def test_splits_by_their_usual_names():
    assert [split_of(v) for v in ("Validation", "train", "test", None, " test_unseen ")] == ["val", "train", "test", "", "test_unseen"]


def lay(folder, *places):
    for i, place in enumerate(places):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, "PNG" if path.suffix == ".png" else "JPEG"))


@pytest.mark.parametrize("archive", ["", "imagenet_ai_0419_x/"])
def test_genimage_layout(tmp_path, archive):
    """Its val is what the papers report on; train gives up validation images of its own."""
    lay(
        tmp_path / "set",
        *(
            f"{g}/{archive}{s}/{c}/{i}.{'jpg' if c == 'nature' else 'png'}"
            for g in ("sdv4", "wukong")
            for s in ("train", "val")
            for c in ("nature", "ai")
            for i in range(8)
        ),
    )
    prepare("genimage", tmp_path / "out", tmp_path / "set")
    examples = read_dataset(tmp_path / "out")
    assert {(e.source, e.split, e.label) for e in examples} == {
        (g, s, y) for g in ("sdv4", "wukong") for s in ("train", "test") for y in (0, 1)
    }
    split = with_splits(examples, test=True)
    assert {e.split for e in split} == {"train", "val", "test"}
    assert [e for e in split if e.split == "test"] == [e for e in examples if e.split == "test"]


def test_one_generator_s_folder_is_named_by_itself(tmp_path):
    lay(tmp_path / "sdv4", "train/nature/a.jpg", "train/ai/a.png")
    prepare("genimage", tmp_path / "out", tmp_path / "sdv4")
    assert {(e.source, e.label) for e in read_dataset(tmp_path / "out")} == {("sdv4", 0), ("sdv4", 1)}


@pytest.mark.parametrize("name, source", [("univfd", "progan"), ("cnnspot", "progan"), ("folder", "progan/airplane")])
def test_univfd_layout_pools_classes_and_keeps_own_reals(tmp_path, name, source):
    lay(tmp_path / "set", "progan/airplane/0_real/a.jpg", "progan/airplane/1_fake/a.png", "dalle/0_real/a.jpg", "dalle/1_fake/a.png")
    prepare(name, tmp_path / "out", tmp_path / "set")
    examples = read_dataset(tmp_path / "out")  # four files called a: none is lost
    assert {(e.source, e.label) for e in examples} == {(source, 0), (source, 1), ("dalle", 0), ("dalle", 1)} and len(examples) == 4


def test_a_real_image_that_two_sources_share_stays_in_both(tmp_path):
    lay(tmp_path / "set", "a/0_real/x.jpg", "a/1_fake/x.png", "b/1_fake/y.png")
    (tmp_path / "set/b/0_real").mkdir()
    (tmp_path / "set/b/0_real/x.jpg").write_bytes((tmp_path / "set/a/0_real/x.jpg").read_bytes())
    assert prepare("univfd", tmp_path / "out", tmp_path / "set") == {"images": 4, "skipped": 0, "repeated": 0}


def test_copies_leave_the_originals_alone(tmp_path):
    lay(tmp_path / "set", "real/a.jpg", "synthetic/b.png")
    prepare("folder", tmp_path / "out", tmp_path / "set")
    first = read_dataset(tmp_path / "out")[0].path
    first.write_bytes(b"changed")
    assert (tmp_path / "set/real/a.jpg").read_bytes() == picture(0)


def test_one_class_alone_is_no_data_set(tmp_path, hub):
    hub[1].clear()
    hub[1]["train"] = [row for row in rows(3) if row["label"] == 0]
    with pytest.raises(DataError, match="both classes"):
        prepare("synthclic", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_a_table_of_paths_and_labels(tmp_path):
    lay(tmp_path, "imgs/a.jpg", "imgs/b.png")
    with open(tmp_path / "synris.csv", "w", newline="") as lines:
        csv.writer(lines).writerows([["path", "target", "source"], ["imgs/a.jpg", "real", "laion"], ["imgs/b.png", "fake", "kandinsky"]])
    prepare("table", tmp_path / "out", tmp_path / "synris.csv")
    assert {(e.source, e.label) for e in read_dataset(tmp_path / "out")} == {("laion", 0), ("kandinsky", 1)}


def test_tables_of_other_makes(tmp_path):
    lay(tmp_path, "a.jpg", "b.png")
    (tmp_path / "list.csv").write_text("where,SPLIT,kind\na.jpg,Validation,0.0\nb.png,Validation,1.0,surplus\nmissing.png,test,1.0\n")
    with pytest.raises(DataError, match="needs a column named image, file, path"):
        prepare("table", tmp_path / "out", tmp_path / "list.csv")
    columns = {"image": "where", "label": "kind"}
    assert prepare("table", tmp_path / "out", tmp_path / "list.csv", columns=columns) == {"images": 2, "skipped": 1, "repeated": 0}
    assert {(e.source, e.label, e.split) for e in read_dataset(tmp_path / "out")} == {("list", 0, "val"), ("list", 1, "val")}


def test_files_that_are_no_tables_get_one_sentence(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe,0\n")
    for file in ("t.csv", "nowhere.csv"):
        with pytest.raises(DataError, match="cannot be read as a CSV table"):
            prepare("table", tmp_path / "out", tmp_path / file)


@pytest.mark.parametrize(
    "header, row, words",
    [
        (["x", "label"], ["a.jpg", "0"], "needs a column named"),
        (["path", "label"], ["a.jpg"], "neither real"),
        (["path", "label"], ["a\0.jpg", "0"], "outside"),
        (["path", "label"], ["/etc/passwd", "0"], "outside"),
        (["path", "label"], ["../../etc/passwd", "0"], "outside"),
    ],
)
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


def real_rows(datasets, first: int, count: int):
    """A table of the real library with undecoded images, its label a ClassLabel whose 0 is synthetic."""
    each = [row | {"label": 1 - row["label"]} for row in rows(first + count)][2 * first :]
    table = datasets.Dataset.from_list(each)
    return table.cast_column("image", datasets.Image(decode=False)).cast_column("label", datasets.ClassLabel(names=["fake", "real"]))


@pytest.mark.parametrize("kind", ["parquet", "save_to_disk"])
def test_local_copies_are_read_by_the_real_library(tmp_path, kind):
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    copy = tmp_path / "copy"
    splits = {"train": real_rows(datasets, 0, 3), "validation": real_rows(datasets, 3, 1), "test": real_rows(datasets, 4, 2)}
    if kind == "parquet":
        (copy / "data").mkdir(parents=True)
        for split, table in splits.items():
            table.to_parquet(str(copy / "data" / f"{split}-00000-of-00001.parquet"))
    else:
        datasets.DatasetDict(splits).save_to_disk(str(copy))
    assert prepare("synthclic", tmp_path / "out", copy) == {"images": 12, "skipped": 0, "repeated": 0}
    found = {(e.split, e.label, e.source, e.path.read_bytes()) for e in read_dataset(tmp_path / "out")}
    assert found == {
        ("train" if i < 3 else "val" if i < 4 else "test", y, ("clic2020", "flux-dev")[y], picture(10 * i + y))
        for i in range(6)
        for y in (0, 1)
    }
