"""Example images: nothing is downloaded, and no picture of anybody's is shipped.

Made on this machine when first asked for: scikit-learn's two photographs, copies of them edited by the attribute operations, and
re-syntheses by our autoencoder. Shipped: drawings of our generator.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detector.clip.attributes import ATTRIBUTES

ASSETS = Path(__file__).resolve().parent.parent / "assets"
FOLDER, DRAWINGS = ASSETS / "examples", ASSETS / "drawings"
PHOTOGRAPHS = 2  # the first entries of EXAMPLES
SHORT_SIDE = 256  # the size of the images that the heads were trained on


def _photograph(name: str) -> np.ndarray:
    from sklearn.datasets import load_sample_image

    image = load_sample_image(name)
    scale = SHORT_SIDE / min(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _edit(name: str, concept: str) -> np.ndarray:
    operation = next(a.operation for a in ATTRIBUTES if a.concept.name == concept)
    return operation(_photograph(name), 0.5)


def _resynthesise(name: str) -> np.ndarray:
    from detector.clip.autoencoder import load_autoencoder, resynthesise

    return resynthesise(_photograph(name), load_autoencoder())


# File name → what it is, and how it is made.
EXAMPLES: dict[str, tuple[str, Callable[[], np.ndarray]]] = {
    "china.jpg": ("Photograph: a temple", lambda: _photograph("china.jpg")),
    "flower.jpg": ("Photograph: a flower", lambda: _photograph("flower.jpg")),
    "china-vignetting.jpg": ("Edited photograph: heavy vignetting", lambda: _edit("china.jpg", "vignetting")),
    "china-blocks.jpg": ("Edited photograph: compression blocks", lambda: _edit("china.jpg", "compression blocks")),
    "flower-grain.jpg": ("Edited photograph: film grain", lambda: _edit("flower.jpg", "film grain")),
    "flower-smooth.jpg": ("Edited photograph: plastic smoothing", lambda: _edit("flower.jpg", "plastic smoothing")),
    "china-synthetic.jpg": ("Synthetic: the temple from our autoencoder", lambda: _resynthesise("china.jpg")),
    "flower-synthetic.jpg": ("Synthetic: the flower from our autoencoder", lambda: _resynthesise("flower.jpg")),
}


GUIDANCE = 4.0  # of the drawings
# File name of a shipped drawing → what our generator was told, and the seed.
DRAWN: dict[str, tuple[str, int]] = {
    "sunset.png": ("a sunset over water", 4),
    "house.png": ("a photo of a house", 3),
    "tulips.png": ("a field of tulips", 3),
    "street.png": ("a street with buildings", 3),
    "dog.png": ("a dog on grass", 3),
    "mountain.png": ("a mountain with snow", 0),
    "forest.png": ("a forest", 5),
    "beach.png": ("a beach with waves", 3),
    "daisy.png": ("a photo of a daisy", 4),
    "rose.png": ("a photo of a rose", 1),
    "jacket.png": ("a man in a red jacket on a mountain", 3),
    "snow.png": ("a dog running in snow", 3),
}


def make_examples(folder: Path = FOLDER) -> list[tuple[Path, str]]:
    """(file, label) of every example; those that are missing are made first, all saved alike as JPEG of quality 92.

    One whose weights are missing or damaged is left out, with a sentence on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, make) in EXAMPLES.items():
        if not (folder / name).is_file():
            try:
                _save(make(), folder / name)
            except RuntimeError as error:  # WeightsError, whose module would bring PyTorch
                print(error, file=sys.stderr)
    return existing_examples(folder)


def _save(pixels: np.ndarray, path: Path) -> None:
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    Image.fromarray(pixels).save(temporary, quality=92)
    os.replace(temporary, path)


def existing_examples(folder: Path = FOLDER) -> list[tuple[Path, str]]:
    """(file, label) of the examples that have been made, the drawings after the photographs."""
    made = [(folder / name, label) for name, (label, _) in EXAMPLES.items() if (folder / name).is_file()]
    drawn = [(DRAWINGS / name, f"Synthetic: our drawing of “{words}”") for name, (words, _) in DRAWN.items() if (DRAWINGS / name).is_file()]
    return made[:PHOTOGRAPHS] + drawn + made[PHOTOGRAPHS:]
