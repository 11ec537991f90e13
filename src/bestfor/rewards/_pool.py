"""The pooled ridge on the utility's own scale: a model of its own, and what strangers get from the personal ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Examples
from bestfor.errors import InputError
from bestfor.rewards._ridge import Ridge, solve_ridge
from bestfor.rewards.linear.solver import Rows, apply_rows, with_intercept
from bestfor.types import FloatArray


class Pool:
    """A ridge with the utility's own centre and unit.

    Args:
        ridge: fitted on (y - centre) / unit.
        centre: mean utility of the fit rows.
        unit: their standard deviation.
    """

    def __init__(self, ridge: Ridge, centre: float, unit: float) -> None:
        self.ridge, self.centre, self.unit = ridge, centre, unit

    def predict(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and predictive variance, each (n,), of feature rows (n, p - 1)."""
        noise = self.ridge.noise + self.ridge.query + self.ridge.text
        mean = self.centre + self.unit * apply_rows(with_intercept(values), self.ridge.weights)
        return mean, self.mean_variance(values) + self.unit**2 * noise

    def mean_variance(self, values: FloatArray) -> FloatArray:
        """Posterior variance of the mean alone, shape (n,)."""
        z = with_intercept(values)
        return self.unit**2 * np.maximum(apply_rows(z @ self.ridge.covariance, z), 0.0)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """JSON values and arrays to store."""
        ridge = self.ridge
        names = ("slope", "noise", "query", "text", "evidence")
        values = {name: float(getattr(ridge, name)) for name in names}
        values |= {"centre": self.centre, "unit": self.unit}
        return values, {"pool.weights": ridge.weights, "pool.covariance": ridge.covariance}


def fit_pool(values: FloatArray, examples: Examples) -> Pool:
    """Fit the pooled ridge.

    Args:
        values: shape (n, p - 1), features of the rows.
        examples: the n labelled rows.
    """
    centre, unit = float(np.mean(examples.utility)), float(np.std(examples.utility)) or 1.0
    rows = Rows(with_intercept(values), (examples.utility - centre) / unit, examples.user, examples.query)
    return Pool(solve_ridge(rows, examples.text), centre, unit)


def restore_pool(state: dict[str, Any], arrays: Arrays) -> Pool:
    """The pool that :meth:`Pool.state` stored."""
    weights, covariance = arrays["pool.weights"], arrays["pool.covariance"]
    if weights.ndim != 1 or covariance.shape != (len(weights), len(weights)):
        raise InputError("saved model", f"weights {weights.shape}, covariance {covariance.shape}", "p and (p, p)")
    names = ("slope", "noise", "query", "text", "evidence")
    ridge = Ridge(weights, covariance, **{name: float(state[name]) for name in names})
    return Pool(ridge, float(state["centre"]), float(state["unit"]))
