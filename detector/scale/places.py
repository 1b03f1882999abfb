"""What the user names (folders, globs, lists, archives, tables, data sets, URLs) → shards."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec

from detector.data.datasets import IMAGE_SUFFIXES, DataError, read_dataset
from detector.scale.items import class_of, source_of
from detector.scale.shards import Columns, Entry, FileShard, HubShard, ParquetShard, Shard, TarShard, hub_dataset, is_url, last_name

ARCHIVES = (".tar", ".tar.gz", ".tgz")
TABLES = (".parquet",)
LISTS = (".txt", ".lst")
IMAGE_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp", "path", "file", "image_path", "url")
SOURCE_COLUMNS, LABEL_COLUMNS = ("source", "generator", "dataset"), ("truth", "label")
HUB = "hf:"  # before the name of a data set of the hub, `hf:NAME` or `hf:NAME:SPLIT`
Value = TypeVar("Value")


def shards(places: Sequence[str], size: int, image_column: str = "") -> list[Shard]:
    """The shards behind the places, in order; a place that is named twice counts once.

    size: files, or rows of a hub data set, in a shard. image_column: of tables; "": found by its name. ValueError, one sentence, where a
    place holds no picture.
    """
    entries: dict[str, Entry] = {}
    others: dict[str, list[Shard]] = {}
    for place in places:
        for kind, found in _expanded(place):
            if kind == "file":
                entries.setdefault(found.place, found)
            elif found.place not in others:
                others[found.place] = _table_shards(kind, found.place, size, image_column)
    files = [FileShard(part) for part in _groups(entries.values(), size)]
    whole = [*files, *(shard for group in others.values() for shard in group)]
    if not whole:
        raise ValueError("There is no image in the places given.")
    return whole


def _groups(values: Iterable[Value], size: int) -> Iterator[tuple[Value, ...]]:
    rest = iter(values)
    while part := tuple(islice(rest, size)):
        yield part


def _table_shards(kind: str, place: str, size: int, image_column: str) -> list[Shard]:
    if kind == "archive":
        return [TarShard(place)]
    return _parquet_shards(place, image_column) if kind == "table" else _hub_shards(place, size, image_column)


# --- kinds of places ---------------------------------------------------------------------------------------------------


def _expanded(place: str) -> Iterator[tuple[str, Entry]]:
    """(kind, entry) of everything behind a place; kind: file, archive, table or hub."""
    if not place:
        raise ValueError("An empty path was given; name an image file or a folder.")
    if place.startswith(HUB) and not is_url(place):
        yield "hub", Entry(place.removeprefix(HUB))
    elif is_url(place):
        yield from _behind_url(place)
    elif any(mark in place for mark in "*?[") and not Path(place).exists():
        names = sorted(glob.glob(place, recursive=True))
        if not names:
            raise ValueError(f"Nothing matches '{place}'.")
        for name in names:
            yield from _local(Path(name))
    else:
        yield from _local(Path(place))


def _kind(name: str) -> str:
    lower = name.lower()
    return "archive" if lower.endswith(ARCHIVES) else "table" if lower.endswith(TABLES) else "list" if lower.endswith(LISTS) else "file"


def _local(path: Path) -> Iterator[tuple[str, Entry]]:
    if path.is_dir():
        yield from _folder(path)
    elif _kind(path.name) == "list":
        lines = _text(path).split("\n")
        for line in filter(None, map(str.strip, lines)):
            yield _kind(line) if _kind(line) != "list" else "file", _entry(line)
    else:
        yield _kind(path.name), _entry(str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{path.name}' is no list of inputs: it is not text in UTF-8.") from error


def _folder(folder: Path) -> Iterator[tuple[str, Entry]]:
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):  # `save_to_disk` of `datasets`
        yield "hub", Entry(str(folder))
    elif (folder / "manifest.csv").is_file():
        for example in read_dataset(folder):
            yield "file", Entry(str(example.path), example.source, example.label)
    else:
        for path in sorted(folder.rglob("*")):
            kind = _kind(path.name)
            if path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or kind in ("archive", "table")):
                yield kind, _entry(str(path), str(folder))


def _entry(place: str, root: str = "") -> Entry:
    """A file, its class and source from the folders that lead to it. root: the folder named by the user, which counts by its name."""
    folders = PurePosixPath(place).parts[:-1]
    return Entry(place, source_of(folders[len(PurePosixPath(root).parts) - 1 :] if root and root != "." else folders), class_of(folders))


def _behind_url(url: str) -> Iterator[tuple[str, Entry]]:
    system, path = fsspec.core.url_to_fs(url)
    try:
        if any(mark in path for mark in "*?["):
            names = sorted(system.glob(path))
        elif system.isdir(path):
            names = [name for name in sorted(system.find(path)) if _is_input(name)]
        else:
            names = [path]
    except Exception as error:  # each kind of storage fails in its own way
        raise ValueError(f"'{last_name(url)}' could not be listed ({type(error).__name__}); check its name and your access.") from error
    if not names:
        raise ValueError(f"Nothing matches '{url}'.")
    for name in names:
        yield _kind(name) if _kind(name) != "list" else "file", _entry(system.unstrip_protocol(name))


def _is_input(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES or _kind(name) in ("archive", "table")


# --- tables ------------------------------------------------------------------------------------------------------------


def columns_of(names: Sequence[str], image_column: str = "") -> Columns:
    """The columns of a table that hold pictures, sources and classes, by their names. ValueError where none holds pictures."""
    image = image_column or next((name for name in IMAGE_COLUMNS if name in names), "")
    if image not in names:
        wanted = f"a column '{image}'" if image else f"any of the columns {', '.join(IMAGE_COLUMNS)}"
        raise ValueError(f"The table lacks {wanted}; name the one that holds the pictures with --image-column.")
    source, label = (next((name for name in known if name in names), "") for known in (SOURCE_COLUMNS, LABEL_COLUMNS))
    return Columns(image, source, label)


def _parquet_shards(place: str, image_column: str) -> list[Shard]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(place, "rb") as file:
            metadata = pq.ParquetFile(file).metadata
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"'{last_name(place)}' is no Parquet file that can be read ({type(error).__name__}).") from error
    columns = columns_of(metadata.schema.to_arrow_schema().names, image_column)
    shards: list[Shard] = []
    first = 0
    for group in range(metadata.num_row_groups):
        shards.append(ParquetShard(place, group, first, columns))
        first += metadata.row_group(group).num_rows
    return shards


def _hub_shards(place: str, size: int, image_column: str) -> list[Shard]:
    name, split = (place, "train") if Path(place).exists() or ":" not in place else place.rsplit(":", 1)
    rows = hub_dataset(name, split)
    columns = columns_of(rows.column_names, image_column)
    classes = tuple(getattr(rows.features.get(columns.label), "names", None) or ())
    return [HubShard(name, split, first, min(first + size, len(rows)), columns, classes) for first in range(0, len(rows), size)]
