"""Batch: slices that lose no image, a key that nobody guesses, views, files to take away, a map and measures."""

import csv
import io
import json

import gradio as gr
import numpy as np
import pytest
from sets import archive, jpeg, pictures

from detector.data.datasets import DataError
from interpret import batch as batches
from interpret.panels import service
from interpret.panels.uploads import upload_at
from interpret.tabs import batch as tab
from interpret.tabs import jobs
from interpret.tabs.batch_files import batch_csv

BROKEN = "set/real/broken.jpg"


@pytest.fixture(autouse=True)
def loaded(suite, monkeypatch, tmp_path):
    monkeypatch.setitem(service._suites, "embedded", suite)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()


def packed(folder, each: int = 3):
    files = {
        f"set/{name}/{i}.jpg": jpeg(pixels) for k, name in enumerate(("real", "synthetic")) for i, pixels in enumerate(pictures(each, k))
    }
    return archive(folder / "set.zip", files | {BROKEN: b"no image"})


@pytest.fixture(scope="module")
def done(suite, tmp_path_factory):
    """A batch of three real and three synthetic pictures and a broken file."""
    batch = batches.Batch(tab.files_of([str(packed(tmp_path_factory.mktemp("batch")))], ""), "embedded")
    batches.advance(batch, suite, 1e9)
    return batch


def test_a_batch_goes_on_after_a_reload_and_loses_no_image(tmp_path, suite, monkeypatch):
    monkeypatch.setattr(tab, "SLICE", 0)
    key, line, _ = tab.batch_start([str(packed(tmp_path))])
    assert "0 of 7 images" in line
    first = tab.batch_step(key)
    assert "4 of 7 images" in first.progress and "of work left" in first.progress and first.timer.active
    again = tab.batch_resume(key)  # what a browser that has reloaded asks for
    assert "4 of 7 images" in again.progress and again.timer.active
    last = tab.batch_step(key)
    assert "All 7 images are done. 1 could not be read." in last.progress and not last.timer.active
    assert [row[0] for row in tab.batch_view(key)] == [1, 2, 3, 4, 5, 6, 7]
    assert "3 images are real and 3 synthetic: AUROC" in last.measures and last.roc.visible and last.calibration.visible


def test_each_image_gets_what_it_gets_alone(done, suite):
    row = done.rows[0]
    alone = suite.analyze(done.files[0].read())
    assert row.logit == pytest.approx(alone.verdict.logit, abs=1e-4) and row.verdict == alone.verdict.label
    assert done.rows[6].error and not done.rows[6].pooled.size


def test_a_batch_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(tab, "SLICE", 0)
    key, *_ = tab.batch_start([str(packed(tmp_path))])
    tab.batch_step(key)
    assert "Stopped: 4 of 7" in tab.batch_cancel(key)[0]
    assert not tab.batch_step(key).timer.active and len(tab.batch_view(key)) == 4


def test_without_the_key_there_is_nothing():
    for action in (tab.batch_view, batch_csv, tab.batch_cancel, tab.batch_map):
        with pytest.raises(gr.Error, match="no longer on the server"):
            action("0" * 32)
    assert "no longer on the server" in tab.batch_step("guess").progress and tab.batch_resume("").progress.count("no longer") == 0


def test_views(done):
    def numbers(**view):
        return [row.number for row in batches.select_rows(done, batches.View(**view))]

    logits = {row.number: row.logit for row in done.usable}
    assert numbers(sort="synthetic") == sorted(logits, key=lambda n: -logits[n]) + [7]
    assert set(numbers(folder="set/synthetic")) == {4, 5, 6}
    mistakes = {n: logits[n] if n <= 3 else -logits[n] for n in logits}
    assert numbers(sort="mistakes")[:6] == sorted(mistakes, key=lambda n: -mistakes[n])
    strong = done.concepts[int(np.abs(done.rows[0].concepts).argmax())]
    assert 1 in numbers(concept=strong) and 7 not in numbers(concept=strong)
    assert all(row.verdict == "real" for row in batches.select_rows(done, batches.View(verdict="real")))


def test_the_table_is_taken_away(done):
    lines = batches.to_jsonl(done).decode().splitlines()
    rows = list(csv.DictReader(io.StringIO(batches.to_csv(done).decode())))
    assert len(lines) == len(rows) == 7 and json.loads(lines[6])["logit"] is None and rows[6]["error"]
    assert float(rows[0]["logit"]) == pytest.approx(done.rows[0].logit) and rows[0]["label"] == "0" and rows[3]["label"] == "1"
    assert float(rows[0]["laplacian_variance"]) == pytest.approx(done.rows[0].physical["laplacian_variance"])


def test_a_file_name_is_no_formula_and_no_markup(done, tmp_path, suite):
    batch = batches.Batch(tab.files_of([str(archive(tmp_path / "a.zip", {"=cmd().jpg": jpeg(pictures(1)[0])}))], ""), "embedded")
    batches.advance(batch, suite, 1e9)
    assert ",'=cmd().jpg," in batches.to_csv(batch).decode()


def test_parquet_where_its_library_is(done):
    pytest.importorskip("pyarrow")
    import pandas

    assert len(pandas.read_parquet(io.BytesIO(batches.to_parquet(done)))) == 7


@pytest.mark.parametrize("method", ["PCA", "t-SNE"])
def test_a_map_has_a_dot_for_each_usable_image(done, method, monkeypatch):
    monkeypatch.setattr(tab, "batch_of", lambda key: done)
    for colour in ("folder", "verdict", f"concept: {done.concepts[0]}", "descriptor: saturation"):
        plot = tab.batch_map("key", method, colour).value
        dots = [number for trace in json.loads(plot["plot"])["data"] for number in trace["customdata"]]
        assert sorted(dots) == [1, 2, 3, 4, 5, 6]


def test_an_image_is_opened_as_its_own_bytes(tmp_path):
    key, *_ = tab.batch_start([str(packed(tmp_path))])
    path, tabs = tab.batch_open(key, 2)
    assert upload_at(path) == path and open(path, "rb").read() == jpeg(pictures(3)[1]) and tabs.selected == "analyze"
    with pytest.raises(gr.Error, match="from 1 to 7"):
        tab.batch_open(key, 8)


def test_the_server_holds_few_batches_and_forgets_idle_ones(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    store = jobs.Jobs(most=2)
    keys = [store.put(batches.Batch([], "embedded")) for _ in range(2)]
    with pytest.raises(DataError, match="as many batches"):
        store.put(batches.Batch([], "embedded"))
    now[0] = jobs.CROWDED + 1
    store.get(keys[1])
    keys.append(store.put(batches.Batch([], "embedded")))
    with pytest.raises(DataError, match="no longer"):
        store.get(keys[0])
    now[0] += jobs.IDLE + 1
    with pytest.raises(DataError, match="no longer"):
        store.get(keys[1])


def test_nothing_to_do_is_one_sentence():
    assert "There are no images" in tab.batch_start(None)[1]
    assert "open to visitors" in tab.batch_start(None, "etc")[1]
