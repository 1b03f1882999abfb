"""`prepare` writes what `train` reads."""

import shutil

import numpy as np
import pytest
from PIL import Image

from detector.cli.main import main


def test_prepare_writes_a_folder_that_train_understands(folder, tmp_path, capsys):
    for name in ("0_real", "1_fake"):
        (tmp_path / "set" / name).mkdir(parents=True)
    shutil.copy(folder / "a.jpg", tmp_path / "set" / "0_real")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(tmp_path / "set" / "1_fake" / "b.png")
    assert main(["prepare", "univfd", "--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    assert "2 images" in capsys.readouterr().out and (tmp_path / "out" / "manifest.csv").is_file()


def test_columns_of_a_table_are_named_on_the_command_line(folder, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    shutil.copy(folder / "a.jpg", tmp_path)
    (tmp_path / "synris.csv").write_text("where,kind,model\na.jpg,real,laion\nb.png,fake,kandinsky\n")
    command = ["prepare", "table", "--from", str(tmp_path / "synris.csv"), "--out", str(tmp_path / "out"), "--columns"]
    assert main([*command, "label=kind,path=where,source=model"]) == 0
    assert "laion" in (tmp_path / "out" / "manifest.csv").read_text()
    assert main([*command, "colour=kind"]) == 1 and "There is no column colour" in capsys.readouterr().err
    for text in ("label", "label=,path=x"):
        with pytest.raises(SystemExit):
            main([*command, text])
        assert "is not of the form" in capsys.readouterr().err
