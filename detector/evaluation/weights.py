"""What the verdict rests on: the weight of each method in the fusion, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.methods.registry import PIXEL_METHODS
from detector.verdict.fusion import Fusion

DRAWS = 200


def fusion_weights(fusion: Fusion, draws: int = DRAWS, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Method → `weight` of its calibrated logit in the fusion, 0 or more; `weight_95`, a bootstrap interval over sources; `share` of the
    spread of the fused logits that it accounts for (covariance of its part with the sum over the variance of the sum; all shares sum to
    1); `reads_clip`, whether it reads a CLIP backbone.

    The images are those that the fusion was fitted on.
    """
    generator = np.random.default_rng(seed)
    redrawn = np.stack([fusion.redrawn_weights(generator) for _ in range(draws)])
    low, high = np.quantile(redrawn, (0.025, 0.975), axis=0)
    calibrated = fusion.calibrate({name: column for name, column in zip(fusion.methods, fusion.logits.T, strict=True)})
    parts = np.stack([weight * calibrated[name] for name, weight in zip(fusion.methods, fusion.weights, strict=False)])
    total = parts.sum(axis=0)
    return {
        name: {
            "weight": float(fusion.weights[i]),
            "weight_95": [float(low[i]), float(high[i])],
            "share": float(np.cov(parts[i], total)[0, 1] / np.var(total, ddof=1)),
            "reads_clip": name not in PIXEL_METHODS,
        }
        for i, name in enumerate(fusion.methods)
    }
