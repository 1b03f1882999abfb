"""A golden logit for each shipped head: one picture made here, and what every method and the verdict said of it when it was shipped.

A change of decoding, preprocessing, features or weights moves them. After a head was trained again on purpose:
`python tests/methods/test_golden.py`, from the repository, prints the new numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

GOLDEN = {
    "physical": 0.2923,
    "residual": -3.0483,
    "linear_probe": 0.7823,
    "orthogonal": 0.9245,
    "concepts": 0.6499,
    "item": 0.3565,
    "physical_clip": -0.3789,
    "sdd": 2.6230,
    "verdict": -0.5107,
}


def picture() -> np.ndarray:
    """(200, 260, 3) uint8: waves in three colours, a disc with a hard edge, and noise, from whole-number arithmetic and a fixed seed."""
    y, x = np.mgrid[:200, :260]
    waves = np.stack([x * 3 % 251, (x + y) * 2 % 241, y * 5 % 239], axis=-1)
    waves[(x - 130) ** 2 + (y - 90) ** 2 < 50**2] = (200, 90, 40)
    noise = np.random.default_rng(0).integers(-9, 10, waves.shape)
    return np.clip(waves // 2 + 60 + noise, 0, 255).astype(np.uint8)


def logits(suite) -> dict[str, float]:
    analysis = suite.analyze(picture())
    return {method: score["logit"] for method, score in analysis.detectors.items()} | {"verdict": analysis.verdict.logit}


def test_every_shipped_head_gives_its_golden_logit(suite):
    assert logits(suite) == pytest.approx(GOLDEN, abs=2e-3)


if __name__ == "__main__":
    import sys

    sys.path.insert(0, ".")
    from detector import Suite

    print({method: round(value, 4) for method, value in sorted(logits(Suite.load()).items())})
