"""`report`: what the page says of a table, against the same numbers made another way."""

import re

import numpy as np
import pytest

from detector.cli.main import main

pytest.importorskip("duckdb", reason="needs the extra [scale]")
pa = pytest.importorskip("pyarrow", reason="needs the extra [scale]")

ROWS = 3000


def write_table(path, rows=ROWS, width=16):
    """Random scores of two real and two synthetic sources, one of them the harder; embeddings with a few near copies."""
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    source = generator.integers(0, 4, rows)
    truth = (source >= 2).astype(np.int8)
    logit = generator.normal(truth * 2 - 1 + (source == 3), 1)
    vectors = generator.normal(size=(rows, width)).astype(np.float32)
    vectors[1::1000] = vectors[0::1000][: len(vectors[1::1000])] + 1e-3
    concepts = generator.normal(size=(rows, 3)).astype(np.float32) + 2 * truth[:, None] * np.array([1, 0, 0], np.float32)
    columns = {
        "key": [f"{place}.jpg" for place in range(rows)],
        "sha256": [f"{place // 2 if place < 4 else place:064x}" for place in range(rows)],
        "source": np.array(["camera", "phone", "<b>old</b>", "new"])[source],
        "truth": truth,
        "error": ["“x.jpg” is empty." if place == 9 else None for place in range(rows)],
        "logit": logit,
        "probability": 1 / (1 + np.exp(-logit)),
        "physical_logit": generator.normal(size=rows),
        "sobel_mean": generator.normal(0.05, 0.01, rows),
        "concepts": pa.FixedSizeListArray.from_arrays(concepts.ravel(), 3),
        "projected": pa.FixedSizeListArray.from_arrays(vectors.ravel(), width),
    }
    table = pa.table(columns).replace_schema_metadata({"concepts": '["age", "<i>glow</i>", "haze"]', "backbone": "embedded"})
    pq.write_table(table, path, row_group_size=500)
    return source, truth, logit


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from detector.report.table import ScoreTable

    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    write_table(path)
    return ScoreTable(path)


def test_groups_and_columns_agree(table):
    assert [(group.source, group.truth) for group in table.groups] == [("<b>old</b>", 1), ("camera", 0), ("new", 1), ("phone", 0)]
    assert sum(group.rows for group in table.groups) == len(table.codes) == len(table.column("logit")) == ROWS - 1
    assert sum(len(batch) for batch in table.vectors("projected")) == ROWS - 1


def test_auroc_is_scikit_learns_and_its_interval_holds_it(table):
    from sklearn.metrics import roc_auc_score

    from detector.evaluation.metrics import auroc_interval
    from detector.report.measures import auroc_row

    scores = table.column("logit")
    row = auroc_row(scores, table)
    assert row["all"].value == pytest.approx(roc_auc_score(table.truth, scores), abs=1e-6)
    assert (row["all"].low, row["all"].high) == pytest.approx(auroc_interval(table.truth, scores), abs=0.004)  # the bootstrap's
    assert row["new"].low > row["<b>old</b>"].high


def test_drift_is_scipys(table):
    from scipy.stats import ks_2samp

    from detector.report.measures import drift

    generator = np.random.default_rng(1)
    values, reference = table.column("physical_logit"), (generator.normal(0.5, 1, 400), generator.normal(0, 1, 300))
    distances = drift(values, reference, table)
    for code, group in enumerate(table.groups):
        expected = ks_2samp(values[table.codes == code], reference[group.truth]).statistic
        assert distances[code] == pytest.approx(expected)


def test_concepts_are_means_of_groups(table):
    from detector.report.measures import concept_usage

    whole = np.concatenate(list(table.vectors("concepts")))
    usage = concept_usage(table)
    for code in range(len(table.groups)):
        assert usage[code] == pytest.approx(whole[table.codes == code].mean(0), abs=1e-4)


def test_copies_are_found_by_content_and_by_embedding(table):
    from detector.report.duplicates import same_files, similar_pictures

    count, sets = same_files(table, 5)
    assert count == 2 and sets == [["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"]]
    pairs, cut = similar_pictures(table, "projected")
    keys = table.keys([place for pair in pairs for place in pair[1:]])
    assert {tuple(sorted((keys[a][0], keys[b][0]))) for _, a, b in pairs} == {(f"{i}.jpg", f"{i + 1}.jpg") for i in (0, 1000, 2000)}
    assert not cut and all(cosine > 0.999 for cosine, _, _ in pairs)


def test_the_page_stands_alone_and_escapes(table, tmp_path):
    from detector.report.page import page

    text = page(table, "<script>")
    assert "<script" not in text and "<b>old" not in text and "<i>glow" not in text and "&lt;b&gt;old" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    for title in ("Overview", "told apart", "worst mistakes", "Calibration", "Distribution", "Drift", "Concepts", "Duplicates"):
        assert title in text


def test_a_folder_of_pictures_is_scored_first(pictures, tiny, tmp_path):
    out = tmp_path / "report.html"
    assert main(["report", str(pictures), "--backbone", tiny, "--out", str(out)]) == 0
    text = out.read_text()
    assert "24 rows; 1 of the pictures" in text and "not an image" in text


def test_what_is_no_table_is_refused(tmp_path, capsys):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    assert main(["report", str(tmp_path / "a.parquet"), "--out", str(tmp_path / "r.html")]) == 1
    assert "lacks the column" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "r.html")]) == 1
    assert "no table of scores" in capsys.readouterr().err


def test_vectors_come_in_batches(tmp_path):
    from detector.report.table import ROWS as BATCH
    from detector.report.table import ScoreTable

    write_table(tmp_path / "large.parquet", 40_000, 64)
    shapes = [batch.shape for batch in ScoreTable(tmp_path / "large.parquet").vectors("projected")]
    assert sum(rows for rows, _ in shapes) == 39_999 and max(rows for rows, _ in shapes) <= BATCH
