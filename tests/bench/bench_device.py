"""What a CUDA device makes of the product: images a second and peak memory for score, explain and one epoch of each training.

    python tests/bench/bench_device.py [--backbone NAME] [--images 64] [--side 256]

Pictures are made up, so the heads that are trained here are worth nothing; they go to a folder that is deleted. Wall time of one
call after one that warms up; for the trainings of the first call. Without a CUDA device it says so and ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector import Suite  # noqa: E402
from detector.data.datasets import read_dataset, select  # noqa: E402
from detector.data.images import load_photo  # noqa: E402
from detector.methods.concepts.head import concept_directions  # noqa: E402
from detector.methods.concepts.train import ConceptRecipe, fit_concepts  # noqa: E402
from detector.methods.item.train import ItemRecipe, fit_item  # noqa: E402
from detector.methods.orthogonal.train import AffineRecipe, fit_linear_probe, fit_orthogonal  # noqa: E402
from detector.methods.physical.features import PAPER_CORE  # noqa: E402
from detector.methods.physical_clip.head import with_text  # noqa: E402
from detector.methods.physical_clip.text import quantiles  # noqa: E402
from detector.methods.physical_clip.train import PhysicalClipRecipe, Texts, fit_physical_clip  # noqa: E402
from detector.methods.sdd.recipe import PLACES, PLACES_RECIPE  # noqa: E402
from detector.methods.sdd.train import SddRun, fit_sdd  # noqa: E402
from detector.training import train  # noqa: E402
from interpret.attribution import explain  # noqa: E402


def write_data(folder: Path, side: int, count: int) -> None:
    """`count` noisy pictures of each class and split."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(2 * count):
            path = folder / split / ("synthetic" if index % 2 else "real") / f"{split}{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = generator.integers(0, 256, (side // 8, side // 6, 3)).astype(np.uint8)
            cv2.imwrite(str(path), cv2.resize(small, (side * 4 // 3, side), interpolation=cv2.INTER_CUBIC))


def measured(name: str, count: int, function: Callable[[], object], warm: bool = False) -> None:
    """Print images a second and the most memory that the call took on the device."""
    if warm:
        function()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    rate, peak = count / (time.perf_counter() - start), torch.cuda.max_memory_allocated() / 2**20
    print(f"{name:32s}{rate:10.1f} images/s{peak:10.0f} MiB at most")


def trainings(suite: Suite, folder: Path) -> dict[str, Callable[[], object]]:
    """Name → one epoch of that training, on features that are measured here."""
    backbone, device = suite.backbone, suite.backbone.device
    splits = train.split_tables(train.TrainingRun([folder], copies=1), backbone, {"item"}, {"item"})
    tables, told = (splits.train, splits.val), (splits.captioned, splits.val)
    pooled, projected, aligned = (
        [t.pooled(device) for t in tables],
        [t.projected(device) for t in tables],
        [t.aligned(device) for t in told],
    )
    limits, directions = quantiles(splits.train.evidence.descriptors), concept_directions(backbone)
    written = [with_text(backbone, t.evidence, t.evidence.alignment.texts, limits, PAPER_CORE) for t in told]
    texts = [(replace(e, clip=e.clip.to(device)), t.labels) for e, t in zip(written, told, strict=True)]
    parts = [select(read_dataset(folder), split) for split in ("train", "val")]
    recipe = replace(PLACES_RECIPE, epochs=1)
    affine = AffineRecipe(epochs=1)
    return {
        "train linear_probe": lambda: fit_linear_probe(*pooled, recipe=affine),
        "train orthogonal": lambda: fit_orthogonal(*pooled, recipe=affine),
        "train concepts": lambda: fit_concepts(*projected, directions, recipe=ConceptRecipe(epochs=1)),
        "train item": lambda: fit_item(*aligned, recipe=ItemRecipe(epochs=1)),
        "train physical_clip": lambda: fit_physical_clip(*texts, Texts(limits), recipe=PhysicalClipRecipe(epochs=1)),
        "train sdd": lambda: fit_sdd(*parts, backbone, SddRun(PLACES, recipe)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured.")
        return
    suite = Suite.load(options.backbone, "cuda")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.side, options.images // 2)
        paths = [example.path for example in select(read_dataset(folder), "train")]
        print(f"{options.backbone} on {torch.cuda.get_device_name()}, JPEG files with a shorter side of {options.side} pixels")
        measured("score", len(paths), lambda: list(suite.analyze_files(paths)), warm=True)
        if "sdd" in suite.heads:
            measured("explain", 1, lambda: explain.explain(suite, load_photo(paths[0])), warm=True)
        for title, training in trainings(suite, folder).items():
            measured(title, len(paths), training)


if __name__ == "__main__":
    main()
