"""What the embedded model is trained on: image-caption pairs, and edited copies of photographs."""

from __future__ import annotations

import csv
import math
import tarfile
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from detector.clip.attributes import ATTRIBUTES

EDITS = [
    (index, pole, operation)
    for index, attribute in enumerate(ATTRIBUTES)
    for pole, operation in ((1, attribute.operation), (-1, attribute.opposite))
    if operation is not None
]


@dataclass
class PretrainConfig:
    """How the embedded model is trained. Lengths in images or steps, rates per step."""

    epochs: int = 22  # passes over as many images as the training split has
    batch: int = 216  # photographs in a step
    edited: int = 40  # of which so many also appear as an edited copy
    edits_per_batch: int = 10  # distinct operations in a step: fewer prompts to encode
    flickr_share: float = 0.6  # of the draws; its captions are sentences, the others' class names
    early_epochs: int = 6  # that leave out `early_dropout` of the patches
    early_dropout: float = 0.7
    patch_dropout: float = 0.5  # share of patches left out after that
    full_epochs: int = 1  # last epochs that see every patch
    matrix_rate: float = 0.02  # step of the orthogonalised matrices
    other_rate: float = 1.5e-3  # AdamW's step for everything else
    weight_decay: float = 0.1
    attribute_weight: float = 1.0
    caption_epochs: int = 11  # passes over as many captions as there are images for the decoder
    caption_batch: int = 128
    caption_flickr_share: float = 0.9  # of the decoder's draws: sentences teach more than class names
    caption_others: int = 150  # images of each other source that the decoder sees
    caption_patch_dropout: float = 0.25  # share of image tokens that a step of the decoder leaves out
    average: float | None = None  # share that the running mean of the towers keeps in each step; None: there is no mean
    seed: int = 0


# How the image tower goes on beside a text tower that stays: half of the rates, as its weights are no longer random.
KEEP_TEXT = PretrainConfig(epochs=32, early_epochs=0, full_epochs=2, matrix_rate=0.01, other_rate=7.5e-4, average=0.998, seed=1)


@dataclass
class Pairs:
    """The images of one split in memory, uint8 RGB, with all their captions and their source."""

    images: list[np.ndarray]
    captions: list[list[str]]
    sources: list[str]


def _archive(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except tarfile.TarError as error:
        raise ValueError(f"'{path}' is no tar archive that can be read; copy it again.") from error


def load_pairs(folder: Path, split: str) -> Pairs:
    """Read `<split>.tar` and `captions.csv` (columns file, split, source, caption) from `folder`."""
    captions, sources = defaultdict(list), {}
    with open(folder / "captions.csv", newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            if row["split"] == split:
                captions[row["file"]].append(row["caption"])
                sources[row["file"]] = row["source"]
    pairs = Pairs([], [], [])
    with _archive(folder / f"{split}.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            file = archive.extractfile(member) if name in captions else None
            if file is not None:
                pairs.images.append(decode(file.read()))
                pairs.captions.append(captions[name])
                pairs.sources.append(sources[name])
    return pairs


def decode(content: bytes) -> np.ndarray:
    """An image file's bytes → (H, W, 3) uint8 RGB. ValueError if it cannot be read."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("An image of the pairs cannot be read; make the archive again.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def random_crop(image: np.ndarray, smallest: float, generator: np.random.Generator) -> tuple[int, ...]:
    """A box (y, x, height, width) of `smallest` to all of the image's area and an aspect of 3:4 to 4:3."""
    height, width = image.shape[:2]
    area = height * width * generator.uniform(smallest, 1)
    aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    h, w = min(height, round(math.sqrt(area / aspect))), min(width, round(math.sqrt(area * aspect)))
    return int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1)), h, w


def cut(image: np.ndarray, box: tuple[int, ...], size: int, flip: bool) -> np.ndarray:
    y, x, h, w = box
    patch = cv2.resize(image[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_AREA)
    return patch[:, ::-1] if flip else patch


@dataclass
class Batch:
    images: np.ndarray  # (batch + edited, S, S, 3) uint8; the edited copies of the first photographs come last
    texts: list[str]  # one for each image
    edits: list[int]  # for each edited copy the index into EDITS


def make_batch(pairs: Pairs, rows: np.ndarray, size: int, config: PretrainConfig, generator) -> Batch:
    """Crop, flip and caption the chosen images; append the edited copies with the attribute in their captions."""
    images, texts, copies, copy_texts, edits = [], [], [], [], []
    offered = generator.choice(len(EDITS), config.edits_per_batch, replace=False)
    for position, index in enumerate(rows):
        image, flip = pairs.images[index], bool(generator.integers(2))
        edited = position < config.edited
        box = random_crop(image, 0.75 if edited else 0.4, generator)
        images.append(cut(image, box, size, flip))
        texts.append(str(generator.choice(pairs.captions[index])))
        if edited:
            edit = int(offered[position % len(offered)])
            attribute, pole, operation = EDITS[edit]
            concept = ATTRIBUTES[attribute].concept
            copies.append(cut(operation(image, float(generator.uniform())), box, size, flip))
            phrase = concept.positive if pole > 0 else concept.negative
            copy_texts.append(f"{texts[-1].rstrip(' .')}, with {phrase}")
            edits.append(edit)
    return Batch(np.stack(images + copies), texts + copy_texts, edits)


def draw_weights(sources: list[str], flickr_share: float) -> np.ndarray:
    """Probability of each image in a draw where Flickr8k as a whole has `flickr_share` and the others have the rest."""
    flickr = np.array([source == "flickr8k" for source in sources])
    weights = np.where(flickr, flickr_share / max(flickr.sum(), 1), (1 - flickr_share) / max((~flickr).sum(), 1))
    return weights / weights.sum()


def batches(pairs: Pairs, size: int, config: PretrainConfig, epoch: int) -> Iterator[Batch]:
    """One epoch of batches, drawn by source and prepared a few ahead in a thread; the same for the same epoch."""
    generator, weights = np.random.default_rng((config.seed, epoch)), draw_weights(pairs.sources, config.flickr_share)
    steps = max(1, len(pairs.images) // config.batch)

    def draw() -> Batch:
        rows = generator.choice(len(weights), min(config.batch, int(np.count_nonzero(weights))), replace=False, p=weights)
        return make_batch(pairs, rows, size, config, generator)

    with ThreadPoolExecutor(max_workers=1) as pool:  # one worker: the generator is used in order
        ahead = deque(pool.submit(draw) for _ in range(min(3, steps)))
        for step in range(steps):
            yield ahead.popleft().result()
            if step + 3 < steps:
                ahead.append(pool.submit(draw))


def decoder_pairs(pairs: Pairs, others: int) -> Pairs:
    """All of Flickr8k and the first `others` images of each other source."""
    count: dict[str, int] = defaultdict(int)
    subset = []
    for index, source in enumerate(pairs.sources):
        count[source] += 1
        if source == "flickr8k" or count[source] <= others:
            subset.append(index)
    images, captions = [pairs.images[index] for index in subset], [pairs.captions[index] for index in subset]
    return Pairs(images, captions, [pairs.sources[index] for index in subset])
