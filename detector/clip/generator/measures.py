"""How good the generator is: does a picture show what its caption says, and how far are pictures from photographs?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.clip.autoencoder import resynthesise
from detector.clip.generator.sampling import Painter, Sampling
from detector.clip.generator.train import square
from detector.clip.pretrain.data import Pairs, draw_weights, load_pairs
from detector.markdown import markdown_table

PICTURES = 240
BATCH = 40
CHOICES = 10  # captions of which the picture's own one must come first
FLICKR_SHARE = 0.5  # of the pictures: sentences; the others are single things


def frechet(one: Tensor, other: Tensor) -> float:
    """Squared Fréchet distance of two normal distributions with the means and covariances of the rows (N, D); 0 for equal ones.

    As the FID (arXiv 1706.08500), on other features; not comparable with it.
    """
    one, other = one.double(), other.double()
    covariances = [torch.cov(rows.T) for rows in (one, other)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    distance = (one.mean(0) - other.mean(0)).square().sum() + sum(c.trace() for c in covariances) - 2 * cross
    return float(distance)


def own_caption_first(pictures: Tensor, captions: Tensor, generator: np.random.Generator) -> float:
    """Share of pictures, unit rows (N, E), whose own caption is nearer than CHOICES − 1 others, drawn at random; chance: 1 / CHOICES."""
    cosines = pictures @ captions.T
    hits = []
    for row in range(len(cosines)):
        others = generator.permutation(np.delete(np.arange(len(cosines)), row))[: CHOICES - 1]
        hits.append(bool(cosines[row, row] > cosines[row, torch.from_numpy(others)].max()))
    return float(np.mean(hits))


def drawn_rows(pairs: Pairs, generator: np.random.Generator, count: int = PICTURES) -> np.ndarray:
    """Numbers of pictures drawn by source."""
    weights = draw_weights(pairs.sources, FLICKR_SHARE)
    return generator.choice(len(weights), min(count, int(np.count_nonzero(weights))), replace=False, p=weights)


def measure_generator(painter: Painter, folder: Path, seed: int = 0) -> dict[str, dict[str, float]]:
    """Kind of picture → `own_caption_first`, and `frechet` to the photographs of `test`: those whose captions are drawn, before and after
    the autoencoder; pictures of these captions, and of none; decoded noise. The photographs themselves are part of what they are compared
    with, which favours them."""
    generator = np.random.default_rng(seed)
    test = load_pairs(folder, "test")
    rows = drawn_rows(test, generator)
    captions = [str(generator.choice(test.captions[row])) for row in rows]
    side = painter.generator.shape.side * painter.autoencoder.architecture.factor
    real = np.stack([square(image, side, generator, False) for image in test.images])
    sets = {
        "photographs": real[rows],
        "photographs after the autoencoder": np.stack([resynthesise(pixels, painter.autoencoder) for pixels in real[rows]]),
        "drawn": painted(painter, captions, Sampling(seed=seed)),
        "drawn without words": painted(painter, captions, Sampling(seed=seed, guidance=0.0)),
        "noise, decoded": painted(painter, captions, Sampling(steps=1, seed=seed, guidance=0.0)),
    }
    texts, reference = painter.backbone.encode_text(captions), features(painter, real)
    results = {}
    for name, pictures in sets.items():
        projected = features(painter, pictures)
        first = own_caption_first(projected, texts, np.random.default_rng(seed))
        results[name] = {"own_caption_first": first, "frechet": frechet(projected, reference)}
    return results


def painted(painter: Painter, captions: list[str], sampling: Sampling) -> np.ndarray:
    """(len(captions), H, W, 3) uint8; the batches differ in their seeds."""
    parts = []
    for start in range(0, len(captions), BATCH):
        own = Sampling(sampling.steps, sampling.guidance, sampling.seed + start)
        parts.append(painter.paint(captions[start : start + BATCH], own))
    return np.concatenate(parts)


def features(painter: Painter, pictures: np.ndarray) -> Tensor:
    """(N, E) projected features of pictures (N, H, W, 3), unit rows."""
    backbone = painter.backbone
    parts = [
        backbone.encode(torch.stack([backbone.prepare(p) for p in pictures[start : start + BATCH]]), tokens=False).projected
        for start in range(0, len(pictures), BATCH)
    ]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def generator_report(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row for each kind of picture."""
    lines = ([name, f"{row['own_caption_first']:.0%}", f"{row['frechet']:.3f}"] for name, row in rows.items())
    return markdown_table(["pictures", f"own caption first of {CHOICES}", "Fréchet distance to photographs"], lines)
