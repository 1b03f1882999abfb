"""Ridge logistic regression in which both classes weigh the same, with or without negative weights."""

from __future__ import annotations

import numpy as np
from scipy.special import expit


def fit_logistic(features: np.ndarray, labels: np.ndarray, penalty: float, nonnegative: bool = False) -> np.ndarray:
    """Ridge logistic regression by L-BFGS-B; (N, M) → (M + 1,) weights, the intercept last and unpenalised.

    Classes weigh the same, so that the probability refers to even prior odds. `nonnegative` keeps all weights at 0 or above.
    """
    from scipy.optimize import minimize  # only fitting needs it

    design = np.column_stack([features, np.ones(len(features))])
    weight = np.where(labels == 1, 0.5 / (labels == 1).mean(), 0.5 / (labels == 0).mean())
    ridge = np.array([penalty] * features.shape[1] + [0.0])

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ coefficients
        value = (weight * (np.logaddexp(0, logits) - labels * logits)).sum() + (ridge * coefficients**2).sum() / 2
        return value, design.T @ (weight * (expit(logits) - labels)) + ridge * coefficients

    bounds = [(0.0 if nonnegative else None, None)] * features.shape[1] + [(None, None)]
    options = {"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8}
    return minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
