"""Training of the linear head on the residual's numbers."""

from __future__ import annotations

from detector.methods.residual.head import ResidualHead
from detector.methods.table import Fitted, Table, Training


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """Fit on the training images and their random copies; `val` chooses the penalty."""
    validation = (val.evidence.residual, val.labels)
    return Fitted(ResidualHead.fit(train.evidence.residual, train.labels, seed=training.seed, validation=validation), {})
