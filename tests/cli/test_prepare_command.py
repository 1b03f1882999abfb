"""`prepare` writes what `train` reads."""

import shutil

import numpy as np
from PIL import Image

from detector.cli.main import main


def test_prepare_writes_a_folder_that_train_understands(folder, tmp_path, capsys):
    for name in ("0_real", "1_fake"):
        (tmp_path / "set" / name).mkdir(parents=True)
    shutil.copy(folder / "a.jpg", tmp_path / "set" / "0_real")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(tmp_path / "set" / "1_fake" / "b.png")
    assert main(["prepare", "univfd", "--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    assert "2 images" in capsys.readouterr().out and (tmp_path / "out" / "manifest.csv").is_file()
