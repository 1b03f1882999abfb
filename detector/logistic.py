"""Ridge logistic regression in which both classes weigh the same, so that the probability refers to even prior odds."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.special import expit


def balanced(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(N,) weights of mean 1 in which both classes weigh the same. weights: (N,) of the rows within their class; None: all equal."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    return weights * (len(labels) / 2 / np.bincount(labels == 1, weights, minlength=2))[(labels == 1).astype(int)]


def fit_logistic(features: np.ndarray, labels: np.ndarray, penalty: float, weights: np.ndarray | None = None) -> np.ndarray:
    """(N, M) features, (N,) labels of 0 and 1 → (M + 1,) coefficients, the intercept last, by scikit-learn.

    penalty: half of it times the sum of the squared weights is added to the sum of the log losses; the intercept is not penalised.
    weights: see `balanced`. ValueError if all labels are the same.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # slow to import, and scoring needs none of it

    # Newton's method: exact for the few features that we have, whatever their scale
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    with warnings.catch_warnings():
        # beside the minimum its line search meets rounding errors; it says so and ends with L-BFGS
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels, sample_weight=balanced(labels, weights))
    return np.append(model.coef_[0], model.intercept_)


def fit_nonnegative_logistic(features: np.ndarray, labels: np.ndarray, penalty: float, weights: np.ndarray | None = None) -> np.ndarray:
    """As `fit_logistic`, with all weights but the intercept at 0 or above, which scikit-learn does not offer; by L-BFGS-B."""
    from scipy.optimize import minimize  # only fitting needs it

    design = np.column_stack([features, np.ones(len(features))])
    weight = balanced(labels, weights)
    ridge = np.array([penalty] * features.shape[1] + [0.0])

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ coefficients
        value = (weight * (np.logaddexp(0, logits) - labels * logits)).sum() + (ridge * coefficients**2).sum() / 2
        return value, design.T @ (weight * (expit(logits) - labels)) + ridge * coefficients

    bounds = [(0.0, None)] * features.shape[1] + [(None, None)]
    options = {"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8}
    return minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
