"""Training of the interpretable model on the fifteen descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.physical.head import PENALTY, PhysicalHead
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training


@dataclass(frozen=True)
class PhysicalRecipe:
    """penalty: on the squared weights at the knots; power: of the sources' weights, see `Table.weights` (choices)."""

    penalty: float = PENALTY
    power: float = SOURCE_POWER


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """Fit on the training images and their random copies; percentiles refer to the images as they are. `val` is not read."""
    plain, recipe = train.originals(), PhysicalRecipe()
    reference = (plain.evidence.descriptors, plain.labels)
    weights = train.weights(recipe.power)
    return Fitted.by(recipe, PhysicalHead.fit(train.evidence.descriptors, train.labels, reference, recipe.penalty, weights))
