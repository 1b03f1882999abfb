"""Re-syntheses of training photographs by small autoencoders: synthetic images that show what a photograph shows.

A head that learns from both cannot tell them by what they show, only by what a decoder leaves behind (arXiv 2410.11835 and 2412.17671
do so with the decoders of diffusion models). Architectures, share and training are our choice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, JpegImagePlugin

from detector.clip.autoencoder import Architecture, Autoencoder, AutoencoderTrainer, Crops, load_autoencoder, resynthesise
from detector.data.datasets import DataError, Example, Pictures, file_key, photo_of
from detector.hub.weights import write_weights
from detector.progress import progress

VERSION = "resyntheses-1"  # of the files that one share gives
PHOTOGRAPHS = 240  # that an autoencoder learns from, drawn at random
PART = 512  # pixels: the side of the part of a photograph that it learns from, so that large ones do not fill the memory
GAINS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the unsharp masking (choice)
ARCHITECTURES: Mapping[str, Architecture] = {
    "nearest-4": Architecture("nearest", (24, 48), 12),
    "shuffle-8": Architecture("shuffle", (24, 48, 64), 32),
    "transposed-8-quantised": Architecture("transposed", (24, 48, 64), 32, levels=9),
    "bilinear-16": Architecture("bilinear", (24, 48, 64, 96), 64),
}


@dataclass(frozen=True)
class Resynthesis:
    """share: of the training photographs that are re-synthesised, 0 to 1; a larger share holds the smaller one's. crops: what the
    autoencoders are trained on."""

    share: float
    crops: Crops = Crops(steps=1000, batch=16, size=96)


def with_resyntheses(train: list[Example], resynthesis: Resynthesis, folder: Path | None) -> list[Example]:
    """The training images, and after them re-syntheses of a share of their photographs, each by one of ARCHITECTURES.

    A re-synthesis is a synthetic image of the source `resynthesis-NAME`; its `origin` is the source of its photograph. It has the
    photograph's size, file name (and with it the same random copies) and, of a JPEG file, quantisation tables. folder: autoencoders and
    images are kept in it. DataError if there is none, or no photograph is large enough to learn from.
    """
    if not resynthesis.share:
        return train
    if folder is None:
        raise DataError("Re-syntheses are kept in the folder of measured features; name one.")
    photographs = [example for example in train if example.label == 0]
    folder = folder / "resyntheses" / _digest(photographs, resynthesis.crops)
    of_name = {name: [e for e in photographs if _drawn(e) == name and _place(e) < resynthesis.share] for name in ARCHITECTURES}
    return train + [
        made for name, chosen in of_name.items() for made in _resynthesised(name, chosen, photographs, resynthesis.crops, folder)
    ]


def _resynthesised(name: str, chosen: list[Example], photographs: list[Example], crops: Crops, folder: Path) -> list[Example]:
    """Re-syntheses of the chosen photographs by the autoencoder of that name; files that are there are not made again."""
    examples = [_example_of(photograph, name, folder) for photograph in chosen]
    missing = [pair for pair in zip(chosen, examples, strict=True) if not pair[1].path.is_file()]
    if missing:
        model = _autoencoder(name, photographs, crops, folder)
        for photograph, example in progress(missing, len(missing), f"re-syntheses, {name}"):
            _save(whole_resynthesis(photo_of(photograph).pixels, model), example.path, photograph.path)
    return examples


def _example_of(photograph: Example, name: str, folder: Path) -> Example:
    path = folder / name / photograph.corpus / photograph.source / photograph.path.name
    return replace(photograph, path=path, label=1, source=f"resynthesis-{name}", origin=photograph.source)


def _autoencoder(name: str, photographs: list[Example], crops: Crops, folder: Path) -> Autoencoder:
    """The autoencoder of that name, from the folder, or trained on random crops of photographs and written there."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        torch.manual_seed(crops.seed)
        model = AutoencoderTrainer(_learned_from(photographs, crops), crops, ARCHITECTURES[name]).run()
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(path, {key: value.half() for key, value in model.state_dict().items()}, {})
    return load_autoencoder(path, ARCHITECTURES[name])


def _learned_from(photographs: list[Example], crops: Crops) -> list[np.ndarray]:
    order = np.random.default_rng(crops.seed).permutation(len(photographs))[:PHOTOGRAPHS]
    parts = (pixels[:PART, :PART].copy() for pixels in Pictures([photographs[i] for i in order]))
    images = [part for part in parts if min(part.shape[:2]) >= crops.size]
    if not images:
        raise DataError(f"No training photograph has {crops.size} pixels or more each way, which re-syntheses need; train without them.")
    return images


def whole_resynthesis(pixels: np.ndarray, model: Autoencoder) -> np.ndarray:
    """(H, W, 3) uint8 → the decoder's picture of it, of the same size and about as sharp."""
    height, width = pixels.shape[:2]
    more = [(0, -length % model.architecture.factor) for length in (height, width)]
    return as_sharp(resynthesise(np.pad(pixels, (*more, (0, 0)), "symmetric"), model)[:height, :width], pixels)


def as_sharp(pixels: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → the same after unsharp masking, by the gain that brings its sharpness nearest to the photograph's.

    A small decoder blurs, and heads would learn that blur is synthetic.
    """
    detail = pixels.astype(np.float32) - cv2.GaussianBlur(pixels, (0, 0), 1.0)
    wanted = np.log(sharpness(photograph) + 1e-3)

    def masked(gain: float) -> np.ndarray:
        return np.clip(np.rint(pixels + gain * detail), 0, 255).astype(np.uint8)

    return masked(min(GAINS, key=lambda gain: abs(np.log(sharpness(masked(gain)) + 1e-3) - wanted)))


def sharpness(pixels: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey image, in grey levels; higher is sharper."""
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())


def _save(pixels: np.ndarray, path: Path, photograph: Path) -> None:
    """As JPEG with the photograph's own tables, so that compression does not tell the two apart; beside other formats without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    with Image.open(photograph) as opened:
        if isinstance(opened, JpegImagePlugin.JpegImageFile):
            sampling = JpegImagePlugin.get_sampling(opened)
            Image.fromarray(pixels).save(temporary, "JPEG", qtables=opened.quantization, subsampling=sampling)
        else:
            Image.fromarray(pixels).save(temporary, "PNG")
    os.replace(temporary, path)


def _hash(example: Example) -> bytes:
    return hashlib.sha256(f"{example.corpus}/{example.source}/{example.path.name}".encode()).digest()


def _place(example: Example) -> float:
    """In [0, 1), by the names alone."""
    return int.from_bytes(_hash(example)[:4], "big") / 2**32


def _drawn(example: Example) -> str:
    """The name of the autoencoder that re-synthesises the photograph."""
    return list(ARCHITECTURES)[_hash(example)[4] % len(ARCHITECTURES)]


def _digest(photographs: Sequence[Example], crops: Crops) -> str:
    """16 hex digits of all that the files depend on."""
    files = "".join(f"{e.corpus}/{e.source}/{file_key(e.path)}\n" for e in photographs)
    return hashlib.sha256(f"{VERSION} {crops} {PHOTOGRAPHS} {PART} {ARCHITECTURES}\n{files}".encode()).hexdigest()[:16]
