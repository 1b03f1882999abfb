"""`kill -9` in the middle of training loses at most the epoch at work: real processes, killed for real."""

import csv
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from tiny import write_tiny

pytestmark = pytest.mark.slow

TESTS = ROOT / "tests"

PRETRAIN = """
import sys
from pathlib import Path
from tiny import CONFIG
from detector.clip.pretrain.data import PretrainConfig
from detector.clip.pretrain.loop import PretrainRun, pretrain
folder, epochs, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
config = PretrainConfig(epochs=epochs, batch=8, edited=4, edits_per_batch=2, caption_epochs=1, caption_batch=8, early_epochs=1)
pretrain(PretrainRun(folder / "pairs", folder / "out", folder / "state", resume), CONFIG, config)
"""

SDD = """
import sys
from pathlib import Path
from detector.clip.backbone import Backbone
from detector.data.datasets import read_dataset, select
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.recipe import SddRecipe
from detector.methods.sdd.train import SddRun, fit_sdd
folder, epochs, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
examples = read_dataset(folder / "data")
recipe = SddRecipe(epochs=epochs, batch=16, patience=1000)
config = SddConfig(bag=6, heads=2, rank=2, inputs="highpass")
(folder / "state").mkdir(exist_ok=True)
run = SddRun(config, recipe, checkpoint=folder / "state" / "sdd.pt", resume=resume)
fit_sdd(select(examples, "train"), select(examples, "val"), Backbone.load(str(folder / "tiny")), run)
"""


def picture(generator: np.random.Generator, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(buffer, format)
    return buffer.getvalue()


def write_pairs(folder: Path) -> None:
    generator, rows = np.random.default_rng(0), [("file", "split", "source", "caption")]
    folder.mkdir()
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        with tarfile.open(folder / f"{split}.tar", "w") as archive:
            for index in range(count):
                data, info = picture(generator, "WEBP"), tarfile.TarInfo(f"{split}{index}.webp")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
                rows.append((info.name, split, ("imagenette", "flickr8k")[index % 2], f"a dog number {index % 4}"))
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_labelled(folder: Path) -> None:
    generator, lines = np.random.default_rng(0), ["file,split,label,source"]
    folder.mkdir()
    for split, count in (("train", 32), ("val", 8)):
        for i in range(count):
            (folder / f"{split}{i}.png").write_bytes(picture(generator, "PNG"))
            lines.append(f"{split}{i}.png,{split},{i % 2},{'x' if i % 2 else 'camera'}")
    (folder / "manifest.csv").write_text("\n".join(lines))


def prepare(folder: Path) -> None:
    write_pairs(folder / "pairs")
    write_labelled(folder / "data")
    write_tiny(folder / "tiny")


def start(script: str, folder: Path, epochs: int, mode: str) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(epochs), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def epochs_done(path: Path) -> int:
    return torch.load(path, weights_only=True)["state"]["epoch"]


@pytest.mark.parametrize(
    "script, checkpoint, shown", [(PRETRAIN, "towers.pt", "towers {}/"), (SDD, "sdd.pt", "sdd {}/")], ids=["pretrain", "sdd"]
)
def test_a_killed_training_goes_on_from_its_last_whole_epoch(tmp_path, script, checkpoint, shown):
    prepare(tmp_path)
    path = tmp_path / "state" / checkpoint
    killed = start(script, tmp_path, 10_000, "afresh")
    end = time.monotonic() + 90
    while not path.is_file() and time.monotonic() < end and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)  # into some later epoch, or into the writing of its checkpoint
    killed.send_signal(signal.SIGKILL)
    said = killed.communicate()[0]
    assert killed.returncode == -signal.SIGKILL, said
    done = epochs_done(path)
    assert done >= 1 and shown.format(done + 2) not in said  # only the epoch after the last whole one had begun
    again = start(script, tmp_path, done + 1, "resume")
    said = again.communicate(timeout=120)[0]
    assert again.returncode == 0, said
    assert shown.format(done + 1) in said and shown.format(done) not in said and epochs_done(path) == done + 1
