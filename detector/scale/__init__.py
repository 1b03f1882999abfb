"""Scores of many pictures, in this process or on Ray Data: `python -m detector score … --engine ray`, and the same in Python.

    import ray.data
    from detector.scale import score

    score(ray.data.read_parquet("pictures/"), ["embedded/verdict"]).write_parquet("scores/")

docs/scale.md shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ray.data

    from detector.scale.engines import Pool


def score(
    dataset: ray.data.Dataset,
    detectors: Sequence[str] = (),
    pool: Pool | None = None,
    batch_size: int = 16,
    features: bool = False,
    image_column: str = "",
) -> ray.data.Dataset:
    """Scores of a Ray data set's pictures: one row for each of its rows, also for one that cannot be read, whose `error` says why.

    dataset: with a column of pictures (bytes, paths or URLs), and optionally `key`, `source` and `truth` or `label`; its other columns
    stay beside the scores. detectors: names as `python -m detector heads` lists them, the first leads; () for all of the embedded
    model. pool: the actors; None: one. batch_size: pictures in one forward. features: embeddings are columns, too. image_column: "":
    found by its name. The columns are those of `score --engine ray`. ValueError, one sentence, where no column holds pictures.
    """
    from detector.scale.engines import Pool, score_dataset
    from detector.scale.places import columns_of
    from detector.scale.scorer import Scoring

    columns = columns_of(dataset.schema().names, image_column)
    return score_dataset(dataset, Scoring(tuple(detectors), features=features, alone=bool(detectors)), batch_size, pool or Pool(), columns)
