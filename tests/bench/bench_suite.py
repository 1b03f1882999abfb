"""What everything around CLIP costs, against the bare vision tower in the same run.

    python tests/bench/bench_suite.py [--threads 2] [--side 576] [--images 16] [--repeats 3]

Three figures, each beside its aim, for JPEG files of made-up pictures:

* SynthCLIC's detectors alone (`orthogonal`, `concepts`), files to logits, with random weights of the size of ViT-B/16, in batches
  of 16. Aim: at least 0.8 of the bare tower's rate.
* Everything on the embedded model in batches of 16 files. Aim: at least 4 images a second.
* Everything for one file. Aim: at most 300 ms.

The bare tower is the forward on images that are prepared already, in the precision that the backbone uses. Wall time and the
processor time of all threads, the least of all repeats: other work on the machine changes the first more than the second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from pictures import picture
from timing import Cost, cost

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector import Suite  # noqa: E402
from detector.clip.backbone import Backbone  # noqa: E402
from detector.clip.vocabulary import vocabulary  # noqa: E402
from detector.data.images import load_photo  # noqa: E402
from detector.extraction import Extractor  # noqa: E402
from detector.methods.concepts.head import ConceptHead  # noqa: E402
from detector.methods.orthogonal.head import OrthogonalHead  # noqa: E402

BATCH = 16
UNITS = 64  # of the random `orthogonal` head


def write_pictures(folder: Path, side: int, count: int) -> list[Path]:
    """`count` different JPEG files of 4:3 pictures whose shorter side is about `side` pixels."""
    pixels = picture(side * side * 4 / 3 / 1e6)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), cv2.add(pixels, index % 16), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return paths


def batches(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """The paths in groups of at most BATCH."""
    return [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]


def bare_tower(backbone: Backbone, paths: Sequence[Path], repeats: int) -> Cost:
    """The forward of the vision tower over all images, which are prepared beforehand."""
    prepared = [torch.stack([backbone.prepare(load_photo(path)) for path in part]) for part in batches(paths)]

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(backbone.device.type, backbone.precision, enabled=backbone.precision != torch.float32):
            for images in prepared:
                backbone.model.visual(images.to(backbone.device))

    return cost(forward, repeats)


def random_heads(backbone: Backbone) -> tuple[OrthogonalHead, ConceptHead]:
    """SynthCLIC's two heads with random numbers: their time does not depend on what they have learnt."""
    pooled, projected, concepts = backbone.sizes.pooled, backbone.sizes.projected, len(vocabulary())
    orthogonal = OrthogonalHead(torch.randn(UNITS, pooled), torch.randn(UNITS), torch.randn(UNITS), torch.zeros(()))
    matrices = (torch.randn(concepts, projected) for _ in range(2))
    return orthogonal, ConceptHead(*matrices, torch.randn(concepts), torch.randn(concepts), torch.zeros(()))


def synthclic(backbone: Backbone, paths: Sequence[Path]) -> None:
    """Files → logits of the two heads, and nothing else."""
    extractor, (orthogonal, concepts) = Extractor(backbone, frozenset({"clip"})), random_heads(backbone)
    for part in batches(paths):
        clip = extractor.features([load_photo(path).pixels for path in part]).clip
        orthogonal.logits(clip.pooled)
        concepts.logits(clip.projected)


def report(title: str, count: int, whole: Cost, bare: Cost, aim: str) -> None:
    """Print time and rate of `count` images, and the rates' ratios to the bare tower's."""
    print(title)
    for name, (wall, processor) in (("bare tower", bare), ("whole", whole)):
        each = (1e3 * seconds / count for seconds in (wall, processor))
        print("  {:10s} {:8.2f} images/s; an image {:8.1f} ms, processor {:8.1f} ms".format(name, count / wall, *each))
    rates = bare.wall / whole.wall, bare.processor / whole.processor
    print("  rate by the bare tower's: {:.3f}, by processor time {:.3f}; aim: {}".format(*rates, aim))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=576)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    import open_clip

    large, suite = Backbone("ViT-B-16, random weights", open_clip.create_model("ViT-B-16"), torch.device("cpu")), Suite.load()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.side, options.images)
        print(f"{options.threads} threads, JPEG files with a shorter side of about {options.side} pixels")
        few, repeats = paths[:BATCH], options.repeats
        bare = bare_tower(large, few, repeats)
        report(
            f"SynthCLIC alone, ViT-B/16 in {large.precision}", len(few), cost(lambda: synthclic(large, few), repeats), bare, "a rate of 0.8"
        )
        bare, whole = bare_tower(suite.backbone, paths, repeats), cost(lambda: list(suite.analyze_files(paths, BATCH)), repeats)
        report(f"everything, embedded model, batches of {BATCH}", len(paths), whole, bare, "4 images/s")
        bare, whole = bare_tower(suite.backbone, paths[:1], repeats), cost(lambda: suite.analyze(paths[0]), repeats)
        report("everything, embedded model, one image", 1, whole, bare, "300 ms")


if __name__ == "__main__":
    main()
