"""Training of the linear head on the residual's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.residual.head import PENALTIES, ResidualHead
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training


@dataclass(frozen=True)
class ResidualRecipe:
    """penalties: L2 strengths that the validation images choose from; power: of the sources' weights, see `Table.weights` (choices)."""

    penalties: tuple[float, ...] = PENALTIES
    power: float = SOURCE_POWER


def fit_residual(train: Table, val: Table, recipe: ResidualRecipe = ResidualRecipe()) -> ResidualHead:
    """Fit on the training images and their random copies; `val` chooses the penalty."""
    validation = (val.evidence.residual, val.labels)
    return ResidualHead.fit(train.evidence.residual, train.labels, validation, recipe.penalties, train.weights(recipe.power))


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """As `fit_residual`. The loss is convex and starts at zero, so that the seed changes nothing."""
    return Fitted.by(ResidualRecipe(), fit_residual(train, val))
