"""Pooled: one linear reward for everybody, the reference that personal models must beat.

    y = z'w + c_q + v_t + e,   w ~ N(0, s2 G),  c_q ~ N(0, s2 k),  v_t ~ N(0, s2 m),  e ~ N(0, s2)

z are the features and an intercept, c_q is the level of a query (or of a rater) and v_t what a shared text has beyond
its features: many people rating one text err together, and without v_t a few hundred texts would count as many thousand
facts about w. Only texts of at least two queries get a v_t. Weights and all variances by marginal likelihood: Bayesian
ridge regression (MacKay 1992) with random effects (Laird & Ware 1982).

Queries are summed out by the identity of Sherman and Morrison (:mod:`bestfor.rewards.linear.ridge`), texts are columns
of their own. With H = B'V^-1 B + prior precision, B = [Z, T], and theta = H^-1 B'V^-1 y

    -2 log p(y) = n log s2 + log|V| + log|H| - log|prior precision|,    s2 = (y'V^-1 y - theta'B'V^-1 y) / n,

and a normal prior on each log ratio keeps it off the boundary (Rasmussen & Williams 2006, chapter 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from scipy import linalg, optimize, sparse

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards.features import Space
from bestfor.rewards.learner import LinearLearner, Units
from bestfor.rewards.posterior import Belief
from bestfor.rewards.rows import FeatureRows, apply_rows, sum_by, with_intercept
from bestfor.rewards.style_prior import PriorFeatureConfig, load_style_prior
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate

INTERCEPT_VARIANCE = 100.0
MOST_TEXTS = 2000
"""Texts at most that get an effect of their own, those of most queries first."""
PRIOR_SD = 2.0
"""Standard deviation of the prior on the logarithm of each ratio of variances."""
LIMIT = 12.0
"""Largest absolute logarithm of a ratio."""
DENSE_SHARE = 0.05
SLICE = 4096


class Config(PriorFeatureConfig):
    """Features and a prior only: everything else is estimated. Components keep their natural scale by default."""

    whiten: bool = False


@dataclass(frozen=True)
class RidgeSolution:
    """Posterior of the weights, and the variances that maximise the marginal likelihood.

    Attributes:
        weights: shape (p,), posterior mean of w; the last is the intercept.
        covariance: shape (p, p), posterior covariance of w.
        slope: prior variance of a weight.
        noise: variance of e.
        query: variance of c_q, 0 where it cannot be told from noise.
        text: variance of v_t, 0 where no text is shared.
        evidence: log marginal likelihood at these values, without the prior on them.
        texts: posterior means of the v_t that there are; not stored.
    """

    weights: FloatArray
    covariance: FloatArray
    slope: float
    noise: float
    query: float
    text: float
    evidence: float
    texts: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class RidgeSums:
    """Sums over rows, enough for any variances: columns are p features (the last is the intercept), then texts."""

    features: int
    rows: int
    gram: FloatArray
    moment: FloatArray
    square: float
    query_sum: sparse.csr_array
    query_y: FloatArray
    query_count: FloatArray

    @property
    def has_query_effect(self) -> bool:
        """True where a query's effect can be told from noise and from the intercept."""
        return bool(self.query_count.max() > 1 and len(self.query_count) > 1)

    def without_queries(self, ratio: float) -> tuple[FloatArray, FloatArray, float, float]:
        """Gram, moment, square and log-determinant once queries of this ratio of variances are summed out."""
        shrink = ratio / (1 + ratio * self.query_count)
        gram = self.gram - weighted_gram(self.query_sum, shrink)
        moment = self.moment - self.query_sum.T @ (shrink * self.query_y)
        square = self.square - float(np.sum(shrink * self.query_y**2))
        return gram, moment, square, float(np.sum(np.log1p(ratio * self.query_count)))


class PoolSums(Protocol):
    """Sums over rows from which the pooled ridge follows, of :class:`RidgeSums` or added up over blocks of users."""

    @property
    def features(self) -> int:
        """Number of features and the intercept."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def moment(self) -> FloatArray:
        """Sums of the utilities over every column, of features and texts."""
        ...

    @property
    def has_query_effect(self) -> bool:
        """True where a query's effect can be told from noise and from the intercept."""
        ...

    def without_queries(self, ratio: float) -> tuple[FloatArray, FloatArray, float, float]:
        """Gram, moment, square and log-determinant once queries of this ratio of variances are summed out."""
        ...


def solve_ridge(rows: FeatureRows, text: IntArray) -> RidgeSolution:
    """Fit weights and variances.

    Args:
        rows: n labelled rows; the last column of ``z`` is the intercept.
        text: shape (n,), code of each row's text.
    """
    return solve_sums(build_sums(rows, text))


def solve_sums(sums: PoolSums) -> RidgeSolution:
    """Fit weights and variances from sums over rows."""
    names = ["slope"]
    if sums.has_query_effect:
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

    with for_size(len(sums.moment)):
        found = optimize.minimize(
            loss, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 0.02, "maxfev": 150}
        )
        return posterior(sums, **dict(zip(names, np.exp(np.clip(found.x, -LIMIT, LIMIT)), strict=True)))


def build_sums(rows: FeatureRows, text: IntArray) -> RidgeSums:
    """Normal equations before the queries are summed out."""
    columns = _text_columns(rows.query, text)
    return sums_of_columns(rows, columns, int(columns.max()) + 1)


def sums_of_columns(rows: FeatureRows, columns: IntArray, texts: int) -> RidgeSums:
    """Sum rows whose texts' columns are known.

    Args:
        rows: n labelled rows.
        columns: shape (n,), the column of each row's text, -1 where it has none.
        texts: how many columns there are.
    """
    n, p, queries = len(rows.y), rows.z.shape[1], int(rows.query.max()) + 1
    member = np.flatnonzero(columns >= 0)
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
    return RidgeSums(p, n, gram, moment, float(rows.y @ rows.y), query_sum, totals, counts)


def posterior(
    sums: PoolSums, *, slope: float, query: float = 0.0, text: float = 0.0, complete: bool = True
) -> RidgeSolution:
    """Weights for given ratios of variances to the noise variance, which is profiled out.

    Args:
        sums: from :func:`build_sums`, or of blocks.
        slope: ratio of a weight's prior variance.
        query: ratio k of the query effect.
        text: ratio m of the text effect; must be positive where texts have columns.
        complete: whether the weights' covariance is wanted (else it is empty).
    """
    p, size = sums.features, len(sums.moment)
    gram, moment, square, widened = sums.without_queries(query)
    precision = np.full(size, 1 / max(text, 1e-12))
    precision[: p - 1], precision[p - 1] = 1 / slope, 1 / INTERCEPT_VARIANCE
    factor = linalg.cho_factor(gram + np.diag(precision), lower=True)
    weights = linalg.cho_solve(factor, moment)
    noise = max((square - float(weights @ moment)) / sums.rows, 1e-12)
    log_det = 2 * float(np.sum(np.log(np.diag(factor[0])))) - float(np.sum(np.log(precision)))
    log_det += widened
    evidence = -0.5 * (sums.rows * (np.log(2 * np.pi * noise) + 1) + log_det)
    covariance = np.zeros((0, 0))
    if complete:
        corner = np.zeros((size, p))
        corner[:p] = np.eye(p)
        covariance = noise * linalg.cho_solve(factor, corner)[:p]
    ratios = (slope * noise, noise, query * noise, text * noise)
    return RidgeSolution(weights[:p], covariance, *ratios, evidence, weights[p:])


def text_means(ridge: RidgeSolution, query: IntArray, text: IntArray) -> FloatArray:
    """Posterior mean of v_t of each fitted row, shape (n,), 0 for texts without one; codes as in the fit."""
    column = _text_columns(query, text)
    return np.where(column >= 0, np.append(ridge.texts, 0.0)[column], 0.0)


def weighted_gram(query_sum: sparse.csr_array, weight: FloatArray) -> FloatArray:
    """Sum ``query_sum' diag(weight) query_sum``: by dense products in slices where much is filled, else sparse."""
    queries, size = query_sum.shape
    if query_sum.nnz < DENSE_SHARE * queries * size:
        scaled = query_sum.multiply(np.sqrt(weight)[:, None]).tocsr()
        return (scaled.T @ scaled).toarray()
    total = np.zeros((size, size))
    for start in range(0, queries, SLICE):
        part = query_sum[start : start + SLICE].toarray() * np.sqrt(weight[start : start + SLICE])[:, None]
        total += part.T @ part
    return total


def _text_columns(query: IntArray, text: IntArray) -> IntArray:
    """Column of each row's text among the texts of at least two queries, -1 elsewhere."""
    pairs = np.unique(np.column_stack([text, query]), axis=0)
    queries = np.bincount(pairs[:, 0], minlength=int(text.max()) + 1)
    kept = np.argsort(-queries, kind="stable")[:MOST_TEXTS]
    kept = np.sort(kept[queries[kept] >= 2])
    column = np.full(len(queries), -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    return column[text]


@dataclass(frozen=True)
class PlacedPrior:
    """A prior mean of the weights, and what the labels say of it.

    Attributes:
        mean: shape (p,), on the standardised scale; 0 where the prior is off.
        ridge: fitted to the labels less ``z'mean``.
        notes: plain sentences.
    """

    mean: FloatArray
    ridge: RidgeSolution
    notes: tuple[str, ...]


def place_prior(rows: FeatureRows, candidates: Candidates, space: Space, name: str) -> PlacedPrior:
    """Give weights the mean that other conversations' people suggest, unless the labels speak against it.

    The mean is in units of the scores of texts, whose variance is that of the fit without it.

    Args:
        rows: n standardised rows; columns of the space first, the last of ``z`` is the intercept.
        candidates: the same n rows.
        space: their features.
        name: of the prior, as :func:`bestfor.rewards.style_prior.load_style_prior` takes it.
    """
    prior = load_style_prior(name)
    texts, first = np.unique(candidates.text, return_index=True)
    weights, left_out = prior.weights(space, (candidates.texts[code] for code in texts.tolist()))
    plain = solve_ridge(rows, candidates.text)
    scores = plain.text + plain.slope * float(np.sum(np.var(rows.z[first], axis=0)))
    mean = np.zeros(rows.z.shape[1])
    mean[: len(weights)] = np.sqrt(scores) * weights
    moved = solve_ridge(replace(rows, y=rows.y - apply_rows(rows.z, mean)), candidates.text)
    gain = moved.evidence - plain.evidence
    told = f" without {', '.join(left_out)}, whose texts are fitted" if left_out else ""
    told = f"prior '{prior.name}'{told}: {gain:+.1f} nats by these labels, {prior.evidence:+.1f} by those it is of"
    if gain + prior.evidence <= 0:
        return PlacedPrior(np.zeros(len(mean)), plain, (f"{told}: off",))
    return PlacedPrior(mean, moved, (f"{told}: on",))


class PooledRidge:
    """Predict on the utility's own scale.

    Args:
        ridge: fitted on (y - centre) / unit.
        centre: mean utility of the fit rows.
        unit: their standard deviation.
    """

    def __init__(self, ridge: RidgeSolution, centre: float, unit: float) -> None:
        self.ridge, self.centre, self.unit = ridge, centre, unit

    def predict(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean, predictive variance and variance of the mean, each (n,), of feature rows (n, p - 1)."""
        noise = self.ridge.noise + self.ridge.query + self.ridge.text
        mean = self.centre + self.unit * apply_rows(with_intercept(values), self.ridge.weights)
        own = self.mean_variance(values)
        return mean, own + self.unit**2 * noise, own

    def mean_variance(self, values: FloatArray) -> FloatArray:
        """Posterior variance of the mean alone, shape (n,)."""
        z = with_intercept(values)
        with for_size(z.shape[1]):
            spread = z @ self.ridge.covariance
        return self.unit**2 * np.maximum(apply_rows(spread, z), 0.0)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """JSON values and arrays to store."""
        ridge = self.ridge
        names = ("slope", "noise", "query", "text", "evidence")
        values = {name: float(getattr(ridge, name)) for name in names}
        values |= {"centre": self.centre, "unit": self.unit}
        return values, {"pool.weights": ridge.weights, "pool.covariance": ridge.covariance}


def fit_pool(values: FloatArray, candidates: Candidates) -> PooledRidge:
    """Fit the pooled ridge.

    Args:
        values: shape (n, p - 1), features of the rows.
        candidates: the n labelled rows.
    """
    rows, centre, unit = pool_rows(values, candidates)
    return PooledRidge(solve_ridge(rows, candidates.text), centre, unit)


def pool_rows(values: FloatArray, candidates: Candidates) -> tuple[FeatureRows, float, float]:
    """Standardise labels: the rows, and the labels' mean and standard deviation."""
    centre, unit = float(np.mean(candidates.utility)), float(np.std(candidates.utility)) or 1.0
    target = (candidates.utility - centre) / unit
    return FeatureRows(with_intercept(values), target, candidates.user, candidates.query), centre, unit


def restore_pool(state: dict[str, Any], arrays: Arrays) -> PooledRidge:
    """Restore the ridge that :meth:`PooledRidge.state` stored."""
    weights, covariance = arrays["pool.weights"], arrays["pool.covariance"]
    if weights.ndim != 1 or covariance.shape != (len(weights), len(weights)):
        raise InputError("saved model", f"weights {weights.shape}, covariance {covariance.shape}", "p and (p, p)")
    names = ("slope", "noise", "query", "text", "evidence")
    slope, noise, query, text, evidence = (float(state[name]) for name in names)
    ridge = RidgeSolution(weights, covariance, slope, noise, query, text, evidence)
    return PooledRidge(ridge, float(state["centre"]), float(state["unit"]))


class Pooled(LinearLearner):
    """One ridge for all users; a person's further labels move its posterior for that person."""

    kind = "pooled"
    has_std = True
    personal = False
    hears = True
    Config = Config

    def _fit(self, candidates: Candidates, rng: int) -> None:
        values = self._design(candidates).rows()
        if not self.config.prior:
            self.take_fit(fit_pool(values, candidates))
            return
        assert self._space is not None
        rows, centre, unit = pool_rows(values, candidates)
        placed = place_prior(rows, candidates, self._space, self.config.prior)
        self._fit_notes += placed.notes
        ridge = replace(placed.ridge, weights=placed.ridge.weights + placed.mean)
        self.take_fit(PooledRidge(ridge, centre, unit))

    def take_fit(self, pool: PooledRidge) -> None:
        """Take over what was fitted."""
        self._pool = pool

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        design = self._design(candidates)
        mean, variance, own = self._pool.predict(design.values)
        return RewardEstimate(mean[design.row], np.sqrt(variance)[design.row], np.sqrt(own)[design.row])

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Variance of z'w + v_t at each row's text, shape (n, 1)."""
        design, pool = self._design(candidates), self._pool
        variance = pool.mean_variance(design.values) + pool.unit**2 * pool.ridge.text
        return variance[design.row][:, None]

    @property
    def hidden_variance(self) -> float:
        """Variance of what people make alike of a text beyond its features."""
        return float(self._pool.unit**2 * self._pool.ridge.text)

    def belief(self, code: int) -> Belief:
        """Posterior of a user's weights."""
        return Belief(self._pool.ridge.weights, self._pool.ridge.covariance)

    def units(self) -> Units:
        """Give the scales."""
        return Units(self._pool.centre, self._pool.unit, self._pool.ridge.query)

    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of a label's noise, shape (n,)."""
        # what a shared text has beyond its features is noise to a person
        return np.full(len(columns), self._pool.ridge.noise + self._pool.ridge.text)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return self._pool.state()

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._pool = restore_pool(state, arrays)
