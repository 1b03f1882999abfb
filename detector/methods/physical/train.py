"""Training of the interpretable model on the fifteen descriptors."""

from __future__ import annotations

from detector.methods.physical.head import PhysicalHead
from detector.methods.table import Fitted, Table, Training


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """Fit on the training images and their random copies; percentiles refer to the images as they are. `val` is not read."""
    plain = train.originals()
    reference = (plain.evidence.descriptors, plain.labels)
    return Fitted(PhysicalHead.fit(train.evidence.descriptors, train.labels, reference), {})
