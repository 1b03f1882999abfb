"""The output of a job: a folder of part files, each written whole or not at all, so that a killed job leaves only whole rows."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import fsspec
import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 4096  # a part is written after as many rows
SECONDS = 60.0  # or after as many seconds, whichever comes first
JOB = "_job.json"  # what the parts of a folder have in common
HASH = "S16"  # 16 bytes: two of 10⁷ inputs share one with a probability of 10⁻²⁵


@dataclass(frozen=True)
class Rows:
    """The rows of a folder. pairs: sorted hashes (N,) of the input's key and the content of its file."""

    pairs: np.ndarray

    @classmethod
    def none(cls) -> Rows:
        """Of an empty folder."""
        return cls(np.zeros(0, HASH))

    def __contains__(self, pair: tuple[str, str]) -> bool:
        """Whether there is a row for (key, content); one without content may be readable by now and is read again."""
        if not pair[1] or not len(self.pairs):
            return False
        wanted = np.array(hash_of("\0".join(pair)), HASH)
        place = int(np.searchsorted(self.pairs, wanted))
        return place < len(self.pairs) and self.pairs[place] == wanted


def hash_of(text: str) -> bytes:
    """16 bytes of a text."""
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16).digest()


def _lines(text: str) -> list[str]:
    """The lines of JSONL. Not `splitlines`, which also ends a line at characters that JSON strings may hold, such as U+2028."""
    return [line for line in text.split("\n") if line]


@dataclass
class Parts:
    """The folder of a job's rows. place: its path or URL. form: "parquet" or "jsonl". fingerprint: of what made the rows. size: rows of a
    part, at least."""

    place: str
    form: str
    fingerprint: str
    size: int = ROWS
    rows: int = 0
    failed: int = 0
    _waiting: list[pa.Table] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._system, self._root = fsspec.core.url_to_fs(self.place)

    def start(self, resume: bool) -> Rows:
        """Make the folder ready; the rows that it holds. ValueError, one sentence, where it holds rows and `resume` is False, or rows
        of other detectors or another form."""
        self._system.makedirs(self._root, exist_ok=True)
        if not self._names() and not self._system.exists(self._path(JOB)):
            self._write(JOB, json.dumps({"form": self.form, "fingerprint": self.fingerprint}).encode())
            return Rows.none()
        if not resume:
            raise ValueError("The folder for the scores is not empty; go on with --resume, or name another one.")
        job = self._job()
        if job is None:
            raise ValueError(f"The folder for the scores has no '{JOB}' that can be read, so that its rows may be of another job.")
        if job != {"form": self.form, "fingerprint": self.fingerprint}:
            raise ValueError("The folder holds scores of other detectors, features or another format; name another one.")
        pairs = [hash_of(f"{key}\0{digest}") for name in self._names() for key, digest in self._pairs(name)]
        return Rows(np.sort(np.array(pairs, HASH)))

    def add(self, table: pa.Table) -> None:
        """Take rows; write a part where enough of them wait."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= self.size or time.monotonic() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        import pyarrow as pa

        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._write_table(self._next_name(), table)
            self.rows, self.failed = self.rows + len(table), self.failed + len(table) - table["error"].null_count
        self._waiting, self._since = [], time.monotonic()

    def settle(self) -> None:
        """Drop the older rows of inputs that have a newer one, because their file has changed or can be read now."""
        names = self._names()
        keys = [np.array([hash_of(key) for key, _ in self._pairs(name)], HASH) for name in names]
        if not keys:
            return
        whole = np.concatenate(keys)
        newest = np.zeros(len(whole), bool)
        newest[len(whole) - 1 - np.unique(whole[::-1], return_index=True)[1]] = True
        for name, mask in zip(names, np.split(newest, np.cumsum([len(part) for part in keys])[:-1]), strict=True):
            if not mask.all():
                self._write_table(name, self._read(name).filter(mask))

    # --- files ---

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _names(self) -> list[str]:
        """The parts' names in the order in which they were written."""
        names = [path.rpartition("/")[2] for path in self._system.ls(self._root, detail=False)]
        return sorted(name for name in names if name.startswith("part-") and name.endswith(f".{self.form}"))

    def _next_name(self) -> str:
        names = self._names()
        number = int(names[-1].partition("-")[2].partition(".")[0]) + 1 if names else 0
        return f"part-{number:06d}.{self.form}"

    def _job(self) -> object:
        try:
            return json.loads(self._system.cat_file(self._path(JOB)))
        except (OSError, ValueError):
            return None

    def _write(self, name: str, data: bytes) -> None:
        """Under another name first, and renamed: a part is there whole or not at all."""
        partial = self._path(f"_{name}.partial")
        self._system.pipe_file(partial, data)
        self._system.mv(partial, self._path(name))

    def _write_table(self, name: str, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        if self.form == "parquet":
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            self._write(name, buffer.getvalue())
        else:
            lines = "".join(f"{line}\n" for line in table["record"].to_pylist())
            self._write(name, lines.encode())

    def _read(self, name: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = io.BytesIO(self._system.cat_file(self._path(name)))
        return pq.read_table(data) if self.form == "parquet" else pa.table({"record": _lines(data.read().decode())})

    def _pairs(self, name: str) -> list[tuple[str, str]]:
        """(key, content) of each row of a part, in order. ValueError for a damaged part."""
        import pyarrow.parquet as pq

        try:
            if self.form == "parquet":
                with self._system.open(self._path(name), "rb") as file:
                    table = pq.read_table(file, columns=["key", "sha256"])
                return list(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))
            records = map(json.loads, self._read(name)["record"].to_pylist())
            return [(record["key"], record["sha256"]) for record in records]
        except (ValueError, KeyError, TypeError) as error:  # Arrow's own errors are among them
            raise ValueError(f"'{name}' in the folder for the scores is damaged; delete it, and its images are scored again.") from error
