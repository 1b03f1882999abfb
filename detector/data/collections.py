"""Many image files at once: single files, zip archives, and folders that the operator of a server has named.

Nothing is unpacked to the disk: a member of an archive is read when it is needed. What an archive says of itself is checked before it is
read, and what it holds is read up to the size that an image may have.
"""

from __future__ import annotations

import mmap
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detector.data.datasets import CLASS_FOLDERS, IMAGE_SUFFIXES, DataError
from detector.data.images import MAX_BYTES, Photo, load_photo

MOST_FILES = 2_000  # images in a collection (choice)
MOST_MEMBERS = 10_000  # entries of an archive, folders and other files included (choice)
MOST_UNPACKED = 2 * 2**30  # bytes of all members of an archive together (choice)
MOST_RATIO = 100  # unpacked to packed size of an archive; pictures are packed already (choice)
FOLDERS_VARIABLE = "CUESCOPE_FOLDERS"
TOO_MANY = f"There are more than {MOST_FILES:,} images; give fewer at once."


@dataclass(frozen=True)
class ImageFile:
    """One file of a collection. name: with the folders above it, separated by "/", as the collection has it. path: on the disk, of the
    file or of its archive. member: the file's place in the archive, None for a file of its own."""

    name: str
    path: Path
    member: int | None = None

    @property
    def folder(self) -> str:
        """The folders above the file inside its collection; "" where there are none."""
        return "/".join(PurePosixPath(self.name).parts[:-1])

    @property
    def label(self) -> int | None:
        """0 real, 1 synthetic, by the name of a folder above the file, the innermost first; None where no folder says."""
        parts = reversed([part.lower() for part in PurePosixPath(self.name).parts[:-1]])
        return next((CLASS_FOLDERS[part] for part in parts if part in CLASS_FOLDERS), None)

    def read(self) -> bytes:
        """The bytes, at most one more than an image may have. DataError, one sentence, where the file is gone or damaged."""
        try:
            if self.member is None:
                with open(self.path, "rb") as file:
                    return file.read(MAX_BYTES + 1)
            with zipfile.ZipFile(self.path) as archive, archive.open(archive.infolist()[self.member]) as file:
                return file.read(MAX_BYTES + 1)
        except (OSError, RuntimeError, IndexError, EOFError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError("The file is no longer there, or its archive is damaged; give it again.") from error

    def photo(self) -> Photo:
        """The decoded image. DataError or ImageError, one sentence."""
        return load_photo(self.read())


def read_collection(paths: Sequence[Path]) -> list[ImageFile]:
    """The image files among files and zip archives, in their order. DataError, one sentence, for an archive that is not taken, for
    too many images and for none."""
    files: list[ImageFile] = []
    for path in paths:
        files += _members(path) if path.suffix.lower() == ".zip" else [ImageFile(path.name, path)]
        if len(files) > MOST_FILES:
            raise DataError(TOO_MANY)
    if not files:
        raise DataError("There are no images; give image files, or a zip archive of some.")
    return files


def folder_files(folder: Path) -> list[ImageFile]:
    """The image files below a folder, hidden ones and links left out, under names that begin with the folder's. Errors as above."""
    files: list[ImageFile] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if _is_image(name) and path.is_file() and not path.is_symlink():
                files.append(ImageFile("/".join((folder.name, *path.relative_to(folder).parts)), path))
        if len(files) > MOST_FILES:
            raise DataError(TOO_MANY)
    if not files:
        raise DataError("The folder holds no images; choose another one.")
    return files


def allowed_folders(environment: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Name → folder, of those in CUESCOPE_FOLDERS, separated as in PATH; a folder's name is its last part. {} where it is not set."""
    value = (os.environ if environment is None else environment).get(FOLDERS_VARIABLE, "")
    return {Path(part).name: Path(part) for part in value.split(os.pathsep) if part.strip() and Path(part).is_dir()}


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not Path(name).name.startswith(".")


def _members(path: Path) -> list[ImageFile]:
    """The image members of an archive, after all checks. DataError, one sentence."""
    try:
        if _entries(path) > MOST_MEMBERS:
            raise DataError(f"The archive holds more than {MOST_MEMBERS:,} files; give a smaller one.")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("The archive cannot be read; pack it again as a zip file.") from error
    _check(entries, path.stat().st_size)
    return [ImageFile(entry.filename, path, place) for place, entry in enumerate(entries) if _is_listed(entry)]


def _entries(path: Path) -> int:
    """At least the number of the archive's entries: how often the mark occurs with which each of them begins. Zipfile would read them
    all into memory before it could be asked."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count, place = 0, data.find(b"PK\x01\x02")
        while place >= 0 and count <= MOST_MEMBERS:
            count, place = count + 1, data.find(b"PK\x01\x02", place + 4)
        return count


def _check(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Raise DataError for an archive that unpacks to too much, leaves its folder, or is encrypted. size: of the archive in bytes."""
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MOST_UNPACKED or unpacked > MOST_RATIO * size:
        raise DataError("The archive unpacks to far more than it holds; give the images in a plain zip file, at most 2 GiB of them.")
    if any(_leaves(entry.filename) for entry in entries):
        raise DataError("The archive names files outside itself; pack it again from one folder.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError("The archive is encrypted; pack it again without a password.")


def _leaves(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts


def _is_listed(entry: zipfile.ZipInfo) -> bool:
    return not entry.is_dir() and _is_image(entry.filename) and not entry.filename.startswith("__MACOSX/")
