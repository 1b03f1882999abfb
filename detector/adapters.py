"""Public data sets of the field, written as a data DIR: the images' own bytes and a manifest.csv.

synthclic, synthbuster-plus (the hub; arXiv 2602.12381): bilinear to 336, centre crop; AP for each generator against all real
images, then the mean. Ours: each method's own preprocessing, the same AP and mean, plus AUROC, accuracy and F1 at a threshold
fixed on validation images.
cnnspot (the hub, or folders; CVPR 2020): every source has its own real images; AP for each, then the mean. Ours: the same;
`evaluate` compares a source that has real images of its own with those only.
univfd (folders `SOURCE/[CLASS/]0_real, 1_fake`; arXiv 2302.10174): centre crop of 224 without resize, at most 1,000 images of a
class, AP and accuracy at 0.5 for each source. Ours: as cnnspot; the released head gets its crop without resize.
genimage (folders `GENERATOR/{train,val}/{nature,ai}`): trained on one generator, accuracy on each. Ours: each generator against
its own `nature` images. Its real images are JPEG and most synthetic ones PNG, which a detector may learn instead.
table (a CSV file with a column of paths and one of labels, as SynRIS's lists): AUROC. Ours: the rows as they are.

Folders need no adapter for `train` and `evaluate`, which read them as they lie; `prepare` is for those who want one manifest.
On the hub's sets the columns are image, label (0 real, 1 synthetic), source and image_id, as their authors' notebooks use them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from detector.data import SPLITS, DataError, read_dataset
from detector.images import ImageError, load_photo

HUB_SETS = {"synthclic": "marco-willi/synthclic", "synthbuster-plus": "marco-willi/synthbuster-plus",
            "cnnspot": "marco-willi/cnnspot-small"}
FOLDER_SETS = ("cnnspot", "univfd", "genimage", "folder")
NAMES = tuple(dict.fromkeys([*HUB_SETS, *FOLDER_SETS, "table"]))
PATH_COLUMNS, LABEL_COLUMNS = ("file", "path", "filename", "image", "image_path"), ("label", "target", "is_fake", "class")
LABEL_WORDS = {"0": 0, "real": 0, "nature": 0, "false": 0, "1": 1, "fake": 1, "ai": 1, "synthetic": 1, "generated": 1, "true": 1}


@dataclass(frozen=True)
class Item:
    """One labelled image as it comes from a data set: its bytes, 0 real or 1 synthetic, and where it belongs."""

    content: bytes
    label: int
    source: str
    split: str


def prepare(name: str, out: Path, source: Path | None = None, limit: int | None = None) -> dict[str, int]:
    """Write a public data set as a data DIR and return what was written: "images", "skipped" (unreadable), "repeated".

    name: one of NAMES. source: local folder or CSV; without one the set is streamed from the hub with the `datasets`
    library. limit: stop after so many images of each class and split. DataError, one sentence, if it cannot be had.
    """
    if name not in NAMES:
        raise DataError(f"There is no data set '{name}' here; there are {', '.join(NAMES)}.")
    if source is None and name not in HUB_SETS:
        raise DataError(f"'{name}' has no place on the hub; name its folder or table with --from.")
    if (out / "manifest.csv").exists():
        raise DataError(f"'{out}' holds a manifest.csv already; choose another folder.")
    return write_items(limited(read_items(name, source), limit), out)


def read_items(name: str, source: Path | None) -> Iterator[Item]:
    """The images of a data set, one after another; nothing is kept in memory."""
    if name == "table":
        return from_table(source)
    if source is None:
        return from_rows(stream(HUB_SETS[name]))
    if any(source.rglob("*.parquet")):
        return from_rows(stream("parquet", {split: [str(f) for f in files] for split, files in parquet_files(source).items()}))
    return from_folder(source)


# --- the hub's data sets -------------------------------------------------------------------------------------------


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Split → parquet files, by the word with which the hub begins their names (`train-00000-of-00002.parquet`)."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        word = re.split(r"[-_.]", path.name)[0].lower()
        found.setdefault(SPLITS.get(word, "train"), []).append(path)
    return found


def stream(repository: str, files: dict | None = None) -> Iterator[tuple[str, dict]]:
    """(split, row) of a data set as the `datasets` library streams it, images undecoded. DataError if that fails."""
    try:
        from datasets import Image, load_dataset
    except ImportError as error:
        raise DataError("Reading this needs the 'datasets' library: `pip install datasets`, or name a folder with --from.") from error
    try:
        for split, rows in load_dataset(repository, data_files=files, streaming=True).items():
            for row in rows.cast_column("image", Image(decode=False)):
                yield split, row
    except DataError:
        raise
    except Exception as error:  # the library and its network client raise many kinds
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"'{repository}' could not be read ({reason}); check the connection, or name a local copy.") from error


def from_rows(rows: Iterable[tuple[str, dict]]) -> Iterator[Item]:
    """Items from rows with the columns image ({"bytes", "path"}), label and source."""
    for split, row in rows:
        missing = {"image", "label"} - row.keys()
        if missing:
            raise DataError(f"The data set lacks the column(s) {', '.join(sorted(missing))}; it has {', '.join(row)}.")
        image = row["image"] or {}
        content = image.get("bytes") or (Path(image["path"]).read_bytes() if image.get("path") else b"")
        yield Item(content, label_of(row["label"]), str(row.get("source") or "unknown"), SPLITS.get(split.lower(), split))


def label_of(value: object) -> int:
    """0 real or 1 synthetic from a number or a word of the field. DataError for any other."""
    label = LABEL_WORDS.get(str(value).strip().lower())
    if label is None:
        raise DataError(f"The label {value!r} is neither real (0) nor synthetic (1).")
    return label


# --- folders and tables --------------------------------------------------------------------------------------------


def from_folder(folder: Path) -> Iterator[Item]:
    """Items of a folder in any layout that `read_dataset` understands."""
    for example in read_dataset(folder):
        yield Item(example.path.read_bytes(), example.label, example.source, example.split)


def from_table(table: Path) -> Iterator[Item]:
    """Items of a CSV file: a column of paths (relative to the file), one of labels, perhaps `split` and `source`."""
    with open(table, newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        path, label = (_column(rows.fieldnames or (), names, table) for names in (PATH_COLUMNS, LABEL_COLUMNS))
        for row in rows:
            file = table.parent / (row[path] or "")
            if not file.resolve().is_relative_to(table.parent.resolve()):
                raise DataError(f"The file '{row[path]}' lies outside the table's folder.")
            content = file.read_bytes() if file.is_file() else b""
            yield Item(content, label_of(row[label]), row.get("source") or table.stem, row.get("split") or "")


def _column(present: Iterable[str], wanted: tuple[str, ...], table: Path) -> str:
    for name in present:
        if name.strip().lower() in wanted:
            return name
    raise DataError(f"{table.name} needs a column named {', '.join(wanted[:-1])} or {wanted[-1]}.")


# --- writing -------------------------------------------------------------------------------------------------------


def limited(items: Iterable[Item], limit: int | None) -> Iterator[Item]:
    """At most `limit` items of each class and split, the first ones."""
    counts: dict[tuple[str, int], int] = {}
    for item in items:
        key = item.split, item.label
        counts[key] = counts.get(key, 0) + 1
        if limit is None or counts[key] <= limit:
            yield item


def write_items(items: Iterable[Item], out: Path) -> dict[str, int]:
    """The items' bytes as numbered files and a manifest.csv; what is no image is left out, repeated content written once."""
    written = {"images": 0, "skipped": 0, "repeated": 0}
    (out / "images").mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    partial = out / "manifest.csv.partial"
    with open(partial, "w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(["file", "split", "label", "source"])
        for item in items:
            try:
                suffix = (load_photo(item.content).facts.format or "img").lower()
            except ImageError:
                written["skipped"] += 1
                continue
            if (key := hash((item.content, item.label, item.source))) in seen:
                written["repeated"] += 1
                continue
            seen.add(key)
            file = f"images/{written['images']:06d}.{suffix}"
            (out / file).write_bytes(item.content)
            rows.writerow([file, item.split, item.label, item.source])
            written["images"] += 1
    if not written["images"]:
        raise DataError("There was no usable image in it.")
    partial.rename(out / "manifest.csv")
    return written
