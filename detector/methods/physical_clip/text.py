"""Physical descriptors written as text, after a caption, so that CLIP's text tower can read them (arXiv 2604.04608).

A value becomes its place between the 1st and 99th percentile of training images, 0 to 1. The paper shows the form
`Laplacian variance: 0.85`; template, order, quantiles and what to do where the context is short are choices (docs/methods.md,
4): the caption is cut first, then whole descriptors are left out. A short context gets short everyday names, and a very short one
two digits for each value, because every digit and every full stop costs a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detector.methods.physical.features import NAMES

if TYPE_CHECKING:
    from detector.clip.backbone import Backbone
from detector.clip.towers import Tower

LOW, HIGH = 1, 99  # percentiles of training images that become 0 and 1
CAPTION_ROOM = 10  # tokens that the caption should get before a shorter form is chosen
SHORT = dict(
    zip(
        NAMES,
        (
            "detail",
            "edges",
            "outline",
            "lines",
            "grain",
            "noise",
            "specks",
            "fine",
            "slope",
            "spread",
            "contrast",
            "tones",
            "smooth",
            "vivid",
            "colours",
        ),
        strict=True,
    )
)
LONG = {name: name.replace("_", " ").replace("lag1", "lag-1").capitalize() for name in NAMES}


@dataclass(frozen=True)
class Form:
    """One way of writing the values: names, how a name and its number stand together, what lies between two of them."""

    names: dict[str, str]
    joint: str
    between: str
    digits_only: bool  # two digits, hundredths, instead of a decimal number

    def write(self, name: str, value: float) -> str:
        number = f"{min(round(100 * value), 99):02d}" if self.digits_only else f"{value:.2f}"
        return f"{self.names[name]}{self.joint}{number}"


FORMS = (Form(LONG, ": ", ", ", False), Form(SHORT, " ", ", ", False), Form(SHORT, " ", " ", True))


def quantiles(values: np.ndarray) -> np.ndarray:
    """(N, 15) descriptors of training images → (2, 15): their 1st and 99th percentiles, undefined values left out."""
    return np.nanpercentile(values, [LOW, HIGH], axis=0)


def normalised(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(…, 15) → (…, 15) in [0, 1]: place between the two limits (2, 15), clipped; NaN stays NaN, a constant column gives 0."""
    span = limits[1] - limits[0]
    return np.clip((values - limits[0]) / np.where(span > 0, span, 1), 0, 1)


def textualise(caption: str, values: Sequence[float], count: Callable[[str], int], room: int, core: Sequence[str]) -> str:
    """`caption. Laplacian variance: 0.85, …` for the descriptors of `core`, in the order of `physical.NAMES`.

    values: the 15 normalised ones. count: number of tokens of a text without its end markers. room: tokens that fit. Values
    that are not defined are left out. The longest form is taken that leaves the caption CAPTION_ROOM tokens, or all that it
    needs; the last descriptors are left out if even the shortest form does not fit by itself.
    """
    values_by_name = [(name, float(v)) for name, v in zip(NAMES, values, strict=True) if name in core and np.isfinite(v)]
    wanted = min(count(f"{caption}. ") if caption else 0, CAPTION_ROOM)
    for form in FORMS:
        numbers = form.between.join(form.write(name, value) for name, value in values_by_name)
        if count(numbers) + wanted <= room:
            break
    while values_by_name and count(numbers) > room:
        values_by_name.pop()
        numbers = FORMS[-1].between.join(FORMS[-1].write(name, value) for name, value in values_by_name)
    return _joined(shortened(caption, room - count(numbers), count), numbers)


def written(backbone: Backbone, captions: Sequence[str], descriptors: np.ndarray, limits: np.ndarray, core: Sequence[str]) -> list[str]:
    """A text for each of B captions ("" for none) and (B, 15) descriptors as measured, for the backbone's tokenizer and context."""
    model: Tower = backbone.model
    tool, room = backbone.tokenizer, model.context_length - 2  # without the marks for start and end
    return [
        textualise(caption, values, lambda text: len(tool.encode(text)), room, core)
        for caption, values in zip(captions, normalised(descriptors, limits), strict=True)
    ]


def _joined(caption: str, numbers: str) -> str:
    return f"{caption}. {numbers}" if caption and numbers else caption or numbers


def shortened(caption: str, room: int, count: Callable[[str], int]) -> str:
    """The longest beginning of the caption whose tokens, with a full stop, fit into `room`; cut between words where it can be."""
    caption = " ".join(caption.split()).rstrip(". ")
    if count(f"{caption}. ") <= room:
        return caption
    low, high = 0, len(caption)
    while low < high:  # tokens grow with characters
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(f"{caption[:middle]}. ") <= room else (low, middle - 1)
    part = caption[:low]
    whole = part.rsplit(" ", 1)[0] if " " in part and caption[low : low + 1] not in ("", " ") else part
    return whole.rstrip(" .,;")
