"""Training of the linear head on the residual's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.base import Evidence, HeadError
from detector.methods.residual.head import PENALTIES, Features, ResidualHead, Weighting
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training


@dataclass(frozen=True)
class ResidualRecipe:
    """penalties: L2 strengths that the validation images choose from. power: of the sources' weights, see `Table.weights`. gamma: of the
    source penalty, see `Weighting`; 0.3 gave 0.01 of AUROC on sources that were held out. pooling: see `ResidualHead`. All choices."""

    penalties: tuple[float, ...] = PENALTIES
    power: float = SOURCE_POWER
    gamma: float = 0.3
    pooling: str = "windows"


def fit_residual(train: Table, val: Table, recipe: ResidualRecipe = ResidualRecipe()) -> ResidualHead:
    """Fit on the training images and their random copies; `val` chooses the penalty. HeadError where a table lacks the windows."""
    features, validation = (_features(table.evidence, recipe) for table in (train, val))
    weighting = Weighting(train.weights(recipe.power), train.sources, recipe.gamma)
    return ResidualHead.fit(features, train.labels, (validation, val.labels), recipe.penalties, weighting)


def _features(evidence: Evidence, recipe: ResidualRecipe) -> Features:
    if recipe.pooling == "windows" and evidence.residual_windows is None:
        raise HeadError("The residual head is trained on single windows, and this evidence holds none.")
    return evidence.residual if evidence.residual_windows is None or recipe.pooling != "windows" else evidence.residual_windows


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """As `fit_residual`. The loss is convex and starts at zero, so that the seed changes nothing."""
    head = fit_residual(train, val)
    return Fitted.by(ResidualRecipe(), head, {"pooling": head.pooling})
