"""Logits of a head on a table, and Platt scaling of the head so that σ(logit) is a probability."""

from __future__ import annotations

import numpy as np

from detector.clip.backbone import Backbone
from detector.logistic import fit_logistic
from detector.methods.physical_clip.head import PhysicalClipHead
from detector.methods.table import Table


def logits_of(head, table: Table, backbone: Backbone) -> np.ndarray:
    """(N,) logits of a method on a table; NaN for images that it cannot read."""
    evidence = table.evidence
    if isinstance(head, PhysicalClipHead):
        evidence = head.with_text(backbone, evidence, evidence.alignment.texts)
    return np.asarray(head.score(evidence).logit, np.float64)


def calibrated(head, val: Table, backbone: Backbone):
    """The head with its logit Platt-scaled on `val`, so that σ(logit) is a probability; parts stay exact."""
    logits = logits_of(head, val, backbone)
    read = np.isfinite(logits)
    slope, offset = fit_logistic(logits[read, None], val.labels[read], 1e-3)
    return head.scaled(float(slope), float(offset))
