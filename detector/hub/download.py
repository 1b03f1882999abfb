"""Pinned files from public repositories: downloaded on the user's choice, resumed after an interruption, checked before use.

A file enters the cache under its own name only after its size and SHA-256 agree with the pinned ones. `CUESCOPE_CACHE` names
another cache folder, `CUESCOPE_PUBLISHED_URL` a mirror, which is held to the same pins.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detector.assets import user_folder

Progress = Callable[[int, int], None]  # (bytes so far, bytes in all)

TIMEOUT_SECONDS = 30  # without a single byte, after which a connection counts as dead


class PublishedError(RuntimeError):
    """A published file cannot be downloaded or read. The message is one sentence for the user."""


class _WrongFile(PublishedError):
    """The bytes that arrived are not those of the published file, so that the partial file must not be resumed."""


@dataclass(frozen=True)
class PinnedFile:
    """A public file with its checksum and size. has_mirror: a mirror may stand in for the url; advice: what to do after a failure."""

    name: str
    url: str
    sha256: str
    size: int  # bytes
    has_mirror: bool = True
    advice: str = "check the connection and try again, or give a local copy of the file"

    @property
    def file(self) -> str:
        """The file's place in a cache folder or on a mirror, with forward slashes."""
        return f"{self.name.partition('/')[0]}/{self.url.rpartition('/')[2]}"


def cache_folder() -> Path:
    """The folder of downloaded files: `CUESCOPE_CACHE`, else `cuescope` in the user's cache folder. PublishedError without a home."""
    try:
        return user_folder("CUESCOPE_CACHE")
    except RuntimeError as error:
        raise PublishedError(str(error)) from error


def fetch_pinned(source: PinnedFile, cache: str | os.PathLike | None = None, progress: Progress | None = None) -> Path:
    """The pinned file, downloaded into `cache` (default `cache_folder()`) unless it is there.

    An interrupted download stays as `….partial` and the next call resumes it; a file that differs from its pins is deleted.
    `progress` is called with (bytes so far, bytes in all). Raises `PublishedError`, one sentence, on every failure of
    network, disk or checksum.
    """
    path = (cache_folder() if cache is None else Path(cache)) / source.file
    return path if is_pinned_file(source, path) else download(source, path, progress)


def download(source: PinnedFile, path: Path, progress: Progress | None = None) -> Path:
    """Download the file to `path`, resuming a `….partial` beside it; see `fetch_pinned`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock_file(path.with_name(f"{path.name}.lock")):
            if not is_pinned_file(source, path):  # another process may have fetched it while this one waited
                _fetch_into(source, path, progress)
        return path
    except OSError as error:
        raise PublishedError(f"{source.name} cannot be kept in {path.parent} ({reason(error)}).") from error


def is_pinned(source: PinnedFile, content: bytes) -> bool:
    """Whether the bytes have the pinned size and SHA-256."""
    return len(content) == source.size and hashlib.sha256(content).hexdigest() == source.sha256


def is_pinned_file(source: PinnedFile, path: Path) -> bool:
    """Whether a file is there and has the pinned size and SHA-256."""
    if not path.is_file() or path.stat().st_size != source.size:
        return False
    with open(path, "rb") as file:  # weights have gigabytes: not all of them at once
        return hashlib.file_digest(file, "sha256").hexdigest() == source.sha256


@contextmanager
def _lock_file(lock: Path) -> Iterator[None]:
    """Let one thread or process at a time download a file: two that append to one partial file would spoil it."""
    with open(lock, "wb") as handle:
        try:
            import fcntl
        except ImportError:  # Windows: unprotected, but a spoilt file still fails its checksum
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch_into(source: PinnedFile, path: Path, progress: Progress | None) -> None:
    partial = path.with_name(f"{path.name}.partial")
    has_partial = partial.exists()
    try:
        _download(source, partial, progress)
        if not is_pinned_file(source, partial):
            raise _WrongFile(f"{_address(source)} does not have the published checksum, so it was deleted unopened.")
    except _WrongFile:
        partial.unlink(missing_ok=True)
        if not has_partial:
            raise
        return _fetch_into(source, path, progress)  # the fault may lie in the older partial file
    os.replace(partial, path)


def _download(source: PinnedFile, partial: Path, progress: Progress | None) -> None:
    """Append to `partial` what it lacks."""
    size = partial.stat().st_size if partial.exists() else 0
    if size >= source.size:  # complete, or too long: the checksum decides
        return
    with _open_url(source, size) as response, open(partial, "ab") as file:
        size = _first_byte(source, response, size)
        file.truncate(size)  # a server that ignores the range sends the file from its start
        while size < source.size:
            chunk = _read_chunk(source, response, source.size - size)
            if not chunk:
                raise _network_error(source, f"the connection ended after {size} of {source.size} bytes")
            file.write(chunk)
            size += len(chunk)
            if progress is not None:
                progress(size, source.size)


def _address(source: PinnedFile) -> str:
    mirror = os.environ.get("CUESCOPE_PUBLISHED_URL")
    if not mirror or not source.has_mirror:
        return source.url
    if not mirror.startswith(("http://", "https://")):
        raise PublishedError("CUESCOPE_PUBLISHED_URL must begin with http:// or https://.")
    return f"{mirror.rstrip('/')}/{source.file}"


def _open_url(source: PinnedFile, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cuescope"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        request = urllib.request.Request(_address(source), headers=headers)
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # the file over there is no longer than the part here
            return _open_url(source, 0)
        raise _network_error(source, reason(error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that is none
        raise _network_error(source, reason(error)) from error


def _read_chunk(source: PinnedFile, response: http.client.HTTPResponse, limit: int) -> bytes:
    """The bytes that have arrived, at most `limit`: a broken connection then loses nothing that came before."""
    try:
        return response.read1(min(limit, 1 << 20))
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a malformed chunk length
        raise _network_error(source, reason(error)) from error


def _first_byte(source: PinnedFile, response: http.client.HTTPResponse, offset: int) -> int:
    """The offset at which the answer begins. Raises where its length is not that of the published file."""
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        first, length = (int(span[1]), int(span[2])) if span else (-1, -1)
    else:
        text = response.headers.get("Content-Length", "")
        first, length = 0, int(text) if text.isdecimal() else source.size  # chunked: the checksum decides
    if length != source.size or first not in (0, offset):
        raise _WrongFile(f"{_address(source)} does not have the {source.size} bytes of the published file.")
    return first


def _network_error(source: PinnedFile, reason: str) -> PublishedError:
    return PublishedError(f"{source.name} could not be downloaded from {_address(source)} ({reason}); {source.advice}.")


def reason(error: BaseException) -> str:
    """A few words on one line, for the brackets of a message."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return reason(error.reason)
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_SECONDS} seconds"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".").replace(". ", "; ")
