"""A table of scores, read one column at a time, so that a million rows fit a small memory. DuckDB reads the files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detector.methods.physical.features import NAMES

MEMORY, THREADS = "400MB", 2  # of DuckDB; what needs more goes to a temporary file
ROWS = 8192  # in a batch of embeddings
SOURCES = 24  # the largest ones are named, the others count as one
VERDICT = "verdict"  # the name of the column `logit`
CLASSES = ("real", "synthetic")


@dataclass(frozen=True)
class Group:
    """Rows of one source and class. truth: 0 real, 1 synthetic, None unknown."""

    source: str
    truth: int | None
    rows: int

    @property
    def title(self) -> str:
        """For tables."""
        return self.source if self.truth is None else f"{self.source} ({CLASSES[self.truth]})"


class ScoreTable:
    """A Parquet file, a folder of them, or a glob. ValueError, one sentence, where it is no table of scores."""

    def __init__(self, place: Path | str):
        import duckdb

        self._files = _files(str(place))
        self._sql = duckdb.connect(":memory:", config={"memory_limit": MEMORY, "threads": THREADS})
        try:
            self._sql.from_parquet(self._files, union_by_name=True).create_view("scores")  # type: ignore[arg-type]
            self.columns = [name for name, *_ in self._sql.execute("DESCRIBE scores").fetchall()]
        except duckdb.Error as error:
            raise ValueError(f"'{place}' is no Parquet table that can be read.") from error
        missing = {"key", "source", "truth", "error"} - set(self.columns)
        if missing:
            raise ValueError(f"'{place}' is no table of scores: it lacks the column(s) {', '.join(sorted(missing))}.")

    # --- what there is ---

    @cached_property
    def logits(self) -> dict[str, str]:
        """Detector → its column of logits; the verdict first."""
        verdict = {VERDICT: "logit"} if "logit" in self.columns else {}
        return verdict | {name.removesuffix("_logit"): name for name in self.columns if name.endswith("_logit")}

    @cached_property
    def descriptors(self) -> list[str]:
        """The descriptors that have a column."""
        return [name for name in NAMES if name in self.columns]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the first file says of itself: names of the concepts, backbone, its weights."""
        import pyarrow.parquet as pq

        metadata = pq.read_schema(self._files[0]).metadata or {}
        facts: dict[str, Any] = {name: metadata[name.encode()].decode() for name in ("backbone", "weights") if name.encode() in metadata}
        return facts | {"concepts": json.loads(metadata.get(b"concepts", b"[]"))}

    def rows(self, sql: str, *values: object) -> list[tuple]:
        """The rows of a query over the view `scores`."""
        return self._sql.execute(sql, list(values)).fetchall()

    # --- rows by group ---

    @cached_property
    def _largest(self) -> list[str]:
        query = "SELECT coalesce(source, '') AS s FROM scores GROUP BY s ORDER BY count(*) DESC, s LIMIT ?"
        return [source for (source,) in self.rows(query, SOURCES)]

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of readable rows, sources in alphabetical order, real before synthetic."""
        query = f"SELECT {self._source}, truth, count(*) FROM scores WHERE error IS NULL GROUP BY ALL ORDER BY ALL NULLS LAST"
        return [Group(*row) for row in self.rows(query)]

    @property
    def _source(self) -> str:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in self._largest)
        name = f"CASE WHEN coalesce(source, '') IN ({names}) THEN coalesce(source, '') ELSE 'other sources' END" if names else "''"
        return f"CASE {name} WHEN '' THEN 'no source' ELSE {name} END"

    @cached_property
    def codes(self) -> np.ndarray:
        """(N,) int16 place in `groups` of each readable row, in the order of `column`."""
        places = {(group.source, group.truth): place for place, group in enumerate(self.groups)}
        query = f"SELECT {self._source} AS s, truth FROM scores WHERE error IS NULL"
        parts = []
        for batch in self._sql.sql(query).to_arrow_reader(1 << 16):
            pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
            parts.append(np.array([places[pair] for pair in pairs], np.int16))
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    @cached_property
    def truth(self) -> np.ndarray:
        """(N,) int8 of the readable rows: 0 real, 1 synthetic, −1 unknown."""
        return np.array([-1 if group.truth is None else group.truth for group in self.groups], np.int8)[self.codes]

    def column(self, name: str) -> np.ndarray:
        """(N,) float32 of the readable rows, NaN for no value."""
        values = self._sql.execute(f'SELECT CAST("{name}" AS FLOAT) AS v FROM scores WHERE error IS NULL').fetchnumpy()["v"]
        return np.ma.filled(values, np.nan) if isinstance(values, np.ma.MaskedArray) else np.asarray(values, np.float32)

    def vectors(self, name: str) -> Iterator[np.ndarray]:
        """(B, D) batches of a column of lists, of the readable rows in the order of `column`; NaN rows for no value."""
        import pyarrow as pa

        for batch in self._sql.sql(f'SELECT "{name}" FROM scores WHERE error IS NULL').to_arrow_reader(ROWS):
            lists = batch.column(0)
            values = lists.flatten().to_numpy(zero_copy_only=False)  # without those of empty rows
            present = ~np.asarray(lists.is_null())
            width = len(values) // max(int(present.sum()), 1)
            whole = np.full((len(lists), width), np.nan, np.float32)
            whole[present] = values.reshape(-1, width) if width else 0
            yield whole
            del lists, batch
        pa.default_memory_pool().release_unused()

    def keys(self, places: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Place among the readable rows → (key, source)."""
        if not len(places):
            return {}
        wanted = ", ".join(str(int(place)) for place in sorted(set(places)))
        query = f"""SELECT n, key, source FROM (SELECT row_number() OVER () - 1 AS n, key, source FROM scores WHERE error IS NULL)
            WHERE n IN ({wanted})"""
        return {place: (key, source) for place, key, source in self.rows(query)}


def _files(place: str) -> list[str]:
    """The Parquet files of a path, a folder or a glob."""
    path = Path(place)
    if path.is_dir():
        names = sorted(str(file) for file in path.rglob("*.parquet"))
    else:
        names = sorted(map(str, Path().glob(place))) if re.search(r"[*?\[]", place) and not path.is_absolute() else [place]
    if not names or not all(Path(name).is_file() for name in names):
        raise ValueError(
            f"There is no table of scores at '{place}'; make one with `python -m detector score DIR --format parquet --out …`."
        )
    return names
