"""Ridge: every user's own deterministic reward, in closed form.

    minimise over w_u, b_u:  sum_i (y_i - b_u - x_i'w_u - c_q(i))^2 + |w_u|^2 / g + |c|^2 / k

Users share nothing but the two ratios g and k (and the features), which maximise the sum of the users' log marginal
likelihoods; each user's weights are then the closed-form ridge solution (Hoerl & Kennard 1970). It is the exact limit
of kind ``point`` without sharing: with few labels it collapses or turns against its user. Users without fit labels get
the pooled ridge, and with ``abstain`` so do those whose leave-one-out errors are not below its own.

Rows of one query have a common random effect c_q ~ N(0, k s2) beside noise s2 D, so their covariance is
s2 (D + k 11'). By Sherman and Morrison its inverse needs nothing but sums:

    (D + k 11')^-1 = D^-1 - k/(1 + k 1'D^-1 1) D^-1 11' D^-1,    log|D + k 11'| = log|D| + log(1 + k 1'D^-1 1).

:class:`UserSums` holds these sums per user and per query; :func:`normal_equations` has the equations for any k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field
from scipy import optimize

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.base_rows import WITHOUT_BASE, BaseRows, restore_base_rows
from bestfor.rewards.features import FeatureConfig
from bestfor.rewards.learner import BaseLabels, LinearLearner, Units
from bestfor.rewards.linear.pooled import PooledRidge, fit_pool, restore_pool
from bestfor.rewards.posterior import Belief, RatedRows, condition, no_preferences
from bestfor.rewards.rows import FeatureRows, apply_rows, sum_by, with_intercept
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate

USER_INTERCEPT_VARIANCE = 10.0
SLOPE_LIMITS = (-14.0, 3.0)
"""Limits of log g."""
QUERY_LIMITS = (-8.0, 4.0)
"""Limits of log k."""


class Config(FeatureConfig):
    """Features and the penalty.

    Attributes:
        slope: prior variance g of a weight over the noise variance; None estimates it.
        abstain: whether users whose labels say no more than everybody's are served by the pooled ridge; off, since this
            kind is there to show what users' own labels do alone.
    """

    slope: float | None = Field(default=None, gt=0)
    abstain: bool = False


@dataclass(frozen=True)
class UserSums:
    """Sums over rows, enough for every model that is linear in the same columns.

    Attributes:
        gram: shape (users, p, p), Z'D^-1 Z of each user.
        moment: shape (users, p), Z'D^-1 y.
        square: shape (users,), y'D^-1 y.
        log_weight: shape (users,), log|D| of each user.
        count: shape (users,), rows of each user.
        query_sum: shape (queries, p), 1'D^-1 Z of each query.
        query_y: shape (queries,), 1'D^-1 y.
        query_weight: shape (queries,), 1'D^-1 1.
        owner: shape (queries,), user of each query.
    """

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    log_weight: FloatArray
    count: FloatArray
    query_sum: FloatArray
    query_y: FloatArray
    query_weight: FloatArray
    owner: IntArray

    @property
    def has_query_effect(self) -> bool:
        """True where a query's effect differs from its user's: somebody has two queries."""
        return len(self.owner) > len(np.unique(self.owner))


@dataclass(frozen=True)
class NormalEquations:
    """Equations of every user given k, noise variance 1: H = Z'V^-1 Z, h = Z'V^-1 y, q = y'V^-1 y, log|V|."""

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    log_det: FloatArray


def sum_users(rows: FeatureRows, noise: FloatArray | None = None) -> UserSums:
    """Sum rows by user and by query.

    Args:
        rows: n labelled rows sorted by user.
        noise: shape (n,), the diagonal of D; None means ones.
    """
    size = np.ones(len(rows.y)) if noise is None else noise
    weighted = rows.z / size[:, None]
    offsets = rows.segments()
    users, p = len(offsets) - 1, rows.z.shape[1]
    gram, moment = np.zeros((users, p, p)), np.zeros((users, p))
    for user in range(users):
        part = slice(offsets[user], offsets[user + 1])
        gram[user] = weighted[part].T @ rows.z[part]
        moment[user] = weighted[part].T @ rows.y[part]
    queries = int(rows.query.max()) + 1
    query_sum = np.zeros((queries, p))
    np.add.at(query_sum, rows.query, weighted)
    owner = np.zeros(queries, dtype=np.int64)
    owner[rows.query] = rows.user
    return UserSums(
        gram=gram,
        moment=moment,
        square=sum_by(rows.user, rows.y**2 / size, users),
        log_weight=sum_by(rows.user, np.log(size), users),
        count=sum_by(rows.user, np.ones(len(size)), users),
        query_sum=query_sum,
        query_y=sum_by(rows.query, rows.y / size, queries),
        query_weight=sum_by(rows.query, 1 / size, queries),
        owner=owner,
    )


def normal_equations(sums: UserSums, ratio: float) -> NormalEquations:
    """Normal equations of every user for one ratio k of query-effect variance to noise variance."""
    if ratio <= 0:
        return NormalEquations(sums.gram, sums.moment, sums.square, sums.log_weight)
    users = len(sums.square)
    shrink = ratio / (1 + ratio * sums.query_weight)
    scaled = sums.query_sum * np.sqrt(shrink)[:, None]
    order = np.argsort(sums.owner, kind="stable")
    offsets = np.searchsorted(sums.owner[order], np.arange(users + 1))
    gram = sums.gram.copy()
    for user in range(users):
        own = scaled[order[offsets[user] : offsets[user + 1]]]
        gram[user] -= own.T @ own
    moment = sums.moment.copy()
    np.add.at(moment, sums.owner, -sums.query_sum * (shrink * sums.query_y)[:, None])
    taken = sum_by(sums.owner, shrink * sums.query_y**2, users)
    widened = sum_by(sums.owner, np.log1p(ratio * sums.query_weight), users)
    return NormalEquations(gram, moment, sums.square - taken, sums.log_weight + widened)


def _query_levels(rows: FeatureRows, weighted_error: FloatArray, query_weight: FloatArray, ratio: float) -> FloatArray:
    """Posterior mean of c_q at each row, shape (n,): k / (1 + k 1'D^-1 1) times the query's sum of D^-1 errors."""
    total = sum_by(rows.query, weighted_error, len(query_weight))
    return (ratio / (1 + ratio * query_weight) * total)[rows.query]


def choose_ratios(sums: UserSums, slope: float | None) -> tuple[float, float]:
    """Ratios g and k that maximise the summed evidence of the users; k is 0 where nobody has two queries."""

    def best_slope(query: float) -> tuple[float, float]:
        if slope is not None:
            return slope, -evidence(sums, slope, query)
        log, value = _line_minimum(lambda log: -evidence(sums, float(np.exp(log)), query), SLOPE_LIMITS, 0.1)
        return float(np.exp(log)), value

    if not sums.has_query_effect:
        return best_slope(0.0)[0], 0.0
    query = float(np.exp(_line_minimum(lambda log: best_slope(float(np.exp(log)))[1], QUERY_LIMITS, 0.2)[0]))
    return best_slope(query)[0], query


def evidence(sums: UserSums, slope: float, query: float) -> float:
    """Log marginal likelihood of all users' independent ridges, the common noise variance profiled out."""
    normal = normal_equations(sums, query)
    penalty = _prior_precision(sums.gram.shape[1], slope)
    matrices = normal.gram + np.diag(penalty)
    weights = np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0]
    rows = float(sums.count.sum())
    noise = max(float(np.sum(normal.square - np.sum(weights * normal.moment, axis=1))) / rows, 1e-12)
    log_det = np.linalg.slogdet(matrices)[1] - np.sum(np.log(penalty)) + normal.log_det
    return -0.5 * (rows * (np.log(2 * np.pi * noise) + 1) + float(np.sum(log_det)))


def solve_users(sums: UserSums, slope: float, query: float) -> FloatArray:
    """Each user's weights, shape (users, p)."""
    normal = normal_equations(sums, query)
    matrices = normal.gram + np.diag(_prior_precision(sums.gram.shape[1], slope))
    return np.asarray(np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0], dtype=np.float64)


def left_out_errors(rows: FeatureRows, sums: UserSums, slope: float, query: float) -> FloatArray:
    """Errors of each row under the ridge of its user's other rows, shape (n,): [C^-1 y]_i / [C^-1]_ii.

    C = I + k 11' + Z P^-1 Z' is the rows' covariance over the noise's, so that C^-1 = V^-1 - V^-1 Z H^-1 Z'V^-1.

    Args:
        rows: the n rows.
        sums: their sums, all rows weighing 1.
        slope: ratio g.
        query: ratio k.
    """
    normal, offsets = normal_equations(sums, query), rows.segments()
    inverse = np.linalg.inv(normal.gram + np.diag(_prior_precision(rows.z.shape[1], slope)))
    weights = np.einsum("uij,uj->ui", inverse, normal.moment)
    shrink = query / (1 + query * sums.query_weight)
    error = rows.y - apply_rows(rows.z, weights[rows.user])
    solved = error - _query_levels(rows, error, sums.query_weight, query)
    plain = rows.z - (shrink[:, None] * sums.query_sum)[rows.query]
    diagonal = 1 - shrink[rows.query]
    for user, (start, end) in enumerate(pairwise(offsets)):
        part = slice(start, end)
        diagonal[part] -= np.sum((plain[part] @ inverse[user]) * plain[part], axis=1)
    return solved / np.maximum(diagonal, 1e-9)


def predict_users(weights: FloatArray, pool: PooledRidge, values: FloatArray, codes: IntArray) -> FloatArray:
    """Means of n rows: the user's own weights where ``codes`` >= 0, the pool's elsewhere; both on the pool's unit."""
    known = codes >= 0
    every = np.tile(pool.ridge.weights, (len(codes), 1))
    every[known] = weights[codes[known]]
    return pool.centre + pool.unit * apply_rows(with_intercept(values), every)


def _prior_precision(columns: int, slope: float) -> FloatArray:
    """Prior precisions over the noise's; the last column is the intercept."""
    values = np.full(columns, 1 / slope)
    values[-1] = 1 / USER_INTERCEPT_VARIANCE
    return values


def _line_minimum(loss: Callable[[float], float], bounds: tuple[float, float], tolerance: float) -> tuple[float, float]:
    """Minimise a function of one variable within bounds by Brent's search: where, and its value there."""
    found: Any = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(found.x), float(found.fun)


class Ridge(LinearLearner):
    """One ridge per user; a person's further labels go into that user's ridge."""

    kind = "ridge"
    Config = Config
    sliced = True
    shardable = True
    posterior = False

    def _fit(self, candidates: Candidates, rng: int) -> None:
        values = self._design(candidates).rows()
        self._pool = fit_pool(values, candidates)
        target = (candidates.utility - self._pool.centre) / self._pool.unit
        rows = FeatureRows(with_intercept(values), target, candidates.user, candidates.query)
        with for_size(rows.z.shape[1]):
            self._fit_users(rows, candidates)

    def _fit_users(self, rows: FeatureRows, candidates: Candidates) -> None:
        """Fit every user's weights to rows on the pool's scale."""
        sums = sum_users(rows)
        slope, query = choose_ratios(sums, self.config.slope)
        self._ratios = {"slope": slope, "query": query}
        self._weights = solve_users(sums, slope, query)
        self._base = BaseRows.build(rows.z[:, :-1], rows.y, rows.user, rows.query)
        if self.config.abstain:
            ridge = self._pool.ridge.weights
            shared = left_out_levels(rows.y - apply_rows(rows.z, ridge), candidates.query)
            self._abstained = abstaining(candidates.user, left_out_errors(rows, sums, slope, query), shared)

    def take_fit(self, pool: PooledRidge, ratios: dict[str, float], weights: FloatArray, base: BaseRows) -> None:
        """Take over what was fitted: the pooled ridge, g and k, weights of users (n, p), and their labels."""
        self._pool, self._ratios, self._weights, self._base = pool, ratios, weights, base

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        design, codes = self._design(candidates), self._user_codes(candidates)
        mean = predict_users(self._weights, self._pool, design.rows(), codes)
        return RewardEstimate(mean, notes=self._new_user_notes(candidates, codes, "pooled"))

    def units(self) -> Units:
        """Give the scales; noise is what the pooled ridge leaves, since ratios alone make no weights."""
        return Units(self._pool.centre, self._pool.unit, self._ratios["query"] * self._pool.ridge.noise)

    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of a label's noise, shape (n,)."""
        return np.full(len(columns), self._pool.ridge.noise)

    def belief(self, code: int) -> Belief:
        """Posterior of a user's weights: the ridge's own prior, and the labels of the fit where they are kept."""
        p = self._weights.shape[1]
        variance = self._pool.ridge.noise / _prior_precision(p, self._ratios["slope"])
        prior = Belief(np.zeros(p), np.diag(variance))
        if code < 0:
            return prior
        known = prior if self._base is None else condition(prior, self._base_rows(code))
        return Belief(self._weights[code], known.covariance)

    def _base_rows(self, code: int) -> RatedRows:
        assert self._base is not None
        features, target, query = self._base.of(code)
        columns = self.columns(features, code)
        return RatedRows(columns, target, self.noise(columns, code), query, self.units().level)

    def _base_labels(self, code: int) -> BaseLabels | None:
        if self._base is None or code < 0:
            return None
        own, level = self.belief(-1), np.zeros(self._weights.shape[1])
        level[-1] = own.covariance[-1, -1]
        shared = Belief(self._pool.ridge.weights, np.diag(level))
        return BaseLabels(self._base_rows(code), no_preferences(len(level)), own, shared)

    def _base_notes(self, code: int) -> tuple[str, ...]:
        return (WITHOUT_BASE,) if self._base is None and code >= 0 else ()

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state, arrays = self._pool.state()
        base = {} if self._base is None else self._base.arrays()
        return {"pool": state, "ratios": self._ratios}, {**arrays, **base, "user.weights": self._weights}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._pool = restore_pool(state["pool"], arrays)
        self._ratios = {name: float(state["ratios"][name]) for name in ("slope", "query")}
        self._weights = arrays["user.weights"]
        if self._weights.shape != (len(self._users), len(self._pool.ridge.weights)):
            raise ValueError(f"weights of shape {self._weights.shape}")
        self._base = restore_base_rows(arrays, len(self._users), self._weights.shape[1] - 1)
