"""Logits of a head on a table, and Platt scaling of the head so that σ(logit) is a probability."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from detector.clip.backbone import Backbone
from detector.logistic import fit_logistic
from detector.methods.base import Head
from detector.methods.physical_clip.head import PhysicalClipHead
from detector.methods.table import Table

HeadType = TypeVar("HeadType", bound=Any)  # a head of one class; `Head.scaled` gives the same class


def logits_of(head: Head, table: Table, backbone: Backbone) -> np.ndarray:
    """(N,) logits of a method on a table; NaN for images that it cannot read."""
    evidence = table.evidence
    if isinstance(head, PhysicalClipHead):
        evidence = head.with_text(backbone, evidence, evidence.aligned().texts)
    return np.asarray(head.score(evidence).logit, np.float64)


def calibrated(head: HeadType, val: Table, backbone: Backbone) -> HeadType:
    """The head with its logit Platt-scaled on `val`, so that σ(logit) is a probability; parts stay exact."""
    logits = logits_of(head, val, backbone)
    finite = np.isfinite(logits)
    slope, offset = fit_logistic(logits[finite, None], val.labels[finite], 1e-3)
    return head.scaled(float(slope), float(offset))
