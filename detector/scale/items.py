"""One input of a job, and the decoded pictures that are scored together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from detector.data.datasets import CLASS_FOLDERS
from detector.data.images import MAX_BYTES, ImageError, Photo, load_photo
from detector.suite import BATCH_PIXELS


@dataclass(frozen=True)
class Item:
    """One input. key: its name, unique in a job, such as "photos/a.jpg" or "shard.tar::a.jpg". data: the bytes of the file; None for a
    file on this machine, which `key` names, and for an input that has no bytes. error: the sentence for an input that cannot be read,
    else "". source: its data set or generator; truth: 0 real, 1 synthetic; None where the class is not known."""

    key: str
    data: bytes | None = None
    error: str = ""
    source: str = ""
    truth: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file in hexadecimal digits; "" for an input without bytes and for a file above the largest size."""
        if self.data is not None:
            return hashlib.sha256(self.data).hexdigest()
        if self.error:
            return ""
        path = Path(self.key)
        try:
            if not path.is_file() or path.stat().st_size > MAX_BYTES:
                return ""
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError):
            return ""


@dataclass(frozen=True)
class Picture:
    """One input after decoding. photo: None where `error` says why there is none. digest: see `Item.digest`."""

    key: str
    digest: str
    photo: Photo | None
    error: str
    source: str
    truth: int | None

    @classmethod
    def decode(cls, item: Item, digest: str) -> Picture:
        """Decode an input; what cannot be decoded gives its sentence."""
        photo, error = None, item.error
        if not error:
            try:
                photo = load_photo(Path(item.key) if item.data is None else item.data)
            except ImageError as reason:
                error = str(reason)
        return cls(item.key, digest, photo, error, item.source, item.truth)


Batch = list[Picture]  # pictures of one forward


def batches(pictures: Iterable[Picture], size: int) -> Iterator[Batch]:
    """The pictures in order, `size` in a batch, fewer where these have more than BATCH_PIXELS together (as `Suite.analyze_files`)."""
    batch: Batch = []
    pixels = 0
    for picture in pictures:
        batch.append(picture)
        pixels += picture.photo.width * picture.photo.height if picture.photo else 0
        if len(batch) == size or pixels > BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def class_of(folders: Iterable[str]) -> int | None:
    """0 or 1 by the innermost folder that names a class (`real`, `synthetic`, …); None without one."""
    classes = [CLASS_FOLDERS[folder.lower()] for folder in folders if folder.lower() in CLASS_FOLDERS]
    return classes[-1] if classes else None


def source_of(folders: Iterable[str]) -> str:
    """The innermost folder that names no class, else the innermost folder; "" without folders."""
    names = [folder for folder in folders if folder]
    others = [name for name in names if name.lower() not in CLASS_FOLDERS]
    return (others or names or [""])[-1]


def truth_of(label: object) -> int | None:
    """The class that a label names: 0, 1, or a word of CLASS_FOLDERS; None for anything else."""
    if isinstance(label, str):
        return CLASS_FOLDERS.get(label.lower())
    return int(label) if isinstance(label, (int, float)) and label in (0, 1) else None
