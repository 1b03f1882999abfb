"""What all heads share: the evidence they read, the score they give, and the file they travel in.

A head file is a `.safetensors` whose header says what the tensors mean. Preprocessing and the backbone's fingerprint
travel with the weights: a head that was trained on other weights is refused, not silently used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from detector.backbone import ClipFeatures

if TYPE_CHECKING:
    from detector.item import Alignment

LICENCE = "research and education; see the card for the sources"


class HeadError(RuntimeError):
    """One sentence that says why a head file cannot be used."""


@dataclass(frozen=True)
class Evidence:
    """All that the methods read, for B images.

    clip: pooled, projected and patch tokens. descriptors: (B, 15) at the fixed scale. residual: (B, F). pixels: the B
    images, (H, W, 3) uint8, for methods that read them at their own resolution. alignment: image against caption, for
    ITEM. physical_text: (B, E) unit embeddings of the descriptors written as text after the caption. released: name of a
    released head → (B, D) features preprocessed as its authors did. windowed: identity of an SDD head → (B,) logits of the
    images' windows before scaling, where they were made before.
    """

    clip: ClipFeatures
    descriptors: np.ndarray
    residual: np.ndarray
    pixels: Sequence[np.ndarray] = ()
    alignment: Alignment | None = None
    physical_text: Tensor | None = None
    released: Mapping[str, Tensor] = field(default_factory=dict)
    windowed: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.descriptors)


@dataclass(frozen=True)
class Score:
    """logit: (B,), higher speaks for synthetic. probability: σ(logit), before the verdict's calibration."""

    logit: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        return expit(self.logit)


@dataclass(frozen=True)
class HeadCard:
    """The header of a head file. Labels are always 0 real, 1 synthetic."""

    method: str
    backbone: str  # name, or "none" for methods that read pixels
    fingerprint: str  # of the backbone's weights, or "none"
    reads: str  # the feature it reads
    preprocessing: str
    training_data: str
    command: str
    threshold: float = 0.0  # on the logit
    metrics: dict = field(default_factory=dict)
    details: dict = field(default_factory=dict)
    licence: str = LICENCE
    labels: str = "0 real, 1 synthetic"


def save_head(path: Path, tensors: dict[str, Tensor | np.ndarray], card: HeadCard) -> None:
    """Write tensors, in the precision they have, and the card to a safetensors file; the folder is made if needed."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: torch.as_tensor(np.asarray(value)).contiguous() for name, value in tensors.items()}
    header = {name: json.dumps(value, ensure_ascii=False) for name, value in vars(card).items()}
    save_file(plain, path, metadata=header)


def load_head(path: Path) -> tuple[dict[str, Tensor], HeadCard]:
    """Tensors and card of a head file. HeadError, one sentence, if it is missing, damaged or not a head."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            card = HeadCard(**{name: json.loads(value) for name, value in header.items()})
            return {name: file.get_tensor(name) for name in file.keys()}, card
    except (SafetensorError, OSError) as error:
        raise HeadError(f"The head file {path.name} cannot be read; get it again or train it again.") from error
    except (TypeError, ValueError) as error:
        raise HeadError(f"{path.name} is not a Cuescope head: its header lacks the card.") from error


def check_backbone(card: HeadCard, name: str, fingerprint: str) -> None:
    """Raise HeadError if the head was trained on other backbone weights than those in use."""
    if card.fingerprint not in ("none", fingerprint):
        raise HeadError(
            f"The {card.method} head was trained on other weights of '{card.backbone}' than '{name}' has now; "
            "train it again with `python -m detector train`."
        )
