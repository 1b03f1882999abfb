"""What the verdict rests on: the weight of each method in the fusion, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.methods.registry import PIXEL_METHODS
from detector.verdict.fusion import Fusion

DRAWS = 200


def fusion_weights(fusion: Fusion, draws: int = DRAWS, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Method → `weight` of its calibrated logit in the fusion, 0 or more; `share` of the spread of the fused logits that it accounts for
    (covariance of its part with the sum over the variance of the sum; all shares sum to 1), and `share_95`, a bootstrap interval over
    sources; `reads_clip`, whether it reads a CLIP backbone.

    The images are those that the fusion was fitted on.
    """
    generator = np.random.default_rng(seed)
    redrawn = np.stack([_shares(fusion.redrawn(generator)) for _ in range(draws)])
    shares, (low, high) = _shares(fusion), np.quantile(redrawn, (0.025, 0.975), axis=0)
    return {
        name: {
            "weight": float(fusion.weights[i]),
            "share": float(shares[i]),
            "share_95": [float(low[i]), float(high[i])],
            "reads_clip": name not in PIXEL_METHODS,
        }
        for i, name in enumerate(fusion.methods)
    }


def _shares(fusion: Fusion) -> np.ndarray:
    """(M,) shares of the spread of the fused logits."""
    calibrated = fusion.calibrate(dict(zip(fusion.methods, fusion.logits.T, strict=True)))
    parts = np.stack([weight * calibrated[name] for name, weight in zip(fusion.methods, fusion.weights, strict=False)])
    total = parts.sum(axis=0)
    return np.array([np.cov(part, total)[0, 1] for part in parts]) / np.var(total, ddof=1)
