"""The whole analysis against the bare towers' forward, in one run: what everything around CLIP costs.

    python tests/bench/bench_suite.py [--backbone NAME] [--threads 2] [--side 256] [--images 64] [--repeats 7]

Two ratios are printed, each beside its aim. One image: the time of `Suite.analyze` on a file (decoding, descriptors,
residual, forward, all heads, verdict) over the time of both bare towers on one prepared image and one tokenised caption;
aim: at most 2.5. Many images: the rate of `Suite.analyze_files` over the rate of the bare vision tower on prepared batches
of the same size; aim: at least 0.7. Wall time, the least of all repeats, so that other work disturbs little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import torch
from pictures import picture
from timing import least

sys.path.insert(0, str(Path(__file__).parents[2]))
from detector import Suite  # noqa: E402
from detector.data.images import load_photo  # noqa: E402

BATCH = 16


def write_pictures(folder: Path, side: int, count: int) -> list[Path]:
    """`count` different JPEG files of 4:3 pictures whose shorter side is about `side` pixels."""
    pixels = picture(side * side * 4 / 3 / 1e6)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), cv2.add(pixels, index % 16), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return paths


@torch.inference_mode()
def towers(suite: Suite, images: torch.Tensor, tokens: torch.Tensor | None = None) -> None:
    """Nothing but the forward of the vision tower and, given tokens, of the text tower."""
    suite.backbone.model.encode_image(images)
    if tokens is not None:
        suite.backbone.model.encode_text(tokens)


def one_image(suite: Suite, path: Path, repeats: int) -> None:
    prepared, tokens = suite.backbone.prepare(load_photo(path))[None], suite.backbone.tokenizer(["a photograph of a street"])
    both = least(lambda: towers(suite, prepared, tokens), repeats)
    vision = least(lambda: towers(suite, prepared), repeats)
    whole = least(lambda: suite.analyze(path), repeats)
    print(f"one image: both towers         {1e3 * both:8.1f} ms   vision tower alone {1e3 * vision:.1f} ms")
    print(
        f"one image: whole analysis      {1e3 * whole:8.1f} ms   {whole / both:5.2f} × both towers (aim: at most 2.5), "
        f"{whole / vision:.2f} × the vision tower"
    )


def many_images(suite: Suite, paths: list[Path], repeats: int) -> None:
    batches = [
        torch.stack([suite.backbone.prepare(load_photo(p)) for p in paths[start : start + BATCH]]) for start in range(0, len(paths), BATCH)
    ]
    bare = len(paths) / least(lambda: [towers(suite, batch) for batch in batches], repeats)
    scored = len(paths) / least(lambda: list(suite.analyze_files(paths, BATCH)), repeats)
    print(f"batches: bare vision tower     {bare:8.1f} images a second")
    print(f"batches: files scored          {scored:8.1f} images a second   {scored / bare:5.2f} × the bare tower (aim: at least 0.7)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    suite = Suite.load(options.backbone)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.side, options.images)
        print(f"{options.backbone}, {options.threads} threads, JPEG files with a shorter side of about {options.side} pixels")
        one_image(suite, paths[0], options.repeats)
        many_images(suite, paths, options.repeats)


if __name__ == "__main__":
    main()
