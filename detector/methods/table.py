"""What a method is trained on, and what its training gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Backbone, ClipFeatures
from detector.data.datasets import Pictures
from detector.data.sources import source_weights
from detector.methods.base import Evidence, Head
from detector.methods.item.alignment import Alignment

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Table:
    """Evidence and labels of one split. copy: 0 for the image as it is, 1… for its random copies. sources: one a row.

    pictures: the rows' images, which are also `evidence.pixels`; none in a table that was made up. corpora: names of the data folders,
    one a row; () in a table that was made up.
    """

    evidence: Evidence
    labels: np.ndarray
    sources: np.ndarray
    copy: np.ndarray
    pictures: Pictures = Pictures(())
    corpora: np.ndarray = field(default_factory=lambda: np.array(()))

    def rows(self, mask: np.ndarray) -> Table:
        """The rows where the (N,) mask is True."""
        pictures = self.pictures.rows(mask) if self.pictures else self.pictures
        corpora = self.corpora[mask] if len(self.corpora) else self.corpora
        return Table(self.evidence.rows(mask), self.labels[mask], self.sources[mask], self.copy[mask], pictures, corpora)

    @property
    def origins(self) -> np.ndarray:
        """(N,) source of the photograph that a row's image re-synthesises; "" for all other images."""
        return np.array([example.origin for example in self.pictures.examples] if self.pictures else [""] * len(self.labels))

    def without(self, sources: np.ndarray) -> Table:
        """The rows of other sources than the named ones, without re-syntheses of photographs from these."""
        return self.rows(~np.isin(self.sources, sources) & ~np.isin(self.origins, sources))

    def with_photographs(self, photographs: Table) -> Table:
        """The rows, then those of `photographs`; of the evidence CLIP's features and the pixels alone."""
        clip, more = self.evidence.clip, photographs.evidence.clip
        features = ClipFeatures(torch.cat([clip.pooled, more.pooled]), torch.cat([clip.projected, more.projected]), None)
        pictures = self.pictures.joined(photographs.pictures)
        names = ("labels", "sources", "copy", "corpora")
        columns = {name: np.concatenate([getattr(self, name), getattr(photographs, name)]) for name in names}
        return Table(Evidence.of_clip(features, pictures), pictures=pictures, **columns)

    def originals(self) -> Table:
        """The rows of the images as they are."""
        return self.rows(self.copy == 0)

    def weights(self, power: float) -> np.ndarray:
        """(N,) weights of the rows, see `source_weights`: both classes weigh the same, a source of n rows n^(1 − power)."""
        return source_weights(self.labels, self.sources, power)

    def pooled(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.pooled.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def projected(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.projected.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def aligned(self, device: torch.device | str = "cpu") -> tuple[Alignment, Tensor]:
        """What ITEM reads and labels, on a device, to train on."""
        return self.evidence.aligned().to(device), torch.as_tensor(self.labels, device=device)


SOURCE_POWER = 0.5  # of `Table.weights` in a fit: half-way between equal images and equal sources (choice)
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
