"""What logits are made of: contributions of descriptors, residual groups, units and concepts, and the names of units and concepts.

Units and concepts come from the backbone's own heads, else from those that others have released for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from torch import Tensor

from detector.clip.backbone import Backbone
from detector.clip.vocabulary import Concept, vocabulary
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadCard
from detector.methods.concepts.head import ConceptHead, concept_directions
from detector.methods.orthogonal.head import OrthogonalHead
from detector.methods.orthogonal.naming import name_units
from detector.methods.physical_clip.text import written
from detector.methods.released import Released
from detector.records import UnitNames
from detector.verdict.reference import Reference


@dataclass(frozen=True)
class Terms:
    """The n terms of a head's logit for B images. activations: (B, n). contributions: (B, n) in logits; with the bias they add up."""

    activations: np.ndarray
    contributions: np.ndarray


@dataclass(frozen=True)
class Parts:
    """What the logits of B images are made of; None or {} where there is no such head.

    physical: (B, 15) in logits, one a descriptor. residual: group of features → (B,) in logits. units, concepts: of the heads that
    `PartHeads` gives. texts: what CLIP's text tower read of each image, () where no method reads descriptors as text.
    """

    physical: np.ndarray | None
    residual: Mapping[str, np.ndarray]
    units: Terms | None
    concepts: Terms | None
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PartHeads:
    """The heads of one backbone whose parts are presented. heads, cards: of this project's methods, by method. reference: features of
    reference images, by which the units of a released head are named; None where there are none.

    Released heads come before those trained here, so that training never hides them; the head called `preferred`, the one that leads,
    comes before both.
    """

    backbone: Backbone
    heads: Mapping[str, Any]
    cards: Mapping[str, HeadCard]
    released: Released
    reference: Reference | None = None
    preferred: str = ""

    @cached_property
    def units(self) -> tuple[str, OrthogonalHead] | None:
        """(name, head) of the orthogonal head; None without one."""
        return cast("tuple[str, OrthogonalHead] | None", self._head("orthogonal", "clip_orthogonal"))

    @cached_property
    def concept_model(self) -> tuple[str, ConceptHead] | None:
        """(name, head) of the concept model; None without one."""
        return cast("tuple[str, ConceptHead] | None", self._head("concepts", "cm_antonyms"))

    def _head(self, method: str, kind: str) -> tuple[str, Any] | None:
        """The preferred head, the released one of the training set in use, or the method's own. kind: as for `Released.shown`."""
        released = {name: head.head for name, head in self.released.heads.items() if f"/{kind}_" in name}
        heads = released | ({method: self.heads[method]} if method in self.heads else {})
        names = (self.preferred, self.released.shown(kind) or "", method)
        return next(((name, heads[name]) for name in names if name in heads), None)

    @cached_property
    def concept_words(self) -> tuple[Concept, ...]:
        """The antonym pair behind each row of the concept model; () without one."""
        if self.concept_model is None:
            return ()
        name, head = self.concept_model
        return vocabulary() if name == "concepts" else tuple(map(self.released.concept, range(len(head.weight))))

    def concept_space(self) -> tuple[tuple[Concept, ...], Tensor]:
        """The antonym pairs and their unit directions (C, E): the concept model's, else our vocabulary's, encoded now."""
        if self.concept_model:
            return self.concept_words, self.concept_model[1].directions
        return vocabulary(), concept_directions(self.backbone)

    @cached_property
    def unit_names(self) -> UnitNames | None:
        """The names of the units, see `name_units`; None without units.

        Those of a released head come from the reference images, and from plain geometry where there are none.
        """
        if self.units is None:
            return None
        name, head = self.units
        if name in self.cards:
            details = self.cards[name].details  # which hold more: the recipe
            return cast(UnitNames, {key: details[key] for key in UnitNames.__annotations__})
        words, directions = self.concept_space()
        images = (self.reference.pooled, self.reference.projected) if self.reference else ()
        return cast(UnitNames, name_units(head.weight, directions, self.backbone.projection, words, *images))

    def parts(self, evidence: Evidence) -> Parts:
        """What the logits of the images are made of."""
        physical, residual = self.heads.get("physical"), self.heads.get("residual")
        return Parts(
            physical.contributions(evidence.descriptors) if physical else None,
            residual.contributions(residual.reads(evidence)) if residual else {},
            _terms(self.units, evidence, evidence.clip.pooled),
            _terms(self.concept_model, evidence, evidence.clip.projected),
            self._texts(evidence),
        )

    def _texts(self, evidence: Evidence) -> tuple[str, ...]:
        head = self.heads.get("physical_clip")
        if head is None or evidence.alignment is None:
            return ()
        return tuple(written(self.backbone, evidence.alignment.texts, evidence.descriptors, to_numpy(head.limits), head.core_names))


def _terms(named_head: tuple[str, OrthogonalHead | ConceptHead] | None, evidence: Evidence, feature: Tensor) -> Terms | None:
    """The terms of a head on the features that belong to it: a released head's own ones, else `feature` of the backbone."""
    if named_head is None:
        return None
    name, head = named_head
    features = evidence.released.get(name, feature)
    return Terms(to_numpy(head.activations(features)), to_numpy(head.contributions(features)))
