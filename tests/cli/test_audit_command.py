"""`audit`: tables on the terminal, files, refusals."""

import json
import shutil

import cv2
import numpy as np
import pytest

from detector.cli.main import main
from detector.evaluation.audit_facts import NAMES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two data folders of 10 images a class each, JPEG for real and PNG for synthetic."""
    folders, generator = [tmp_path_factory.mktemp(name) for name in ("first", "second")], np.random.default_rng(0)
    for folder in folders:
        for name, suffix in (("real", "jpg"), ("synthetic", "png")):
            (folder / name / f"{name}-source").mkdir(parents=True)
            for i in range(10):
                pixels = cv2.resize(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8), (64, 64))
                cv2.imwrite(str(folder / name / f"{name}-source" / f"{i}.{suffix}"), pixels)
    return list(map(str, folders))


def test_audit_prints_tables_and_writes_them(data, tmp_path, capsys):
    measured, tables = tmp_path / "new" / "audit.json", tmp_path / "audit.md"
    assert main(["audit", "--data", *data, "--out", str(measured)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(measured.read_text())
    assert result["images"] == [20, 20] and list(result["facts"]) == list(NAMES) and set(result["measured_on"]) == {"backbone"}
    assert result["facts"]["is PNG"]["auroc"] == 1 and "The fact 'is PNG' alone tells the classes apart (AUROC 1.00)" in printed
    assert result["sets"]["all"]["sources"] is None and "| is PNG | 0 | 1 | 1.000 (1.000–1.000) |" in printed
    assert main(["audit", "--data", *data, "--out", str(tables)]) == 0
    assert tables.read_text() == capsys.readouterr().out == printed


def test_bad_input_gets_one_sentence(data, tmp_path, capsys):
    assert main(["audit", "--data", data[0]]) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("The split 'train' holds 10 real and 10 synthetic images, and an audit needs 20 of each")
        and error.count("\n") == 1
    )
    shutil.copytree(data[0], tmp_path / "copy")
    (tmp_path / "copy" / "real" / "real-source" / "3.jpg").write_bytes(b"no picture")
    assert main(["audit", "--data", *data, str(tmp_path / "copy")]) == 1
    output = capsys.readouterr()
    assert output.out == "" and "The data holds an unusable image" in output.err and output.err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "--data", *data, "--out", str(tmp_path / "audit.txt")])
    assert "must end in .json" in capsys.readouterr().err
