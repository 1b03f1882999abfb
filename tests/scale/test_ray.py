"""The Ray engine: the rows of the local engine, also where workers and the driver are killed."""

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from detector.scale.engines import Pool

pytest.importorskip("ray", reason="needs the extra [scale]")
pa = pytest.importorskip("pyarrow", reason="needs the extra [scale]")
pytestmark = pytest.mark.slow  # a cluster is many processes


@pytest.fixture(scope="module")
def local_cluster():
    from detector.scale.engines import cluster

    with cluster(Pool(actors=1, cores=2)):
        yield


@pytest.fixture
def one_thread():
    """As many threads here as Ray gives a worker: with another number, sums are taken in another order and differ in their last digit."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def test_both_engines_write_the_same_rows(one_thread, pictures, tiny, tmp_path):
    from detector.scale.job import Job, run
    from detector.scale.scorer import Scoring
    from tests.bench.kill_job import differences, rows

    for engine in ("local", "ray"):
        scoring = Scoring(backbone=tiny, features=True)
        outcome = run(Job([str(pictures)], str(tmp_path / engine), scoring, engine, Pool(cores=2), size=4))
        assert (outcome.rows, outcome.failed) == (24, 1)
    assert differences(rows(tmp_path / "local"), rows(tmp_path / "ray")) == []


def test_scores_in_a_pipeline_of_ones_own(local_cluster, pictures, tiny):
    import ray.data

    from detector.scale import score

    files = sorted(map(str, pictures.rglob("*.jpg")))
    table = pa.table({"bytes": [Path(file).read_bytes() for file in files], "key": files, "licence": ["mine"] * len(files)})
    rows = score(ray.data.from_arrow(table), ["pixels/physical"], batch_size=8).take_all()
    assert sorted(row["key"] for row in rows) == files
    assert all(row["licence"] == "mine" for row in rows) and sum(row["error"] is not None for row in rows) == 1


def test_killed_workers_and_a_killed_driver_cost_no_row():
    """Two hundred pictures; `tests/bench/kill_job.py` alone does ten thousand."""
    result = subprocess.run(
        [sys.executable, "tests/bench/kill_job.py", "--count", "200", "--actors", "1", "--cores", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "the rows are the same" in result.stdout and result.returncode == 0, result.stdout + result.stderr
