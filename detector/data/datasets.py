"""Labelled image folders: which files, which label, which source, which split."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np

from detector.data.augmentation import augment
from detector.data.images import ImageError, Photo, load_photo

CLASS_FOLDERS = {"real": 0, "0_real": 0, "nature": 0, "synthetic": 1, "1_fake": 1, "fake": 1, "ai": 1}
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".jp2", ".jfif"}

CLASS_NAMES = ("real", "synthetic")  # by label
MIN_OF_A_CLASS = 30  # images of a class, of which fewer than one draw in a hundred sets none aside for validation: 0.85^30


class DataError(ValueError):
    """One sentence that says what is wrong with a data folder."""


@dataclass(frozen=True)
class Example:
    """One labelled image. label: 0 real, 1 synthetic; source: data set or generator; split: '' where none is given; corpus: name of the
    data folder; origin: of a re-synthesis, the source of its photograph."""

    path: Path
    label: int
    source: str
    split: str = ""
    corpus: str = ""
    origin: str = ""


def photo_of(example: Example) -> Photo:
    """The decoded image of an example, with its file facts. DataError if the file cannot be used."""
    try:
        return load_photo(example.path)
    except ImageError as error:
        raise DataError(f"The data holds an unusable image, '{example.path}': {error}") from error


def file_key(path: Path) -> str:
    """The file's name, which random copies follow from, and the SHA-256 of its content: equal for copies of a data set."""
    status = path.stat()
    return f"{path.name} {_content_hash(path, status.st_mtime_ns, status.st_size)}"


@lru_cache(maxsize=100_000)
def _content_hash(path: Path, changed: int, size: int) -> str:
    """changed, size: of the file, so that one that was written since is read again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def views(example: Example, copies: int, seed: int) -> list[np.ndarray]:
    """The image as it is, then `copies` random copies of it, (H, W, 3) uint8 each; the same for the same seed and file name.

    DataError, one sentence, if the file cannot be decoded or a copy cannot be encoded.
    """
    pixels = photo_of(example).pixels
    key = int.from_bytes(hashlib.sha256(example.path.name.encode()).digest()[:6], "big")
    generator = np.random.default_rng((seed, key))
    try:
        return [pixels, *(augment(pixels, generator) for _ in range(copies))]
    except ValueError as error:  # a side too long for an encoder
        raise DataError(f"The data holds an unusable image, '{example.path}': {error}") from error


class Pictures(Sequence[np.ndarray]):
    """The pixels of examples, (H, W, 3) uint8 each, decoded at each access: those of a whole split would fill the memory.

    copy: for each example 0, the image as it is (default), or the number of one of its random copies; seed: of the copies.
    """

    def __init__(self, examples: Sequence[Example], copy: Sequence[int] | None = None, seed: int = 0):
        self.examples, self.copy, self.seed = tuple(examples), tuple(copy or [0] * len(examples)), seed

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Pictures: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Pictures:
        if isinstance(index, slice):
            return self.rows(np.arange(len(self))[index])
        return views(self.examples[index], self.copy[index], self.seed)[-1]

    def rows(self, mask: np.ndarray) -> Pictures:
        """The pictures of a boolean mask (N,) or of integer positions."""
        positions = np.arange(len(self))[mask]
        return Pictures([self.examples[i] for i in positions], [self.copy[i] for i in positions], self.seed)

    def joined(self, other: Pictures) -> Pictures:
        """These pictures, then the other ones. ValueError where their copies have other seeds."""
        if self.seed != other.seed:
            raise ValueError("Pictures whose copies have other seeds cannot be joined.")
        return Pictures([*self.examples, *other.examples], [*self.copy, *other.copy], self.seed)

    def originals(self) -> list[Example]:
        """The examples whose copy number is 0."""
        return [example for example, copy in zip(self.examples, self.copy, strict=True) if copy == 0]


def read_dataset(folder: Path | str) -> list[Example]:
    """All examples of a data folder, in a fixed order.

    The folder holds `manifest.csv` (columns file, split, label, source) or class folders (`real`/`synthetic`, `0_real`/`1_fake`,
    `nature`/`ai`) at any depth. Of the other folder names `train`, `val` and `test` give the split, the rest the source.
    Raises DataError if there is neither, or only one class.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no data folder '{folder}'.")
    manifest = folder / "manifest.csv"
    examples = _from_manifest(manifest) if manifest.is_file() else _from_folders(folder)
    if {example.label for example in examples} != {0, 1}:
        raise DataError(
            f"'{folder}' needs images of both classes: folders real/ and synthetic/ (or 0_real/1_fake, nature/ai), "
            "or a manifest.csv with the columns file, split, label, source."
        )
    corpus = folder.resolve().name
    return [replace(example, corpus=corpus) for example in examples]


def read_datasets(folders: Sequence[Path | str]) -> list[Example]:
    """All examples of several data folders, in the order of the folders, each read as `read_dataset` reads it.

    Sources of the same name are one source, whichever folders they stand in; images of the same file name are different images.
    Raises DataError where a folder cannot be read, no folder is named, or one image would count twice.
    """
    if not folders:
        raise DataError("No data folder is named; name at least one.")
    examples = [example for folder in folders for example in read_dataset(folder)]
    if len({example.path.resolve() for example in examples}) < len(examples) and len(folders) > 1:
        raise DataError("The data folders share images; name each folder once, and none that lies inside another.")
    if len({example.corpus for example in examples}) < len(folders):
        raise DataError("Two data folders have the same name, by which tables tell them apart; rename one.")
    return examples


def read_photographs(folder: Path, most: int) -> list[Example]:
    """Photographs of a folder as examples of label 0 and split `train`: at most `most` of each collection, in a fixed order.

    The folders below `folder` name the collection; of a large one the files are chosen by a hash of their names. DataError if the folder
    holds no image.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not files:
        raise DataError(f"'{folder}' holds no photographs; name a folder with a subfolder for each collection.")
    corpus, collections = folder.resolve().name, defaultdict(list)
    for path in files:
        collections["/".join(path.relative_to(folder).parts[:-1]) or corpus].append(path)
    for paths in collections.values():
        paths.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    return [Example(path, 0, name, "train", corpus) for name, paths in collections.items() for path in sorted(paths[:most])]


def _from_manifest(manifest: Path) -> list[Example]:
    try:
        with open(manifest, newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            missing = {"file", "split", "label", "source"} - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"manifest.csv lacks the column(s) {', '.join(sorted(missing))}.")
            return [_from_row(manifest.parent, row) for row in rows]
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError("manifest.csv is not text in UTF-8; save it again as CSV with that encoding.") from error
    except (TypeError, ValueError, csv.Error) as error:
        raise DataError(f"manifest.csv cannot be read: {error}.") from error


def _from_row(folder: Path, row: dict) -> Example:
    if None in row.values() or row["label"] not in ("0", "1"):
        raise ValueError(f"the row of '{row['file']}' needs file, split, source and a label of 0 (real) or 1 (synthetic)")
    return Example(_inside(folder, row["file"]), int(row["label"]), row["source"], row["split"])


def _inside(folder: Path, file: str) -> Path:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the file '{file}' lies outside its folder")
    return path


def _from_folders(folder: Path) -> list[Example]:
    examples = []
    for path in sorted(folder.rglob("*")):
        parts = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        classes = [part for part in parts if part in CLASS_FOLDERS]
        if path.suffix.lower() not in IMAGE_SUFFIXES or not classes or path.is_dir():
            continue
        others = [part for part in parts if part not in CLASS_FOLDERS and part not in SPLITS]
        split = next((SPLITS[part] for part in parts if part in SPLITS), "")
        source = "/".join(others) or classes[-1]
        examples.append(Example(path, CLASS_FOLDERS[classes[-1]], source, split))
    return examples


def with_splits(examples: list[Example], val_share: float = 0.15, test: bool = False) -> list[Example]:
    """Give examples that name no split one by a hash of their file name: `val` for `val_share` of them, else `train`.

    With `test`, as many again become `test`. Where no example of a corpus is in `val`, a share `val_share` of its `train` becomes `val`.
    """
    with_val = {e.corpus for e in examples if e.split == "val"}

    def draw(example: Example) -> str:
        digest = hashlib.sha256(example.path.name.encode()).digest()
        place = int.from_bytes(digest[:4], "big") / 2**32
        is_test = test and not example.split and place < 2 * val_share
        return "val" if place < val_share else "test" if is_test else "train"

    def is_drawn(example: Example) -> bool:
        return not example.split or (example.split == "train" and example.corpus not in with_val)

    return [replace(e, split=draw(e)) if is_drawn(e) else e for e in examples]


def training_splits(examples: list[Example], folder: Path | str) -> tuple[list[Example], list[Example]]:
    """Examples to train on and to validate with. Raises DataError where one of the two lacks a class."""
    all_splits = with_splits(examples)
    parts = {name: select(all_splits, name) for name in ("train", "val")}
    for name, part in parts.items():
        missing = sorted({0, 1} - {example.label for example in part})
        if missing and any(example.split == "val" for example in examples):
            raise DataError(f"The split '{name}' of '{folder}' has no {CLASS_NAMES[missing[0]]} images; add some of both classes to it.")
        if missing:
            raise DataError(_too_few(all_splits, folder))
    return parts["train"], parts["val"]


def _too_few(examples: list[Example], folder: Path | str) -> str:
    usable = [example.label for example in examples if example.split in ("train", "val")]
    counts = " and ".join(f"{usable.count(label)} {name}" for label, name in enumerate(CLASS_NAMES))
    return (
        f"'{folder}' holds {counts} images to train on, too few to set some of each class aside for validation; "
        f"use {MIN_OF_A_CLASS} or more of each class, or sort them into folders train/ and val/."
    )


def select(examples: list[Example], split: str) -> list[Example]:
    """The examples of one split."""
    return [example for example in examples if example.split == split]
