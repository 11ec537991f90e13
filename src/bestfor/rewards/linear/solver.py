"""Linear algebra that the linear reward models share.

Rows of one query have a common random effect c_q ~ N(0, k s2) beside noise s2 D, so their covariance is
s2 (D + k 11'). By Sherman and Morrison its inverse needs nothing but sums:

    (D + k 11')^-1 = D^-1 - k/(1 + k 1'D^-1 1) D^-1 11' D^-1,    log|D + k 11'| = log|D| + log(1 + k 1'D^-1 1).

:class:`Blocks` holds these sums per user and per query; :func:`condition` turns them into normal equations for any k.

One ridge for everybody with random effects of queries and shared texts, all variances by marginal likelihood.

    y = z'w + c_q + v_t + e,   w ~ N(0, s2 G),  c_q ~ N(0, s2 k),  v_t ~ N(0, s2 m),  e ~ N(0, s2).

Many people rating one text err together: without v_t a few hundred texts would count as many thousand facts about w.
Only texts of at least two queries get a v_t. Queries are summed out (:mod:`bestfor.rewards.linear.solver`), texts are
columns of their own. With H = B'V^-1 B + prior precision, B = [Z, T], and theta = H^-1 B'V^-1 y

    -2 log p(y) = n log s2 + log|V| + log|H| - log|prior precision|,    s2 = (y'V^-1 y - theta'B'V^-1 y) / n,

and a normal prior on each log ratio keeps it off the boundary (Rasmussen & Williams 2006, chapter 5).

The pooled ridge on the utility's own scale: a model of its own, and what strangers get from the personal ones.

A ridge per user: independent weights, common ratios of variances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, sparse

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Examples
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class Blocks:
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
        """Whether a query's effect differs from its user's: somebody has two queries."""
        return len(self.owner) > len(np.unique(self.owner))


@dataclass(frozen=True)
class Normal:
    """Normal equations of every user given k, noise variance 1: H = Z'V^-1 Z, h = Z'V^-1 y, q = y'V^-1 y, log|V|."""

    gram: FloatArray
    moment: FloatArray
    square: FloatArray
    log_det: FloatArray


@dataclass(frozen=True)
class Rows:
    """Labelled rows sorted by user.

    Attributes:
        z: shape (n, p), features in single or double precision; the last column is usually the intercept.
        y: shape (n,), utilities.
        user: shape (n,), ascending codes 0..users-1.
        query: shape (n,), codes 0..queries-1; a query belongs to one user.
    """

    z: npt.NDArray[Any]
    y: FloatArray
    user: IntArray
    query: IntArray

    def segments(self) -> IntArray:
        """Offsets of the users' rows, shape (users + 1,)."""
        return np.searchsorted(self.user, np.arange(int(self.user[-1]) + 2))


def with_intercept(values: FloatArray) -> FloatArray:
    """Append a column of ones."""
    return np.column_stack([values, np.ones(len(values))])


def sum_by(codes: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Sum of the values of each code, shape (size,)."""
    return np.asarray(np.bincount(codes, values, minlength=size), dtype=np.float64)


def line_minimum(loss: Callable[[float], float], bounds: tuple[float, float], tolerance: float) -> tuple[float, float]:
    """Where a function of one variable is least within bounds, and its value there (Brent's bounded search)."""
    found: Any = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(found.x), float(found.fun)


def build_blocks(rows: Rows, noise: FloatArray | None = None) -> Blocks:
    """Sum the rows.

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
    return Blocks(
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


def condition(blocks: Blocks, ratio: float) -> Normal:
    """Normal equations of every user for one ratio k of query-effect variance to noise variance."""
    if ratio <= 0:
        return Normal(blocks.gram, blocks.moment, blocks.square, blocks.log_weight)
    users = len(blocks.square)
    shrink = ratio / (1 + ratio * blocks.query_weight)
    scaled = blocks.query_sum * np.sqrt(shrink)[:, None]
    order = np.argsort(blocks.owner, kind="stable")
    offsets = np.searchsorted(blocks.owner[order], np.arange(users + 1))
    gram = blocks.gram.copy()
    for user in range(users):
        mine = scaled[order[offsets[user] : offsets[user + 1]]]
        gram[user] -= mine.T @ mine
    moment = blocks.moment.copy()
    np.add.at(moment, blocks.owner, -blocks.query_sum * (shrink * blocks.query_y)[:, None])
    taken = sum_by(blocks.owner, shrink * blocks.query_y**2, users)
    widened = sum_by(blocks.owner, np.log1p(ratio * blocks.query_weight), users)
    return Normal(gram, moment, blocks.square - taken, blocks.log_weight + widened)


def query_levels(rows: Rows, weighted_error: FloatArray, query_weight: FloatArray, ratio: float) -> FloatArray:
    """Posterior mean of c_q at each row, shape (n,): k / (1 + k 1'D^-1 1) times the query's sum of D^-1 errors."""
    total = sum_by(rows.query, weighted_error, len(query_weight))
    return (ratio / (1 + ratio * query_weight) * total)[rows.query]


def apply_rows(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Row-wise inner products, shape (n,); a row's bits do not depend on the other rows."""
    return np.sum(values * weights, axis=1)


def quadratic_rows(values: FloatArray, matrices: FloatArray, which: IntArray) -> FloatArray:
    """x_i' A_(which_i) x_i for every row, in blocks of equal ``which`` so that nothing large is copied."""
    out = np.zeros(len(values))
    order = np.argsort(which, kind="stable")
    codes, starts = np.unique(which[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        part = values[rows]
        out[rows] = np.sum((part @ matrices[code]) * part, axis=1)
    return out


INTERCEPT_VARIANCE = 100.0
MOST_TEXTS = 2000
PRIOR_SD = 2.0
LIMIT = 12.0
DENSE_SHARE = 0.05
SLICE = 4096


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge.

    Attributes:
        weights: shape (p,), posterior mean of w; the last is the intercept.
        covariance: shape (p, p), posterior covariance of w.
        slope: prior variance of a weight.
        noise: variance of e.
        query: variance of c_q, 0 where it cannot be told from noise.
        text: variance of v_t, 0 where no text is shared.
        evidence: log marginal likelihood at these values, without the prior on them.
    """

    weights: FloatArray
    covariance: FloatArray
    slope: float
    noise: float
    query: float
    text: float
    evidence: float


@dataclass(frozen=True)
class Sums:
    """Sums over rows, enough for any variances: columns are p features (the last is the intercept), then texts."""

    features: int
    rows: int
    gram: FloatArray
    moment: FloatArray
    square: float
    query_sum: sparse.csr_array
    query_y: FloatArray
    query_count: FloatArray


def solve_ridge(rows: Rows, text: IntArray) -> Ridge:
    """Fit weights and variances.

    Args:
        rows: n labelled rows; the last column of ``z`` is the intercept.
        text: shape (n,), code of each row's text.
    """
    sums = build_sums(rows, text)
    names = ["slope"]
    if sums.query_count.max() > 1 and len(sums.query_count) > 1:
        names.append("query")
    if len(sums.moment) > sums.features:
        names.append("text")
    centres = {"slope": -np.log(10.0 * sums.features), "query": -1.0, "text": -2.0}
    start = np.array([centres[name] for name in names])

    def loss(logs: FloatArray) -> float:
        ratios = dict(zip(names, np.exp(np.clip(logs, -LIMIT, LIMIT)), strict=True))
        return -posterior(sums, complete=False, **ratios).evidence + 0.5 * float(
            np.sum(((logs - start) / PRIOR_SD) ** 2)
        )

    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 0.02, "maxfev": 150})
    return posterior(sums, **dict(zip(names, np.exp(np.clip(found.x, -LIMIT, LIMIT)), strict=True)))


def build_sums(rows: Rows, text: IntArray) -> Sums:
    """Normal equations before the queries are summed out."""
    columns = _shared(rows.query, text)
    n, p, queries = len(rows.y), rows.z.shape[1], int(rows.query.max()) + 1
    member = np.flatnonzero(columns >= 0)
    texts = int(columns.max()) + 1 if len(member) else 0
    by_text = sparse.csr_array((np.ones(len(member)), (member, columns[member])), shape=(n, texts))
    by_query = sparse.csr_array((np.ones(n), (np.arange(n), rows.query)), shape=(n, queries))
    cross = np.asarray(by_text.T @ rows.z)
    gram = np.zeros((p + texts, p + texts))
    gram[:p, :p] = rows.z.T @ rows.z
    gram[p:, :p], gram[:p, p:] = cross, cross.T
    gram[range(p, p + texts), range(p, p + texts)] = np.bincount(columns[member], minlength=texts)
    moment = np.concatenate([rows.z.T @ rows.y, np.asarray(by_text.T @ rows.y)])
    query_sum = sparse.csr_array(sparse.hstack([sparse.csr_array(by_query.T @ rows.z), by_query.T @ by_text]))
    counts = sum_by(rows.query, np.ones(n), queries)
    totals = sum_by(rows.query, rows.y, queries)
    return Sums(p, n, gram, moment, float(rows.y @ rows.y), query_sum, totals, counts)


def posterior(sums: Sums, *, slope: float, query: float = 0.0, text: float = 0.0, complete: bool = True) -> Ridge:
    """Weights for given ratios of variances to the noise variance, which is profiled out.

    Args:
        sums: from :func:`build_sums`.
        slope: ratio of a weight's prior variance.
        query: ratio k of the query effect.
        text: ratio m of the text effect; must be positive where texts have columns.
        complete: whether the weights' covariance is wanted (else it is empty).
    """
    p, size = sums.features, len(sums.moment)
    shrink = query / (1 + query * sums.query_count)
    gram = sums.gram - _cross(sums.query_sum, shrink)
    moment = sums.moment - sums.query_sum.T @ (shrink * sums.query_y)
    square = sums.square - float(np.sum(shrink * sums.query_y**2))
    precision = np.full(size, 1 / max(text, 1e-12))
    precision[: p - 1], precision[p - 1] = 1 / slope, 1 / INTERCEPT_VARIANCE
    factor = linalg.cho_factor(gram + np.diag(precision), lower=True)
    weights = linalg.cho_solve(factor, moment)
    noise = max((square - float(weights @ moment)) / sums.rows, 1e-12)
    log_det = 2 * float(np.sum(np.log(np.diag(factor[0])))) - float(np.sum(np.log(precision)))
    log_det += float(np.sum(np.log1p(query * sums.query_count)))
    evidence = -0.5 * (sums.rows * (np.log(2 * np.pi * noise) + 1) + log_det)
    covariance = np.zeros((0, 0))
    if complete:
        corner = np.zeros((size, p))
        corner[:p] = np.eye(p)
        covariance = noise * linalg.cho_solve(factor, corner)[:p]
    return Ridge(weights[:p], covariance, slope * noise, noise, query * noise, text * noise, evidence)


def _cross(query_sum: sparse.csr_array, weight: FloatArray) -> FloatArray:
    """``query_sum' diag(weight) query_sum``: by dense products in slices where many entries are filled, else sparse."""
    queries, size = query_sum.shape  # pyright: ignore[reportGeneralTypeIssues]
    if query_sum.nnz < DENSE_SHARE * queries * size:
        scaled = query_sum.multiply(np.sqrt(weight)[:, None]).tocsr()
        return (scaled.T @ scaled).toarray()
    total = np.zeros((size, size))
    for start in range(0, queries, SLICE):
        part = query_sum[start : start + SLICE].toarray() * np.sqrt(weight[start : start + SLICE])[:, None]
        total += part.T @ part
    return total


def _shared(query: IntArray, text: IntArray) -> IntArray:
    """Column of each row's text among the texts of at least two queries, -1 elsewhere."""
    pairs = np.unique(np.column_stack([text, query]), axis=0)
    queries = np.bincount(pairs[:, 0], minlength=int(text.max()) + 1)
    kept = np.argsort(-queries, kind="stable")[:MOST_TEXTS]
    kept = np.sort(kept[queries[kept] >= 2])
    column = np.full(len(queries), -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    return column[text]


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


USER_INTERCEPT_VARIANCE = 10.0
SLOPE_LIMITS = (-14.0, 3.0)
QUERY_LIMITS = (-8.0, 4.0)


def choose_ratios(blocks: Blocks, slope: float | None) -> tuple[float, float]:
    """Ratios g and k that maximise the summed evidence of the users; k is 0 where nobody has two queries."""

    def best_slope(query: float) -> tuple[float, float]:
        if slope is not None:
            return slope, -evidence(blocks, slope, query)
        log, value = line_minimum(lambda log: -evidence(blocks, float(np.exp(log)), query), SLOPE_LIMITS, 0.1)
        return float(np.exp(log)), value

    if not blocks.has_query_effect:
        return best_slope(0.0)[0], 0.0
    query = float(np.exp(line_minimum(lambda log: best_slope(float(np.exp(log)))[1], QUERY_LIMITS, 0.2)[0]))
    return best_slope(query)[0], query


def evidence(blocks: Blocks, slope: float, query: float) -> float:
    """Log marginal likelihood of all users' independent ridges, the common noise variance profiled out."""
    normal = condition(blocks, query)
    penalty = precision(blocks.gram.shape[1], slope)
    matrices = normal.gram + np.diag(penalty)
    weights = np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0]
    rows = float(blocks.count.sum())
    noise = max(float(np.sum(normal.square - np.sum(weights * normal.moment, axis=1))) / rows, 1e-12)
    log_det = np.linalg.slogdet(matrices)[1] - np.sum(np.log(penalty)) + normal.log_det
    return -0.5 * (rows * (np.log(2 * np.pi * noise) + 1) + float(np.sum(log_det)))


def solve_users(blocks: Blocks, slope: float, query: float) -> FloatArray:
    """Each user's weights, shape (users, p)."""
    normal = condition(blocks, query)
    matrices = normal.gram + np.diag(precision(blocks.gram.shape[1], slope))
    return np.asarray(np.linalg.solve(matrices, normal.moment[:, :, None])[:, :, 0], dtype=np.float64)


def left_out_users(rows: Rows, blocks: Blocks, slope: float, query: float) -> FloatArray:
    """Errors of each row under the ridge of its user's other rows, shape (n,): [C^-1 y]_i / [C^-1]_ii.

    C = I + k 11' + Z P^-1 Z' is the rows' covariance over the noise's, so that C^-1 = V^-1 - V^-1 Z H^-1 Z'V^-1.

    Args:
        rows: the n rows that the blocks sum.
        blocks: their sums, all rows weighing 1.
        slope: ratio g.
        query: ratio k.
    """
    normal, offsets = condition(blocks, query), rows.segments()
    inverse = np.linalg.inv(normal.gram + np.diag(precision(rows.z.shape[1], slope)))
    weights = np.einsum("uij,uj->ui", inverse, normal.moment)
    shrink = query / (1 + query * blocks.query_weight)
    error = rows.y - apply_rows(rows.z, weights[rows.user])
    solved = error - query_levels(rows, error, blocks.query_weight, query)
    plain = rows.z - (shrink[:, None] * blocks.query_sum)[rows.query]
    diagonal = 1 - shrink[rows.query]
    for user, (start, end) in enumerate(pairwise(offsets)):
        part = slice(start, end)
        diagonal[part] -= np.sum((plain[part] @ inverse[user]) * plain[part], axis=1)
    return solved / np.maximum(diagonal, 1e-9)


def predict_users(weights: FloatArray, pool: Pool, values: FloatArray, codes: IntArray) -> FloatArray:
    """Means of n rows: the user's own weights where ``codes`` >= 0, the pool's elsewhere; both on the pool's unit."""
    known = codes >= 0
    every = np.tile(pool.ridge.weights, (len(codes), 1))
    every[known] = weights[codes[known]]
    return pool.centre + pool.unit * apply_rows(with_intercept(values), every)


def precision(columns: int, slope: float) -> FloatArray:
    """Prior precisions over the noise's; the last column is the intercept."""
    values = np.full(columns, 1 / slope)
    values[-1] = 1 / USER_INTERCEPT_VARIANCE
    return values
