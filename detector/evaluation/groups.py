"""Kinds and sizes of pictures by which figures are given; nothing heavy is imported."""

from __future__ import annotations

import math

CONTENT = {  # word → prompt of the zero-shot classification
    "portrait": "a portrait of a person",
    "animal": "a photo of an animal",
    "street": "a photo of a street",
    "food": "a photo of food",
    "landscape": "a photo of a landscape",
    "building": "a photo of a building",
    "object": "a photo of an object",
    "painting": "a painting",
    "text": "a picture with text",
}
KINDS = {  # kind → words of `CONTENT`, by CLIP's zero-shot classification (choice)
    "portrait": ("portrait",),
    "place": ("street", "landscape", "building"),
    "thing": ("animal", "food", "object", "text"),
    "art": ("painting",),
}
SIZES = ((256, "long side to 256 px"), (512, "long side 257 to 512 px"), (math.inf, "long side over 512 px"))


def size_of(long_side: float) -> str:
    """The name in `SIZES` of a picture whose long side has so many pixels."""
    return next(name for limit, name in SIZES if long_side <= limit)
