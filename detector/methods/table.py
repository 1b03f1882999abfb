"""What a method is trained on, and what its training gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Backbone
from detector.data.datasets import Pictures
from detector.methods.base import Evidence, Head
from detector.methods.item.alignment import Alignment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Table:
    """Evidence and labels of one split. copy: 0 for the image as it is, 1… for its random copies. sources: one a row.

    pictures: the rows' images, which are also `evidence.pixels`; none in a table that was made up.
    """

    evidence: Evidence
    labels: np.ndarray
    sources: np.ndarray
    copy: np.ndarray
    pictures: Pictures = Pictures(())

    def rows(self, mask: np.ndarray) -> Table:
        """The rows where the (N,) mask is True."""
        pictures = self.pictures.rows(mask) if self.pictures else self.pictures
        return Table(self.evidence.rows(mask), self.labels[mask], self.sources[mask], self.copy[mask], pictures)

    def originals(self) -> Table:
        """The rows of the images as they are."""
        return self.rows(self.copy == 0)

    def pooled(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.pooled.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def projected(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.projected.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def aligned(self, device: torch.device | str = "cpu") -> tuple[Alignment, Tensor]:
        """What ITEM reads and labels, on a device, to train on."""
        return self.evidence.aligned().to(device), torch.as_tensor(self.labels, device=device)


Recipe = TypeVar("Recipe")


@dataclass(frozen=True)
class Training:
    """What a method may use besides its tables. options: of the method's own kind, such as its recipe; None for its defaults."""

    backbone: Backbone
    seed: int = 0
    options: object = None

    def recipe(self, default: Recipe) -> Recipe:
        """`options` where they are of the default's kind, else the default."""
        return self.options if isinstance(self.options, type(default)) else default


@dataclass(frozen=True)
class Fitted:
    """A head, not yet calibrated, and plain values that its card says besides."""

    head: Head
    details: dict[str, Any]

    @classmethod
    def by(cls, recipe: DataclassInstance, head: Head, details: Mapping[str, Any] | None = None) -> Fitted:
        """With the recipe among the details, so that the head's card says how it was trained."""
        return cls(head, {**(details or {}), "recipe": asdict(recipe)})
