"""`read_datasets`: several data folders as one."""

import pytest

from detector.data.datasets import DataError, read_dataset, read_datasets, with_splits


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_joined_and_equal_names_stay_apart(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    touch(first, "train/real/coco/a.jpg", "train/synthetic/flux/b.jpg")
    touch(second, "real/a.jpg", "synthetic/flux/b.jpg", "synthetic/sdxl/a.jpg")
    (second / "manifest.csv").write_text(
        "file,split,label,source\nreal/a.jpg,val,0,photos\nsynthetic/flux/b.jpg,train,1,flux\nsynthetic/sdxl/a.jpg,,1,sdxl\n"
    )
    examples = read_datasets([first, second])
    assert examples == read_dataset(first) + read_dataset(second)
    assert [(e.path.parent.name, e.label) for e in examples if e.path.name == "a.jpg"] == [("coco", 0), ("real", 0), ("sdxl", 1)]
    assert len({e.path for e in examples}) == 5 and len(with_splits(examples)) == 5
    assert [e.path.is_relative_to(first) for e in examples if e.source == "flux"] == [True, False]


def test_bad_folders_get_one_sentence(tmp_path):
    good = tmp_path / "good"
    touch(good, "real/a.jpg", "synthetic/b.jpg", "inner/real/c.jpg", "inner/synthetic/d.jpg")
    for folders, words in [
        ([], "No data folder is named"),
        ([good, tmp_path / "nowhere"], "There is no data folder '.*nowhere'"),
        ([good, good / "real"], "needs images of both classes"),
        ([good, tmp_path / "good" / ".." / "good"], "share images; name each folder once"),
        ([good, good / "inner"], "share images; name each folder once"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            read_datasets(folders)
        assert "\n" not in str(caught.value)


def test_examples_know_their_corpus_and_each_corpus_gets_its_own_splits(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    touch(first, "train/real/coco/a.jpg", "val/real/coco/b.jpg", "train/synthetic/flux/c.jpg", "val/synthetic/flux/d.jpg")
    touch(second, *(f"train/{label}/{index}.jpg" for label in ("real", "synthetic") for index in range(40)))
    examples = with_splits(read_datasets([first, second]))
    assert {(e.corpus, e.path.is_relative_to(first)) for e in examples} == {("first", True), ("second", False)}
    assert {e.split for e in examples if e.corpus == "second"} == {"train", "val"}
    assert {e.path.name for e in examples if e.corpus == "first" and e.split == "val"} == {"b.jpg", "d.jpg"}


def test_folders_of_one_name_are_refused(tmp_path):
    folders = [tmp_path / "a" / "data", tmp_path / "b" / "data"]
    for folder in folders:
        touch(folder, "real/a.jpg", "synthetic/b.jpg")
    with pytest.raises(DataError, match="same name.*rename one"):
        read_datasets(folders)
