"""A job in this process: one row for each input, and none lost or twice when it is stopped and goes on."""

import json
import os
import shutil

import numpy as np
import pytest

from detector.cli.main import main
from detector.scale.job import Job, run
from detector.scale.parts import Parts, Rows
from detector.scale.scorer import Scoring

pa = pytest.importorskip("pyarrow", reason="needs the extra [scale]")


def rows(folder):
    import pyarrow.parquet as pq

    return {row["key"]: row for row in pq.read_table(str(folder), partitioning=None).to_pylist()}


@pytest.fixture(scope="module")
def whole(pictures, tiny, tmp_path_factory):
    """The scores of an undisturbed job."""
    out = tmp_path_factory.mktemp("whole") / "scores"
    outcome = run(Job([str(pictures)], str(out), Scoring(backbone=tiny, features=True), size=4))
    assert (outcome.rows, outcome.failed) == (24, 1)
    return out


def test_the_rows_are_those_of_the_suite(whole, pictures, tiny):
    from detector import Suite

    names = sorted(map(str, pictures.rglob("*.jpg")))
    table = rows(whole)
    assert sorted(table) == names
    for name, analysis in zip(names[:4], Suite.load(tiny).analyze_files(names[:4], 4), strict=True):
        assert table[name]["error"] == analysis.error
        for detector, score in analysis.detectors.items():
            assert table[name][f"{detector}_logit"] == float(np.float32(score["logit"]))  # the same batch
    (failed,) = [row for row in table.values() if row["error"]]
    assert "not an image" in failed["error"] and failed["logit"] is None and failed["pooled"] is None


def test_columns_are_typed(whole):
    import pyarrow.parquet as pq

    schema = pq.read_schema(next(whole.glob("*.parquet")))
    assert schema.field("pooled").type == pa.list_(pa.float32(), 32) and schema.field("projected").type == pa.list_(pa.float32(), 24)
    assert schema.field("physical_logit").type == pa.float32() and schema.field("truth").type == pa.int8()


def test_duckdb_and_pandas_read_the_parts(whole):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    ((count, width),) = duckdb.sql(f"SELECT count(*), max(len(pooled)) FROM read_parquet('{whole}/*.parquet')").fetchall()
    assert (count, width, len(pandas.concat(map(pandas.read_parquet, sorted(whole.glob("*.parquet")))))) == (24, 32, 24)


class Stop(Exception):
    pass


def test_a_job_that_was_stopped_goes_on(whole, pictures, tiny, tmp_path, monkeypatch):
    from detector.scale import job as module

    job = Job([str(pictures)], str(tmp_path / "scores"), Scoring(backbone=tiny, features=True), size=4)
    original = module.score_here

    def stopping(shards, scorer, size, present):
        for place, table in enumerate(original(shards, scorer, size, present)):
            if place == 2:
                raise Stop
            yield table

    monkeypatch.setattr(module, "score_here", stopping)
    with pytest.raises(Stop):
        run(job)
    assert len(rows(job.out)) == 8
    monkeypatch.setattr(module, "score_here", original)
    with pytest.raises(ValueError, match="--resume"):
        run(job)
    again = Job(job.places, job.out, job.scoring, size=4, resume=True)
    outcome = run(again)
    assert (outcome.rows, outcome.earlier) == (16, 8)
    assert repr(rows(job.out)) == repr({key: rows(whole)[key] for key in rows(job.out)}) and len(rows(job.out)) == 24
    assert run(again).rows == 0


def test_a_changed_file_has_only_its_new_row(pictures, tiny, tmp_path):
    import pyarrow.parquet as pq

    folder = tmp_path / "set"
    shutil.copytree(pictures, folder)
    job = Job([str(folder)], str(tmp_path / "scores"), Scoring(backbone=tiny), size=4)
    run(job)
    first, second = sorted(folder.rglob("*.jpg"))[:2]
    before = rows(job.out)[str(first)]
    shutil.copy(second, first)
    outcome = run(Job(job.places, job.out, job.scoring, size=4, resume=True))
    assert outcome.rows == 1
    assert pq.read_table(job.out, partitioning=None)["key"].to_pylist().count(str(first)) == 1
    assert rows(job.out)[str(first)]["sha256"] == rows(job.out)[str(second)]["sha256"] != before["sha256"]


def test_scores_of_other_detectors_are_not_mixed(whole, pictures, tiny, tmp_path):
    out = tmp_path / "scores"
    shutil.copytree(whole, out)
    with pytest.raises(ValueError, match="other detectors"):
        run(Job([str(pictures)], str(out), Scoring(backbone=tiny, features=False), size=4, resume=True))


def test_a_part_that_was_cut_off_is_not_read(tmp_path):
    parts = Parts(str(tmp_path / "out"), "parquet", "x")
    parts.start(resume=False)
    (tmp_path / "out" / "_part-000000.parquet.partial").write_bytes(b"PAR1 half")
    assert len(Parts(str(tmp_path / "out"), "parquet", "x").start(resume=True).pairs) == 0


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_damaged_part_and_a_damaged_job_are_named(form, tmp_path):
    out = tmp_path / "out"
    Parts(str(out), form, "x").start(resume=False)
    (out / f"part-000000.{form}").write_bytes(b"half a p")
    with pytest.raises(ValueError, match=f"'part-000000.{form}' in the folder for the scores is damaged"):
        Parts(str(out), form, "x").start(resume=True)
    (out / "_job.json").write_text("{")
    with pytest.raises(ValueError, match="no '_job.json' that can be read"):
        Parts(str(out), form, "x").start(resume=True)


def test_an_input_without_content_is_tried_again():
    assert ("a", "") not in Rows.none()


def test_the_command_writes_json_lines(pictures, tiny, tmp_path):
    out = tmp_path / "scores"
    arguments = ["score", str(pictures), "--backbone", tiny, "--format", "jsonl", "--resume", "--out", str(out)]
    assert main(arguments) == 1  # one file cannot be read
    lines = [json.loads(line) for file in out.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(lines) == 24 and {"key", "sha256", "truth", "detectors", "physical"} <= lines[0].keys()
    assert main(arguments) == 0  # every row is there


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", [b"odd\xff.jpg", "odd\u2028line\x85.jpg".encode()])
def test_a_name_that_is_no_line_of_text_has_its_row_once(form, name, pictures, tiny, tmp_path):
    folder, out = tmp_path / "set", tmp_path / "scores"
    folder.mkdir()
    source = next(path for path in sorted(pictures.rglob("*.jpg")) if path.stat().st_size > 100)
    for target in (b"plain.jpg", name):
        shutil.copy(source, os.fsencode(folder) + b"/" + target)
    arguments = ["score", str(folder), "--backbone", tiny, "--format", form, "--resume", "--out", str(out)]
    for _ in range(2):
        assert main(arguments) == 0
    parts = Parts(str(out), form, "")
    assert sum(1 for part in out.glob("part-*") for _ in parts._pairs(part.name)) == 2


def test_options_that_do_not_fit(pictures, capsys):
    assert main(["score", str(pictures), "--format", "parquet", "--out", "x", "--cpus", "nan"]) == 1
    assert "0 or more" in capsys.readouterr().err
    assert main(["score", str(pictures), "--format", "parquet"]) == 1 and "--out" in capsys.readouterr().err
    assert main(["score", str(pictures), "--features", "--out", "x"]) == 1 and "parquet" in capsys.readouterr().err
    assert main(["score", str(pictures), "--engine", "ray", "--format", "csv", "--out", "x"]) == 1
    assert "parquet or jsonl" in capsys.readouterr().err
