"""Shards: parts of a job's inputs that one task reads. A shard is a small description, which travels to the machine that reads it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import fsspec

from detector.data.datasets import IMAGE_SUFFIXES
from detector.data.images import MAX_BYTES
from detector.scale.items import Item, class_of, source_of, truth_of

ROWS = 64  # of a Parquet file read at once


class Shard(Protocol):
    """Some inputs of a job."""

    def items(self) -> Iterator[Item]:
        """The inputs, always the same ones in the same order."""


def is_url(place: str) -> bool:
    """Whether a place is an fsspec URL, such as s3://bucket/photos, and no path of this machine."""
    return "://" in place


def last_name(place: str) -> str:
    """The last part of a path or URL, for sentences."""
    return PurePosixPath(place.rstrip("/")).name or place


def open_file(place: str) -> IO[bytes]:
    """A file of this machine or behind an fsspec URL, to be read."""
    return fsspec.open(place, "rb").open()


@dataclass(frozen=True)
class Entry:
    """A file of a `FileShard`. place: its path or URL; source, truth: see `Item`."""

    place: str
    source: str = ""
    truth: int | None = None


@dataclass(frozen=True)
class FileShard:
    """Files, each of them a picture."""

    entries: tuple[Entry, ...]

    def items(self) -> Iterator[Item]:
        """See `Shard`."""
        for entry in self.entries:
            yield read_entry(entry) if is_url(entry.place) else Item(entry.place, source=entry.source, truth=entry.truth)


def read_entry(entry: Entry) -> Item:
    """The bytes of one file, as an input; one that cannot be read gives its sentence."""
    name = last_name(entry.place)
    try:
        with open_file(entry.place) as file:
            return Item(entry.place, file.read(MAX_BYTES + 1), "", entry.source, entry.truth)
    except (FileNotFoundError, NotADirectoryError):
        error = f"“{name}” was not found; check the name and the folder."
    except Exception as reason:  # each kind of storage fails in its own way
        error = f"“{name}” could not be read from its storage ({type(reason).__name__}); try again with --resume."
    return Item(entry.place, None, error, entry.source, entry.truth)


# --- WebDataset ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TarShard:
    """A WebDataset archive: pictures, each with an optional .json of the same name, whose `source` and `label` (0, 1, or the name of a
    class) say what it is."""

    place: str

    def items(self) -> Iterator[Item]:
        """See `Shard`. An archive that ends early gives one more input, whose error says so."""
        count, keys = 0, set()
        try:
            for item in self._samples():
                key = item.key if item.key not in keys else f"{item.key}::{count}"  # an archive may hold a name twice
                keys.add(key)
                count += 1
                yield Item(key, item.data, item.error, item.source, item.truth)
        except (tarfile.TarError, OSError, EOFError) as reason:
            name, kind = last_name(self.place), type(reason).__name__
            yield Item(f"{self.place}::", None, f"“{name}” is no tar archive, or damaged after {count} pictures ({kind}); get it again.")

    def _samples(self) -> Iterator[Item]:
        """The pictures, each with what the .json beside it says; files of one sample stand one after another."""
        waiting: list[tuple[str, bytes]] = []
        facts: dict[str, Any] = {}
        stem = None
        for name, data in self._members():
            if _stem(name) != stem:
                yield from self._with_facts(waiting, facts)
                waiting, facts, stem = [], {}, _stem(name)
            if name.lower().endswith(".json"):
                facts = _facts(data)
            else:
                waiting.append((name, data))
        yield from self._with_facts(waiting, facts)

    def _members(self) -> Iterator[tuple[str, bytes]]:
        with open_file(self.place) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                suffix = PurePosixPath(member.name).suffix.lower()
                if member.isfile() and (suffix in IMAGE_SUFFIXES or suffix == ".json"):
                    content = archive.extractfile(member)
                    yield member.name, content.read(MAX_BYTES + 1) if content else b""
            if self.place.lower().endswith(".tar"):
                _require_end(file)

    def _with_facts(self, waiting: list[tuple[str, bytes]], facts: Mapping[str, Any]) -> Iterator[Item]:
        for name, data in waiting:
            folders = PurePosixPath(name).parts[:-1]
            truth = truth_of(facts["label"]) if "label" in facts else class_of(folders)
            source = str(facts.get("source") or source_of(folders) or PurePosixPath(self.place).stem)
            yield Item(f"{self.place}::{name}", data, "", source, truth)


def _require_end(file: IO[bytes]) -> None:
    """ReadError unless the archive ends with an empty block: `tarfile` takes one that is cut off in a header for a whole one."""
    file.seek(-tarfile.BLOCKSIZE, 2)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("no end of archive")


def _stem(name: str) -> str:
    """A member's name up to the first dot of its last part: what the files of one sample share."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


# --- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what. image: bytes, a path or URL, or {bytes, path}; "": no such column for the others."""

    image: str
    source: str = ""
    label: str = ""

    def names(self) -> list[str]:
        """The columns that are there."""
        return [name for name in (self.image, self.source, self.label) if name]

    def item(self, row: Mapping[str, Any], key: str, folder: str) -> Item:
        """The input of a row. folder: what relative paths start from."""
        source = str(row[self.source]) if self.source and row[self.source] is not None else ""
        truth = truth_of(row[self.label]) if self.label else None
        value = row[self.image]
        if isinstance(value, Mapping):  # the Image feature of `datasets`
            value = value.get("bytes") or value.get("path")
        if isinstance(value, (bytes, bytearray)):
            return Item(key, bytes(value), "", source, truth)
        if isinstance(value, str) and value:
            place = value if is_url(value) or value.startswith("/") or not folder else f"{folder}/{value}"
            file = read_entry(Entry(place))
            return Item(key, file.data, file.error, source, truth)
        return Item(key, None, f"The row has no picture in the column '{self.image}'.", source, truth)


@dataclass(frozen=True)
class ParquetShard:
    """A row group of a Parquet file. first: number of its first row in the file."""

    place: str
    group: int
    first: int
    columns: Columns

    def items(self) -> Iterator[Item]:
        """See `Shard`."""
        import pyarrow.parquet as pq

        folder = self.place.rpartition("/")[0]
        number = self.first
        with open_file(self.place) as file:
            for batch in pq.ParquetFile(file).iter_batches(ROWS, [self.group], self.columns.names()):
                for row in batch.to_pylist():
                    yield self.columns.item(row, f"{self.place}::{number}", folder)
                    number += 1


@dataclass(frozen=True)
class HubShard:
    """Rows `first` to `last` (exclusive) of a data set of the `datasets` library. name, split: see `hub_dataset`."""

    name: str
    split: str
    first: int
    last: int
    columns: Columns
    classes: tuple[str, ...] = ()  # names of the label's numbers

    def items(self) -> Iterator[Item]:
        """See `Shard`."""
        rows = hub_dataset(self.name, self.split).select_columns(self.columns.names())
        for number in range(self.first, self.last):
            row = dict(rows[number])
            label = row.get(self.columns.label)
            if self.classes and isinstance(label, int) and 0 <= label < len(self.classes):
                row[self.columns.label] = self.classes[label]
            yield self.columns.item(row, f"hf:{self.name}:{self.split}::{number}", "")


def hub_dataset(name: str, split: str) -> Any:
    """A data set that was saved with `save_to_disk`, or one that `load_dataset` knows; its pictures as bytes. RuntimeError, one
    sentence, where it cannot be read or `datasets` is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise RuntimeError("Data sets of the hub are read with the library `datasets`; install it with `pip install datasets`.") from error
    try:
        saved = Path(name).is_dir() and any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json"))
        data = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
        rows = data[split] if isinstance(data, dict) else data
    except Exception as error:  # the library's own errors name folders of this machine
        raise RuntimeError(f"The data set '{name}' with the split '{split}' could not be read ({type(error).__name__}).") from error
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows
