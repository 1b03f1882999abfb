"""detector/data/datasets.py and detector/data/augmentation.py: layouts, splits, refusals, random copies."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data.augmentation import augment, recompress
from detector.data.datasets import DataError, Example, Pictures, read_dataset, read_photographs, training_splits, views, with_splits
from detector.data.perturbations import JPEG_SIDE, WEBP_SIDE


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_class_folders_of_every_kind(tmp_path):
    touch(
        tmp_path,
        "real/a.jpg",
        "synthetic/flux/b.png",
        "stylegan/1_fake/c.jpg",
        "stylegan/0_real/d.jpg",
        "test/nature/e.webp",
        "train/ai/sd/f.JPEG",
        "real/notes.txt",
        "elsewhere/g.jpg",
    )
    found = {e.path.name: (e.label, e.source, e.split) for e in read_dataset(tmp_path)}
    assert found == {
        "a.jpg": (0, "real", ""),
        "b.png": (1, "flux", ""),
        "c.jpg": (1, "stylegan", ""),
        "d.jpg": (0, "stylegan", ""),
        "e.webp": (0, "nature", "test"),
        "f.JPEG": (1, "sd", "train"),
    }


def manifest(folder, rows, columns=("file", "split", "label", "source")):
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])


def test_manifest(tmp_path):
    manifest(tmp_path, [("x/a.jpg", "train", 0, "camera"), ("b.jpg", "val", 1, "flux")])
    first, second = read_dataset(tmp_path)
    assert (first.path, first.label, first.source, first.split) == (tmp_path / "x/a.jpg", 0, "camera", "train")
    assert (second.label, second.source) == (1, "flux")


@pytest.mark.parametrize(
    "rows, columns, words",
    [
        ([("a", "train", 0)], ("file", "split", "label"), "column.*source"),
        ([("a", "train", "zero", "s")], ("file", "split", "label", "source"), "cannot be read"),
        ([("../../a.jpg", "train", 0, "s")], ("file", "split", "label", "source"), "outside"),
        ([("a", "train", 0, "s")], ("file", "split", "label", "source"), "both classes"),
        ([("a", "train", 2, "s")], ("file", "split", "label", "source"), "label of 0"),
        ([("a", "train", 0)], ("file", "split", "label", "source"), "needs file, split, source"),
    ],
)
def test_bad_manifests(tmp_path, rows, columns, words):
    manifest(tmp_path, rows, columns)
    with pytest.raises(DataError, match=words):
        read_dataset(tmp_path)


@pytest.mark.parametrize("content", ["file,split,label,source\na.jpg,train,0,Müller\n".encode("latin-1"), "file,…".encode("utf-16")])
def test_a_manifest_that_is_not_utf_8_gets_one_sentence(tmp_path, content):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert str(caught.value) == "manifest.csv is not text in UTF-8; save it again as CSV with that encoding."


def test_a_field_beyond_what_a_manifest_may_hold_gets_one_sentence(tmp_path):
    manifest(tmp_path, [("a" * 200_000, "train", 0, "s")])
    with pytest.raises(DataError, match="cannot be read: field larger"):
        read_dataset(tmp_path)


def test_a_folder_too_small_for_validation_is_told_how_many_images_it_needs(tmp_path):
    examples = [Example(tmp_path / f"{label}.jpg", label, "s") for label in (0, 1)]
    with pytest.raises(DataError, match="holds 1 real and 1 synthetic images to train on, too few.*30 or more of each class") as caught:
        training_splits(examples, "photos")
    assert "'val'" not in str(caught.value)
    enough = [Example(tmp_path / f"{label} {i}.jpg", label, "s") for label in (0, 1) for i in range(30)]
    train, val = training_splits(enough, "photos")
    assert {e.label for e in train} == {e.label for e in val} == {0, 1} and len(train) + len(val) == 60


def test_a_split_that_the_folder_names_is_told_what_it_lacks(tmp_path):
    examples = [Example(tmp_path / f"{split}{label}.jpg", label, "s", split) for split in ("train", "val") for label in (0, 1)]
    assert [len(part) for part in training_splits(examples, "photos")] == [2, 2]
    with pytest.raises(DataError, match="The split 'val' of 'photos' has no synthetic images"):
        training_splits(examples[:3], "photos")


def test_no_such_folder_and_one_class(tmp_path):
    with pytest.raises(DataError, match="no data folder"):
        read_dataset(tmp_path / "nowhere")
    touch(tmp_path, "real/a.jpg")
    with pytest.raises(DataError, match="both classes"):
        read_dataset(tmp_path)


def test_photographs_have_their_folder_as_collection(tmp_path):
    for name in ("walk/a.png", "walk/b.JPG", "walk/c.webp", "trip/2013/d.png", "e.png", "walk/notes.txt"):
        (tmp_path / "more" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "more" / name).write_bytes(b"")
    examples = read_photographs(tmp_path / "more", 2)
    assert {(e.label, e.split, e.corpus) for e in examples} == {(0, "train", "more")}
    collections = [e.source for e in examples]
    assert collections.count("walk") == 2 and collections.count("trip/2013") == collections.count("more") == 1
    assert examples == read_photographs(tmp_path / "more", 2)
    assert {e.path for e in examples} < {e.path for e in read_photographs(tmp_path / "more", 3)}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="'.*empty' holds no photographs"):
        read_photographs(tmp_path / "empty", 2)


def test_splits_are_drawn_once_for_a_name(tmp_path):
    touch(tmp_path, *(f"{c}/{i}.jpg" for c in ("real", "synthetic") for i in range(200)))
    examples = with_splits(read_dataset(tmp_path))
    share = np.mean([e.split == "val" for e in examples])
    assert 0.08 < share < 0.25 and {e.split for e in examples} == {"train", "val"}
    assert examples == with_splits(read_dataset(tmp_path))


def test_random_copies_repeat_and_keep_the_type():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    first, again, other = (augment(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape != other.shape
    assert augment(np.zeros((1, 1, 3), np.uint8), np.random.default_rng(0)).shape == (1, 1, 3)


def copies(shape, count=300):
    """Copies of noise, each from a seed of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    return [augment(pixels, np.random.default_rng(seed)) for seed in range(count)]


def test_large_pictures_are_shrunk_as_a_whole_and_small_ones_are_not():
    large = [max(copy.shape[:2]) for copy in copies((1500, 1500), 60)]
    assert 0.3 < np.mean(np.array(large) < 0.5 * 1500 * 0.7) < 0.7  # crop and scale alone reach half of 0.7 of the side
    assert min(large) >= 0.5 * 0.7 * 0.75 * 240
    small = [max(copy.shape[:2]) for copy in copies((96, 96))]
    assert np.mean(np.array(small) == 96) > 0.05  # as they were: not shrunk, not cropped, not scaled


def test_half_of_the_copies_have_an_aspect_that_does_not_depend_on_the_picture():
    square, wide = (np.array([copy.shape[1] / copy.shape[0] for copy in copies(shape, 400)]) for shape in ((120, 120), (100, 180)))
    for aspects, own in ((square, 1.0), (wide, 1.8)):
        drawn = aspects[np.abs(np.log(aspects / own)) > 0.02]  # rounding moves an aspect less
        assert 0.4 < len(drawn) / len(aspects) < 0.6
        assert drawn.min() > 0.73 and drawn.max() < 1.37
        assert np.percentile(drawn, [25, 75]) == pytest.approx([0.87, 1.15], abs=0.06)


def test_pictures_make_the_copy_that_a_row_stands_for(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    example = Example(tmp_path / "one.png", 1, "made up")
    pictures = Pictures([example] * 3, [0, 1, 2], seed=4)
    for shown, expected in zip(pictures, views(example, 2, seed=4), strict=True):
        np.testing.assert_array_equal(shown, expected)
    assert pictures.originals() == [example] and Pictures([example]).originals() == [example]
    np.testing.assert_array_equal(pictures.rows([2])[0], pictures[2])
    np.testing.assert_array_equal(pictures[0], pixels)


def test_pictures_can_be_sliced():
    examples = [Example(Path(f"{i}.png"), 0, "made up") for i in range(4)]
    part = Pictures(examples, [0, 1, 0, 1])[1:3]
    assert part.examples == (examples[1], examples[2]) and part.copy == (1, 0)


@pytest.mark.parametrize("suffix, side", [(".jpg", JPEG_SIDE), (".webp", WEBP_SIDE)])
def test_a_side_that_the_encoder_refuses_gets_one_sentence(suffix, side):
    assert recompress(np.zeros((1, side, 3), np.uint8), suffix, 90).shape == (1, side, 3)
    with pytest.raises(ValueError, match=f"{side + 1} × 1 pixels cannot be saved as {suffix}"):
        recompress(np.zeros((1, side + 1, 3), np.uint8), suffix, 90)


def test_a_copy_that_cannot_be_encoded_names_the_image(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "one.png")
    monkeypatch.setattr("detector.data.datasets.augment", lambda pixels, generator: recompress(pixels.repeat(20_000, 1), ".webp", 90))
    with pytest.raises(DataError, match="one.png.*cannot be saved"):
        views(Example(tmp_path / "one.png", 0, "made up"), 1, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lower_quality_changes_more(suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    errors = [np.abs(recompress(pixels, suffix, q).astype(int) - pixels).mean() for q in (95, 40)]
    assert 0 < errors[0] < errors[1]


def test_a_files_key_follows_its_name_and_content_alone(tmp_path):
    import os

    from detector.data.datasets import file_key

    one, copy = tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg"
    for path, content in ((one, b"one"), (copy, b"one")):
        path.parent.mkdir()
        path.write_bytes(content)
    os.utime(copy, (1, 1))
    key = file_key(one)
    assert file_key(copy) == key
    copy.write_bytes(b"two")
    assert file_key(copy) != key
    assert file_key(copy.rename(tmp_path / "b" / "y.jpg")) != file_key(one)
