"""What all heads share: the evidence they read, the score they give, and the file they travel in.

A head file is a `.safetensors` whose header says what the tensors mean. What the head reads, its preprocessing and the
fingerprint of the backbone travel with the weights: a head that was trained on anything else is refused, not silently used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.special import expit
from torch import Tensor

from detector.clip.backbone import ClipFeatures
from detector.hub.weights import TENSORS, WeightsError, check_finite, check_shapes, read_weights, write_weights

if TYPE_CHECKING:
    from detector.methods.item.alignment import Alignment
    from detector.methods.residual.window_rows import WindowRows

LICENCE = "research and education; see the card for the sources"


class HeadError(RuntimeError):
    """One sentence that says why a head cannot be used."""


@dataclass(frozen=True)
class Evidence:
    """All that the methods read, for B images.

    What was not computed, because no detector in use reads it, is None or has no columns.

    clip: pooled, projected and patch tokens. descriptors: (B, 15) at the fixed scale. residual: (B, F). pixels: the B
    images, (H, W, 3) uint8, for methods that read them at their own resolution. alignment: image against caption, for
    ITEM. physical_text: (B, E) unit embeddings of the descriptors written as text after the caption. released: name of a
    released head → (B, D) features preprocessed as its authors did. windowed: identity of an SDD head → (B,) logits of the
    images' windows before scaling, where they were made before. residual_windows: the same numbers as `residual`, of single windows.
    beside: name of another backbone → evidence of the same images from it, which shares all that reads no backbone.
    """

    clip: ClipFeatures
    descriptors: np.ndarray
    residual: np.ndarray
    pixels: Sequence[np.ndarray] = ()
    alignment: Alignment | None = None
    physical_text: Tensor | None = None
    released: Mapping[str, Tensor] = field(default_factory=dict)
    windowed: Mapping[str, np.ndarray] = field(default_factory=dict)
    residual_windows: WindowRows | None = None
    beside: Mapping[str, Evidence] = field(default_factory=dict)

    @classmethod
    def of_clip(cls, clip: ClipFeatures, pixels: Sequence[np.ndarray] = ()) -> Evidence:
        """CLIP's features and the pixels alone."""
        nothing = np.empty((len(clip), 0))
        return cls(clip, nothing, nothing, pixels)

    def __len__(self) -> int:
        return len(self.descriptors)

    def aligned(self) -> Alignment:
        """`alignment`. HeadError where the images have no captions."""
        if self.alignment is None:
            raise HeadError("This method reads captions, and this evidence holds none.")
        return self.alignment

    def without_pixels(self) -> Evidence:
        """The same without the images, which are most of its memory."""
        return replace(self, pixels=(), beside={name: other.without_pixels() for name, other in self.beside.items()})

    def rows(self, mask: np.ndarray) -> Evidence:
        """The images where the (B,) mask is True: every field of them."""
        return Evidence(**{entry.name: _rows(getattr(self, entry.name), mask) for entry in fields(self)})


def _rows(value: Any, mask: np.ndarray) -> Any:
    """A field of the evidence, for the images where the mask is True."""
    if value is None or hasattr(value, "rows"):
        return None if value is None else value.rows(mask)
    if isinstance(value, ClipFeatures):
        return ClipFeatures(**{entry.name: _rows(getattr(value, entry.name), mask) for entry in fields(value)})
    if isinstance(value, Mapping):
        return {name: _rows(part, mask) for name, part in value.items()}
    if isinstance(value, (np.ndarray, Tensor)):
        return value[mask]
    return [part for part, inside in zip(value, mask, strict=True) if inside] if len(value) else value


@dataclass(frozen=True)
class Score:
    """logit: (B,), higher speaks for synthetic. probability: σ(logit), before the verdict's calibration."""

    logit: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        return expit(self.logit)


@dataclass(frozen=True)
class HeadCard:
    """The header of a head file. Labels are always 0 real, 1 synthetic.

    fingerprint: of the backbone (`Backbone.fingerprint`), or the version of the features for methods that read pixels alone.
    digest: SHA-256 of the file's tensors, known once the file has been read; not part of the header's own entries.
    """

    method: str
    backbone: str  # name, or "none" for methods that read pixels alone
    fingerprint: str
    reads: str  # the feature it reads
    preprocessing: str
    training_data: str
    command: str
    threshold: float = 0.0  # on the logit; heads are calibrated, so it is 0
    metrics: dict = field(default_factory=dict)
    details: dict = field(default_factory=dict)
    licence: str = LICENCE
    labels: str = "0 real, 1 synthetic"
    digest: str = field(default="", compare=False)


Shapes = Mapping[str, tuple[int | str, ...]]  # name of a tensor → its shape, a word standing for any length


class Head(Protocol):
    """What every method's head is. Scores are batched over the first axis; a head is frozen once it is made."""

    @property
    def bias(self) -> Tensor | np.ndarray | float:
        """The logit minus the sum of the contributions."""

    def score(self, evidence: Evidence) -> Score:
        """Logits of B images; NaN for one that has nothing for the method to read. HeadError where the evidence lacks what it reads."""

    def scaled(self, slope: float, offset: float) -> Head:
        """The same head with logit·slope + offset, for calibration."""

    def tensors(self) -> Mapping[str, Tensor | np.ndarray]:
        """All that training made, by name; `from_tensors` of the class takes it back."""


def save_head(path: Path, tensors: Mapping[str, Tensor | np.ndarray], card: HeadCard) -> None:
    """Write tensors, in the precision they have, and the card to a safetensors file; the folder is made if needed."""
    entries = {name: value for name, value in vars(card).items() if name != "digest"}
    write_weights(path, tensors, {name: json.dumps(value, ensure_ascii=False) for name, value in entries.items()})


def load_head(path: Path) -> tuple[dict[str, Tensor], HeadCard]:
    """Tensors and card of a head file. HeadError, one sentence, if it is missing, damaged or not a head."""
    try:
        tensors, header = read_weights(path)
        names = {entry.name for entry in fields(HeadCard)} - {"digest"}
        return tensors, HeadCard(**{name: json.loads(header[name]) for name in names}, digest=header[TENSORS])
    except WeightsError as error:
        raise HeadError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise HeadError(f"{path.name} is not a Cuescope head: its header lacks the card.") from error


def check_tensors(card: HeadCard, tensors: Mapping[str, Tensor], shapes: Shapes | None, missing: tuple[str, ...] = ()) -> None:
    """Raise HeadError unless all numbers are finite, but for the tensors named in `missing`, and the shapes those of the method.

    shapes: None for methods that build a model of their own and fill it in, which compares them.
    """
    try:
        check_finite(f"The {card.method} head", tensors, missing)
        if shapes is not None:
            check_shapes(f"The {card.method} head", tensors, shapes)
    except WeightsError as error:
        raise HeadError(str(error)) from error


def check_card(card: HeadCard, expected: HeadCard) -> None:
    """Raise HeadError unless the card says of method, weights, feature, preprocessing, labels and threshold what this version expects."""
    again = "train it again with `python -m detector train`."
    if card.method != expected.method:
        raise HeadError(f"The file of the {expected.method} head holds a {card.method} head; get it again or {again}")
    if card.fingerprint != expected.fingerprint:
        weights = f"other weights of '{card.backbone}' than '{expected.backbone}' has now"
        what = "features of another version" if expected.backbone == "none" else weights
        raise HeadError(f"The {card.method} head was trained on {what}; {again}")
    for name in ("reads", "preprocessing", "labels", "threshold"):
        if getattr(card, name) != getattr(expected, name):
            raise HeadError(f"The {card.method} head was made for another '{name}' than this version has; {again}")
