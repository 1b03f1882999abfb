"""Two ways to score shards: in this process, and on Ray Data. Both make the same batches of the same inputs."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.scale.items import Batch, Item, Picture, batches
from detector.scale.parts import Rows
from detector.scale.scorer import Scorer, Scoring
from detector.scale.shards import Columns, Shard

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

BLOCK = 32 * 2**20  # bytes of decoded pictures that travel together
OBJECT_STORE = 2 * 2**30  # bytes that a local cluster keeps of decoded pictures at most
STARTS = 3  # attempts to start a cluster: Ray gives its processes 30 seconds, which a busy machine may miss


@dataclass(frozen=True)
class Pool:
    """The workers of the Ray engine. actors: processes with a model each. cpus, gpus: of each actor; fractions share a device. cores:
    processors of the local cluster, None for all. address: of a cluster to join; None: a local one is started and stopped."""

    actors: int = 1
    cpus: float = 1
    gpus: float = 0
    cores: int | None = None
    address: str | None = None


def shard_batches(shard: Shard, size: int, rows: Rows) -> Iterator[Batch]:
    """The batches of a shard, without the inputs that have a row already; these are not decoded."""

    def pictures() -> Iterator[Picture]:
        for item in shard.items():
            digest = item.digest
            if (item.key, digest) not in rows:
                yield Picture.decode(item, digest)

    return batches(pictures(), size)


def score_here(shards: Sequence[Shard], scorer: Scorer, size: int, rows: Rows) -> Iterator[pa.Table]:
    """A table for each batch of the shards, in order, scored in this process."""
    for shard in shards:
        for batch in shard_batches(shard, size, rows):
            yield scorer.table(batch)


# --- Ray ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What a task gives to an actor. batch: pictures; others: columns of the caller's own data set that stay beside the scores."""

    batch: Batch
    others: pa.Table | None = None


def _packed(load: Load) -> dict[str, bytes]:
    """One row, so that Ray never splits a batch."""
    return {"load": pickle.dumps(load, protocol=5)}


class RayScorer:
    """The actor: loads the models once and scores a batch at each call."""

    def __init__(self, scoring: Scoring):
        self.scorer = Scorer(scoring)

    def __call__(self, packed: pa.Table) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables([self._table(pickle.loads(load.as_buffer())) for load in packed["load"]])

    def _table(self, load: Load) -> pa.Table:
        table = self.scorer.table(load.batch)
        others = {} if load.others is None else {name: load.others[name] for name in load.others.column_names}
        for name in others.keys() - set(table.column_names):
            table = table.append_column(name, others[name])
        return table


def score_loads(loads: ray.data.Dataset, scoring: Scoring, pool: Pool) -> ray.data.Dataset:
    """Packed batches → rows, in a pool of actors. A batch whose worker dies is done again by another one."""
    from ray.data import ActorPoolStrategy

    resources: dict[str, Any] = {"num_cpus": pool.cpus} | ({"num_gpus": pool.gpus} if pool.gpus else {})
    return loads.map_batches(
        RayScorer,
        fn_constructor_args=(scoring,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.actors),
        **resources,
    )


def score_on_ray(shards: Sequence[Shard], scoring: Scoring, size: int, rows: Rows, pool: Pool) -> Iterator[pa.Table]:
    """Tables of the shards' batches, in no order; a cluster must be there, see `cluster`."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after the import, which sets it up
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK
    shared = ray.put(rows)

    def read(row: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
        for batch in shard_batches(pickle.loads(row["shard"]), size, ray.get(shared)):
            yield _packed(Load(batch))

    packed = [{"shard": pickle.dumps(shard)} for shard in shards]
    loads = ray.data.from_items(packed, override_num_blocks=min(len(packed), 10_000)).flat_map(read)
    yield from score_loads(loads, scoring, pool).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


@contextmanager
def cluster(pool: Pool) -> Iterator[None]:
    """A Ray cluster: the one at `pool.address`, or a local one that ends with the block. RuntimeError, one sentence, without Ray or where
    the cluster cannot be reached or started."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a user's job leaves the machine
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # a busy machine starts a worker slowly; Ray gives up after 60 s
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("The engine 'ray' needs Ray; install it with `pip install '.[scale]'`.") from error
    # below /tmp, as Ray has it: the path of a socket must be short
    folder = None if pool.address else tempfile.mkdtemp(prefix="cuescope-ray-", dir="/tmp")
    try:
        with _connected(ray, _options(pool, folder)):
            yield
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connected(ray: Any, options: Mapping[str, Any]) -> Iterator[None]:
    for attempt in range(STARTS):
        try:
            ray.init(**options, log_to_driver=False, logging_level="error")
            break
        except Exception as error:  # Ray raises its plain base class
            ray.shutdown()
            if attempt == STARTS - 1:
                where = f"at {options['address']} could not be reached" if "address" in options else "did not start"
                raise RuntimeError(f"The Ray cluster {where} ({type(error).__name__}).") from error
    try:
        yield
    except ray.exceptions.RayError as error:
        kind = type(getattr(error, "cause", None) or error).__name__
        raise RuntimeError(f"The Ray job ended early ({kind}); the rows so far are written, go on with --resume.") from error
    finally:
        ray.shutdown()


def _options(pool: Pool, folder: str | None) -> dict[str, Any]:
    """What `ray.init` takes."""
    if pool.address:
        return {"address": pool.address}
    return {
        "num_cpus": max(pool.cores or os.cpu_count() or 1, int(pool.actors * pool.cpus) + 1),  # one at least reads and decodes
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "_temp_dir": folder,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, [_root(), os.environ.get("PYTHONPATH")]))}},
    }


def _root() -> str:
    """Where this package lies, for the workers."""
    return str(Path(__file__).resolve().parents[2])


# --- in somebody's own pipeline ---------------------------------------------------------------------------------------


def score_dataset(dataset: ray.data.Dataset, scoring: Scoring, size: int, pool: Pool, columns: Columns) -> ray.data.Dataset:
    """See `detector.scale.score`."""
    import pyarrow as pa

    def pack(table: pa.Table) -> pa.Table:
        rows = table.select(columns.names() + (["key"] if "key" in table.column_names else [])).to_pylist()
        pictures = [_picture(columns.item(row, str(row.get("key") or ""), ""), row[columns.image]) for row in rows]
        load = Load(pictures, table.drop_columns([columns.image]))
        return pa.table({"load": pa.array([_packed(load)["load"]], pa.large_binary())})

    return score_loads(dataset.map_batches(pack, batch_size=size, batch_format="pyarrow"), scoring, pool)


def _picture(item: Item, value: object) -> Picture:
    """A decoded row. Without a key of its own it goes by its path, or by the hash of its bytes."""
    digest = item.digest
    key = item.key or (value if isinstance(value, str) else digest)
    return Picture.decode(Item(key, item.data, item.error, item.source, item.truth), digest)
