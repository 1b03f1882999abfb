"""Public data sets of the field, written as a data DIR: the images' own bytes and a manifest.csv.

What the papers do on each, and what `evaluate` does on the DIR written here. Everywhere: every method keeps the preprocessing it
was made with, whatever the paper's was; the threshold is logit 0, fixed on validation images; AUROC, AP, accuracy and F1 are
given overall and for each source, and the mean AP over sources.

synthclic, synthbuster-plus (the hub; arXiv 2602.12381, docs/methods.md, 1.6): bilinear to 336, centre crop; AP, AUROC, accuracy and F1 at
0.5 for each generator against all real images of the split; mAP is the mean AP over generators. Ours: the same measures.
cnnspot (the hub, or folders; CVPR 2020): each source names a test set and holds real images of its own; AP for each, classes
pooled, then the mean. Ours: the same, since a source that has real images is compared with those only.
univfd (folders `SOURCE/[CLASS/]0_real, 1_fake`; arXiv 2302.10174; docs/methods.md, 5): centre crop of 224 without resize, up to 1,000
images of a class (`limit=1000`), AP and accuracy at 0.5 for each source, classes pooled, and accuracy at the best threshold in hindsight.
Ours: the same with `--protocol univfd`; the released head gets its crop. The paper pairs the diffusion sets, which hold no real images,
with either LAION or ImageNet; so does `evaluate --protocol univfd`, and plain `evaluate` compares them with all real images of the split.
genimage (folders `GENERATOR/[ARCHIVE/]{train,val}/{nature,ai}`): trained on one generator, accuracy on every generator's val. Ours:
val is written as `test`, `train` draws its own validation images; each generator against its own `nature` images. Those are
JPEG and most synthetic ones PNG, which a detector may learn instead (the study `format` measures how much).
table (a CSV file with a column of paths, one of labels, perhaps source and split): made for lists such as SynRIS's, on which SDD
reports AUROC (docs/methods.md, 2.3). How SynRIS names its columns is not known to us: name them with `--columns label=…,path=…`. Ours:
rows as they are.

The hub's three sets have the columns image, label (0 real, 1 synthetic), source, image_id and the splits train, validation, test:
read from their authors' released scripts and notebooks, not tried here on the sets themselves. Folders need no adapter for
`train` and `evaluate`, which read them as they lie; `prepare` pools classes and gives one manifest.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from detector.data.datasets import CLASS_FOLDERS, SPLITS, DataError, read_dataset
from detector.data.images import ImageError, load_photo

HUB_SETS = {
    "synthclic": "marco-willi/synthclic",
    "synthbuster-plus": "marco-willi/synthbuster-plus",
    "cnnspot": "marco-willi/cnnspot-small",
}
POOLED_SETS = ("cnnspot", "univfd", "genimage")  # folders whose first level names the source
NAMES = tuple(dict.fromkeys([*HUB_SETS, *POOLED_SETS, "folder", "table"]))
COLUMNS = {
    "image": ("image", "file", "path", "filename", "file_name", "image_path"),
    "label": ("label", "target", "is_fake", "class"),
    "source": ("source", "generator"),
    "split": ("split",),
}
LABEL_WORDS = CLASS_FOLDERS | {"0": 0, "false": 0, "1": 1, "generated": 1, "true": 1}
HUB_PATH = "hf://"  # the one kind of address that is followed where a row holds no bytes


@dataclass(frozen=True)
class Item:
    """One labelled image of a data set: how to get its bytes, 0 real or 1 synthetic, and where it belongs."""

    read: Callable[[], bytes]
    label: int
    source: str
    split: str


def prepare(
    name: str,
    out: Path,
    source: Path | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Write a public data set as a data DIR and return what was written: "images", "skipped" (unreadable), "repeated".

    name: one of NAMES. source: local folder (also the hub's parquet files or what `save_to_disk` wrote) or CSV file; without one
    the set is streamed from the hub with the `datasets` library. limit: at most so many images of each source, class and split;
    a stream is read to its end even so, because its sources may come in any order. columns: other names for image, label, source
    and split. progress: called with the number of images so far. DataError, one sentence, if the set cannot be read.

    Files are copied, not linked: DIR then stands by itself, and nothing done to it reaches the originals.
    """
    if name not in NAMES:
        raise DataError(f"There is no data set '{name}' here; there are {', '.join(NAMES)}.")
    if unknown := set(columns or ()) - set(COLUMNS):
        raise DataError(f"There is no column {', '.join(sorted(unknown))} to rename; there are {', '.join(COLUMNS)}.")
    if (out / "manifest.csv").exists():
        raise DataError(f"'{out}' holds a manifest.csv already; choose another folder.")
    return write_items(limit_items(read_items(name, source, columns or {}), limit), out, progress)


def read_items(name: str, source: Path | None, columns: Mapping[str, str]) -> Iterator[Item]:
    """The images of a data set, one after another; no bytes are read before `Item.read`. DataError if a source is needed."""
    if name in HUB_SETS and (source is None or is_hub_copy(source)):
        return from_rows(stream(source or HUB_SETS[name], columns), columns)
    if source is None:
        raise DataError(f"'{name}' has no place on the hub; name its folder or table with --from.")
    if name == "table":
        return from_table(source, columns)
    return from_folder(source, pooled=name in POOLED_SETS, val_is_test=name == "genimage")


# --- the hub's data sets -------------------------------------------------------------------------------------------


def is_hub_copy(folder: Path) -> bool:
    """Whether a folder holds parquet files, as the hub does, or what the library's `save_to_disk` writes."""
    return (folder / "dataset_dict.json").is_file() or any(folder.rglob("*.parquet"))


def parquet_files(folder: Path) -> dict[str, list[str]]:
    """Split → parquet files, by the word with which the hub begins their names (`train-00000-of-00002.parquet`)."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        word = re.split(r"[-_.]", path.name)[0].lower()
        files.setdefault(SPLITS.get(word, "train"), []).append(str(path))
    return files


def stream(place: str | Path, columns: Mapping[str, str]) -> Iterator[tuple[str, dict]]:
    """(split, row) of a repository of the hub or a local copy of one, images undecoded. DataError if it cannot be read."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("Reading this needs the 'datasets' library: `pip install datasets`, or name a folder with --from.") from error
    try:
        for split, rows in _splits(datasets, place).items():
            yield from ((split, row) for row in _raw_rows(datasets, rows, columns))
    except DataError:
        raise
    except Exception as error:  # the library and its network client raise many kinds
        raise DataError(f"'{place}' could not be read ({_reason(error)}); check the connection, or name a local copy.") from error


def _splits(datasets, place: str | Path) -> Mapping:
    if not isinstance(place, Path):
        return datasets.load_dataset(place, streaming=True)
    if (place / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(place))
    return datasets.load_dataset("parquet", data_files=parquet_files(place), streaming=True)


def _raw_rows(datasets, rows, columns: Mapping[str, str]) -> Iterator[dict]:
    """Rows of one split with the image as {"bytes", "path"}, and the label in words where the set numbers its classes.

    Such numbers mean whatever the set's names say: folders `fake` and `real` become 0 and 1 in this order.
    """
    image, label = (columns.get(name, name) for name in ("image", "label"))
    features = getattr(rows, "features", None) or {}
    if features and image not in features:
        raise DataError(_lacks([image], features))
    names: list[str] = getattr(features.get(label), "names", None) or []
    for row in rows.cast_column(image, datasets.Image(decode=False)):
        number = row.get(label)
        has_name = isinstance(number, int) and 0 <= number < len(names)
        yield row | {label: names[number]} if has_name else row


def from_rows(rows: Iterable[tuple[str, dict]], columns: Mapping[str, str] | None = None) -> Iterator[Item]:
    """Items from (split, row), a row with the columns image ({"bytes", "path"}), label and source or their other names."""
    image, label, source = ((columns or {}).get(name, name) for name in ("image", "label", "source"))
    for split, row in rows:
        if missing := {image, label} - row.keys():
            raise DataError(_lacks(missing, row))
        yield Item(_reader(row[image] or {}), label_of(row[label]), str(row.get(source) or "unknown"), split_of(split))


def _lacks(missing: Iterable[str], present: Iterable[str]) -> str:
    return f"The data set lacks the column(s) {', '.join(sorted(missing))}; it has {', '.join(present)}."


def _reader(image: Mapping) -> Callable[[], bytes]:
    """Bytes as the row holds them, or from the hub. No other address is followed: a data set may not name files of this machine."""
    content, path = image.get("bytes") or b"", str(image.get("path") or "")
    return (lambda: _fetch(path)) if not content and path.split("::")[-1].startswith(HUB_PATH) else lambda: content


def _fetch(path: str) -> bytes:
    import fsspec  # comes with torch and with the datasets library

    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except Exception as error:  # as many kinds as there are ways to lose a connection
        raise DataError(f"'{path}' could not be fetched ({_reason(error)}); check the connection.") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def label_of(value: object) -> int:
    """0 real or 1 synthetic from a number or a word of the field. DataError for any other."""
    label = LABEL_WORDS.get(str(value).strip().lower().removesuffix(".0"))
    if label is None:
        raise DataError(f"The label {value!r} is neither real (0) nor synthetic (1).")
    return label


def split_of(name: object) -> str:
    """train, val or test for the usual names of these; any other name as it is, '' for none."""
    text = str(name or "").strip()
    return SPLITS.get(text.lower(), text)


# --- folders and tables --------------------------------------------------------------------------------------------


def from_folder(folder: Path, pooled: bool = False, val_is_test: bool = False) -> Iterator[Item]:
    """Items of a folder in any layout that `read_dataset` understands.

    pooled: the first folder that names neither class nor split is the source, so that CLASS folders below it count together;
    else all such folders, joined by '/'. val_is_test: `val` is what the papers report on, so it becomes `test`.
    """
    pooled = pooled and not (folder / "manifest.csv").is_file()
    for example in read_dataset(folder):
        source = first_folder(example.path, folder) if pooled else example.source
        split = "test" if val_is_test and example.split == "val" else example.split
        yield Item(example.path.read_bytes, example.label, source, split)


def first_folder(path: Path, folder: Path) -> str:
    """The first folder between `folder` and `path` that names neither a class nor a split; the folder's own name if none does."""
    parts = (part.lower() for part in path.relative_to(folder).parts[:-1])
    return next((part for part in parts if part not in CLASS_FOLDERS and part not in SPLITS), folder.resolve().name)


def from_table(table: Path, columns: Mapping[str, str]) -> Iterator[Item]:
    """Items of a CSV file: a column of paths (relative to the file), one of labels, perhaps source and split."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            names = {name: _column(rows.fieldnames or (), name, columns) for name in COLUMNS}
            for required in ("image", "label"):
                if names[required] is None:
                    raise DataError(f"{table.name} needs a column named {columns.get(required) or ', '.join(COLUMNS[required])}.")
            for row in rows:
                file, label, source, split = (row[column] if column else None for column in names.values())
                path = _inside(table.parent, file or "")
                yield Item(path.read_bytes, label_of(label), source or table.stem, split_of(split))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{table.name} cannot be read as a CSV table ({_reason(error)}).") from error


def _column(present: Iterable[str], name: str, columns: Mapping[str, str]) -> str | None:
    names = (columns[name].lower(),) if name in columns else COLUMNS[name]
    return next((column for column in present if column.strip().lower() in names), None)


def _inside(folder: Path, file: str) -> Path:
    if "\0" in file or not (folder / file).resolve().is_relative_to(folder.resolve()):
        raise DataError(f"The file {file!r} lies outside the table's folder.")
    return folder / file


# --- writing -------------------------------------------------------------------------------------------------------


def limit_items(items: Iterable[Item], limit: int | None) -> Iterator[Item]:
    """At most `limit` items of each source, class and split, the first ones."""
    counts: dict[tuple[str, str, int], int] = {}
    for item in items:
        key = item.split, item.source, item.label
        counts[key] = counts.get(key, 0) + 1
        if limit is None or counts[key] <= limit:
            yield item


def write_items(items: Iterable[Item], out: Path, progress: Callable[[int], None] | None = None) -> dict[str, int]:
    """Write the items' bytes as numbered files, and manifest.csv; return the counts "images", "skipped" and "repeated".

    What is no image is skipped. Content is written once for each source and class, since sources may share real images.
    progress: called with the number of items so far. DataError unless there are images of both classes.
    """
    counts = {"images": 0, "skipped": 0, "repeated": 0}
    (out / "images").mkdir(parents=True, exist_ok=True)
    partial = out / "manifest.csv.partial"
    contents: set[tuple[bytes, int, str]] = set()
    labels: set[int] = set()
    with open(partial, "w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(["file", "split", "label", "source"])
        for number, item in enumerate(items, 1):
            outcome, file = _write(item, out, counts["images"], contents)
            counts[outcome] += 1
            if outcome == "images":
                labels.add(item.label)
                rows.writerow([file, item.split, item.label, item.source])
            if progress:
                progress(number)
    if labels != {0, 1}:
        raise DataError("There was no usable image of both classes in it.")
    partial.rename(out / "manifest.csv")
    return counts


def _write(item: Item, out: Path, number: int, contents: set[tuple[bytes, int, str]]) -> tuple[str, str]:
    """Write one item. The key of `write_items`' counts that it falls under, and its file below `out`, '' if none was written."""
    try:
        content = item.read()
        suffix = (load_photo(content).facts.format or "img").lower()
    except (ImageError, OSError):
        return "skipped", ""
    key = hashlib.sha256(content).digest(), item.label, item.source
    if key in contents:
        return "repeated", ""
    contents.add(key)
    file = f"images/{number:06d}.{suffix}"
    (out / file).write_bytes(content)
    return "images", file
