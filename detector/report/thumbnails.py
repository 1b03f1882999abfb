"""Small pictures of inputs, read again from where they came from."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from detector.data.images import ImageError, load_photo
from detector.scale.items import Item
from detector.scale.places import shards
from detector.scale.shards import HubShard, ParquetShard, Shard, is_url

SIDE = 128  # pixels of the longer side


def thumbnails(keys: Sequence[str]) -> dict[str, str]:
    """Key of an input → its picture as a data URL; those that are not there any more are left out."""
    pictures = {}
    for item in _items(keys):
        try:
            photo = load_photo(Path(item.key) if item.data is None else item.data)
        except ImageError:
            continue
        image = Image.fromarray(photo.pixels)
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        pictures[item.key] = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return pictures


def _items(keys: Sequence[str]) -> Iterator[Item]:
    """The inputs of some keys; a key is a path or URL, or that of an archive or table, "::" and a name in it."""
    members: dict[str, set[str]] = {}
    for key in keys:
        place, mark, _ = key.partition("::")
        if mark:
            members.setdefault(place, set()).add(key)
        elif is_url(key) or Path(key).is_file():
            yield from _read([key], {key})
    for place, wanted in members.items():
        yield from _read([place], wanted)


def _read(places: Sequence[str], wanted: set[str]) -> Iterator[Item]:
    try:
        for shard in _needed(shards(places, 1), wanted):
            yield from (item for item in shard.items() if item.key in wanted and not item.error)
    except (ValueError, RuntimeError, OSError):
        return  # moved, or out of reach: the page says so


def _needed(parts: Iterable[Shard], wanted: set[str]) -> Iterator[Shard]:
    """The shards that hold a wanted input: of tables those with its number."""
    parts = list(parts)
    numbers = [int(key.rpartition("::")[2]) for key in wanted if key.rpartition("::")[2].isdigit()]
    for place, shard in enumerate(parts):
        if isinstance(shard, HubShard):
            inside = any(shard.first <= number < shard.last for number in numbers)
        elif isinstance(shard, ParquetShard):
            following = parts[place + 1] if place + 1 < len(parts) else None
            last = following.first if isinstance(following, ParquetShard) else float("inf")
            inside = any(shard.first <= number < last for number in numbers)
        else:
            inside = True
        if inside:
            yield shard
