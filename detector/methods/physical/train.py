"""Training of the interpretable model on the fifteen descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.physical.head import PENALTY, PhysicalHead
from detector.methods.table import Fitted, Table, Training


@dataclass(frozen=True)
class PhysicalRecipe:
    """penalty: on the squared weights at the knots (choice)."""

    penalty: float = PENALTY


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """Fit on the training images and their random copies; percentiles refer to the images as they are. `val` is not read."""
    plain, recipe = train.originals(), PhysicalRecipe()
    reference = (plain.evidence.descriptors, plain.labels)
    return Fitted.by(recipe, PhysicalHead.fit(train.evidence.descriptors, train.labels, reference, recipe.penalty))
