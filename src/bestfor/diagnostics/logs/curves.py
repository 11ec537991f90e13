"""Estimate Best-of-N under a reward model from logs of shown answers.

One answer a of a pool of m was shown, with a known chance p_a, and its utility U_a alone was seen. Best-of-N under a
reward picks candidate j with chance w_N(j) (:func:`bestfor.diagnostics.curves.best_of_n.weights`, ties sharing), so
every N is the value of one stochastic policy and all are identified by the same log. With x = w_N(a) / p_a,

    IPS(N) = mean[x U_a]    SNIPS(N) = sum(x U_a) / sum(x)    DR(N) = mean[sum_j w_N(j) u_j + x (U_a - u_a)]

(Horvitz & Thompson 1952; Swaminathan & Joachims 2015; Dudik, Langford & Li 2011). A gain over a random pick takes
w_N - 1/m in place of w_N, for SNIPS the difference SNIPS(N) - SNIPS(1). u is a model of the outcome: the rewards, made
monotone predictions of U on other users' answers (isotonic regression, cross-fitted), so DR is unbiased whatever u is.
ESS = (sum x)^2 / sum x^2, from w_N. Means are over pools or over users, intervals are Student's t over users.

Where the logger seldom shows what counts most, a log often holds none of these answers; then the estimate is off and
its standard error is too small. So DR's variance is the larger of two: the empirical one, and the one in which
(x (U_a - u_a))^2 of the shown answer gives way to its expectation over all that could have been shown,
sum_j (w_N(j)^2 / p_j) v_j. v_j = E[(U_j - u_j)^2] is predicted by a quadratic of u_j, for two outcomes its form
(model-assisted variance: Sarndal, Swensson & Wretman 1992, chapter 6). docs/logs.md has the coverage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import optimize, special

from bestfor.diagnostics.curves.best_of_n import chunks, weights
from bestfor.diagnostics.quantities.queries import query_weights
from bestfor.diagnostics.result import Curve
from bestfor.errors import InputError
from bestfor.rng import derive
from bestfor.types import Averaging, BoolArray, Estimate, FloatArray, IntArray

FOLDS = 5
"""Parts of the users of which each is predicted by the others."""

SELDOM = 0.05
"""Expected number of times that the candidates of the smallest chances are shown, all together, up to which they count
as never shown: one of twenty such logs holds any of them."""

Estimator = Literal["ips", "snips", "dr"]


@dataclass(frozen=True)
class LoggedPools:
    """Pools of which one answer each was shown; Q pools of at most M candidates.

    Attributes:
        user: shape (Q,), codes of users.
        users: how many there are.
        size: shape (Q,), candidates.
        chance: shape (Q, M), with which the logger showed each; they sum to 1, and are 0 past the size.
        shown: shape (Q,), the place of the shown one.
        outcome: shape (Q,), its utility.
        answered: shape (Q,), the chance that such an outcome is seen at all; 1 where every shown answer has one.
    """

    user: IntArray
    users: int
    size: IntArray
    chance: FloatArray
    shown: IntArray
    outcome: FloatArray
    answered: FloatArray

    def __len__(self) -> int:
        return len(self.size)

    @property
    def mask(self) -> BoolArray:
        """Shape (Q, M), which entries are candidates."""
        return np.arange(int(self.chance.shape[1])) < self.size[:, None]

    @cached_property
    def seldom(self) -> BoolArray:
        """Shape (Q, M), which candidates the logger never shows in practice; those past the size among them."""
        level = np.sort(self.chance, axis=None)
        shown = np.cumsum(level)[np.searchsorted(level, level * (1 + 1e-9), side="right") - 1]
        return self.chance <= level[shown <= SELDOM].max(initial=0.0)

    @property
    def propensity(self) -> FloatArray:
        """Shape (Q,), the chance that the shown answer was shown and its outcome seen."""
        return self.chance[np.arange(len(self)), self.shown] * self.answered

    def take(self, pools: BoolArray) -> LoggedPools:
        """Select pools; users keep their codes."""
        names = ("user", "size", "chance", "shown", "outcome", "answered")
        return replace(self, **{name: getattr(self, name)[pools] for name in names})


@dataclass(frozen=True)
class LogCurve:
    """Best-of-N under one reward model, as far as a log tells; K values of N.

    Attributes:
        n: shape (K,).
        utility: the expected utility of the pick, by estimator (``"ips"``, ``"snips"``, ``"dr"``).
        gain: the same over a random candidate.
        ess: shape (K,), effective number of the log's answers.
        unsupported: shape (K,), mean chance that the pick is a candidate which the logger never shows in
            practice (:data:`SELDOM`).
    """

    n: IntArray
    utility: dict[Estimator, Curve]
    gain: dict[Estimator, Curve]
    ess: FloatArray
    unsupported: FloatArray


@dataclass(frozen=True)
class LogDifference:
    """Difference of two reward models' gains on the same log, doubly robust, at one N."""

    model: str
    against: str
    n: int
    difference: Estimate


def logged_pools(
    user: IntArray,
    chance: FloatArray,
    size: IntArray,
    shown: IntArray,
    outcome: FloatArray,
    answered: FloatArray | None = None,
) -> LoggedPools:
    """Check a log's pools.

    Args:
        user: shape (Q,), codes of users, each of 0 to the largest standing there.
        chance: shape (Q, M), entries past the size are not looked at.
        size: shape (Q,).
        shown: shape (Q,), places.
        outcome: shape (Q,), finite.
        answered: shape (Q,), chances in (0, 1]; None where every shown answer has an outcome.

    Raises:
        InputError: chances that are none or do not sum to 1, a shown answer of chance 0, or a log of an argmax.
    """
    known = np.arange(int(chance.shape[1])) < size[:, None]
    chance = np.where(known, chance, 0.0)
    answered = np.ones(len(size)) if answered is None else answered
    pools = LoggedPools(user, int(user.max(initial=-1)) + 1, size, chance, shown, outcome, answered)
    if not len(pools):
        raise InputError("the log", "no pool with a shown answer and its outcome", "at least one")
    bad = np.flatnonzero(~((chance >= 0) & (chance <= 1 + 1e-9)).all(axis=1) | (np.abs(chance.sum(axis=1) - 1) > 1e-4))
    if len(bad):
        found = f"chances that sum to {chance[bad[0]].sum():.6g} in {len(bad)} of {len(size)} pools"
        raise InputError("the log", found, "the chance of every candidate of a pool, which sum to 1")
    if not np.isfinite(outcome).all():
        raise InputError("the log", "an outcome that is not finite", "a finite number for each shown answer")
    if not (pools.propensity > 0).all():
        raise InputError("the log", "a shown answer of chance 0", "the chance with which it was shown")
    _refuse_argmax(pools)
    return pools


def _refuse_argmax(pools: LoggedPools) -> None:
    several = pools.size > 1
    certain = several & (pools.chance.max(axis=1) > 1 - 1e-9)
    if several.any() and certain.sum() > 0.5 * several.sum():
        found = f"one candidate of chance 1 in {certain.sum()} of {several.sum()} pools: the logger took the best"
        expected = "a log with chances between 0 and 1, such as Service(..., explore=0.1) keeps"
        raise InputError("the log", found, f"{expected}: nothing else that could have been shown was ever tried")


def pick_chances(reward: FloatArray, size: IntArray, n: IntArray) -> FloatArray:
    """Compute the chance of every candidate under Best-of-N, ties sharing.

    Args:
        reward: shape (Q, M).
        size: shape (Q,).
        n: shape (K,); where N exceeds a pool, the whole pool is drawn.

    Returns:
        Shape (K, Q, M), 0 past the size.
    """
    result = np.zeros((len(n), *reward.shape))
    for rows, m in chunks(size):
        values = reward[rows, :m]
        table = weights(m, np.minimum(n, m))
        order = np.argsort(-values, axis=1, kind="stable")
        ranked = np.take_along_axis(values, order, axis=1)
        new = np.ones(ranked.shape, dtype=np.bool_)
        new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        group = np.cumsum(new, axis=1) - 1 + m * np.arange(len(values))[:, None]
        members = np.bincount(group.ravel(), minlength=m * len(values))
        for k in range(len(n)):
            total = np.bincount(group.ravel(), np.tile(table[:, k], len(values)), minlength=m * len(values))
            shared = (total / np.maximum(members, 1))[group]
            block = np.zeros(values.shape)
            np.put_along_axis(block, order, shared, axis=1)
            result[k, rows, :m] = block
    return result


def outcome_model(pools: LoggedPools, reward: FloatArray, *, seed: int = 0) -> FloatArray:
    """Predict every candidate's utility from its reward, by isotonic regression on other users' shown answers.

    Args:
        pools: the log.
        reward: shape (Q, M).
        seed: draws the parts of the users.

    Returns:
        Shape (Q, M); the mean outcome of the others where a part has none to learn from.
    """
    fold = derive(seed, "outcome model").permutation(pools.users) % FOLDS
    part = fold[pools.user] if pools.users > 1 else np.arange(len(pools)) % FOLDS
    at = np.arange(len(pools))
    seen = reward[at, pools.shown]
    # shown answers, weighed as if each candidate had been as likely
    weight = 1 / (pools.propensity * pools.size)
    predicted = np.zeros(reward.shape)
    for one in range(FOLDS):
        own, others = part == one, part != one
        if not own.any():
            continue
        if not others.any():
            others = own
        order = np.argsort(seen[others], kind="stable")
        level = optimize.isotonic_regression(pools.outcome[others][order], weights=weight[others][order]).x
        predicted[own] = np.interp(reward[own], seen[others][order], level)
    return np.where(pools.mask, predicted, 0.0)


def log_curve(
    pools: LoggedPools,
    reward: FloatArray,
    n: IntArray,
    *,
    averaging: Averaging = "query",
    level: float = 0.95,
    outcomes: FloatArray | None = None,
) -> LogCurve:
    """Estimate the curve of a reward model.

    Args:
        pools: the log.
        reward: shape (Q, M), finite within the sizes.
        n: shape (K,), increasing; every N of 1 or more.
        averaging: whether pools or users weigh the same.
        level: nominal coverage of the intervals.
        outcomes: shape (Q, M), predicted utilities; by default :func:`outcome_model`.
    """
    predicted = outcome_model(pools, reward) if outcomes is None else outcomes
    w = query_weights(pools.user, pools.users, averaging)
    parts = list(_moves(pools, reward, predicted, n, w))
    utility: dict[Estimator, Curve] = {}
    gain: dict[Estimator, Curve] = {}
    for name in ("ips", "snips", "dr"):
        utility[name] = _curve(n, [one.utility[name] for one in parts], pools, level)
        gain[name] = _curve(n, [one.gain[name] for one in parts], pools, level)
    return LogCurve(
        n, utility, gain, np.array([one.ess for one in parts]), np.array([one.unsupported for one in parts])
    )


def log_difference(
    pools: LoggedPools, pair: tuple[str, str], rewards: tuple[FloatArray, FloatArray], n: int, *, level: float = 0.95
) -> LogDifference:
    """Estimate the difference of two reward models' utilities at one N, doubly robust, pool by pool.

    Args:
        pools: the log.
        pair: the models' names.
        rewards: two arrays of shape (Q, M).
        n: candidates drawn.
        level: nominal coverage.
    """
    w = np.full(len(pools), 1 / len(pools))
    at = np.array([n], dtype=np.int64)
    predicted = [outcome_model(pools, reward) for reward in rewards]
    one, two = (
        next(_moves(pools, reward, u, at, w)).utility["dr"] for reward, u in zip(rewards, predicted, strict=True)
    )
    picks = [pick_chances(reward, pools.size, at)[0] for reward in rewards]
    moved = one.influence - two.influence
    excess = _excess_of_difference(pools, picks, predicted, w)
    return LogDifference(*pair, n, _estimate(_Move(one.value - two.value, moved, excess), pools, level))


@dataclass(frozen=True)
class _Move:
    """Estimate with the pools' influences on it, shape (Q,), and what its model-assisted variance adds to theirs."""

    value: float
    influence: FloatArray
    excess: float = 0.0


@dataclass(frozen=True)
class _AtN:
    """Estimates at one N."""

    utility: dict[Estimator, _Move]
    gain: dict[Estimator, _Move]
    ess: float
    unsupported: float


def _moves(pools: LoggedPools, reward: FloatArray, predicted: FloatArray, n: IntArray, w: FloatArray) -> Iterator[_AtN]:
    """Estimate at each N; w are the weights of the pools' means, shape (Q,)."""
    at = np.arange(len(pools))
    uniform = np.where(pools.mask, 1.0 / pools.size[:, None], 0.0)
    p, u_shown = pools.propensity, predicted[at, pools.shown]
    first = _ratio(w, uniform[at, pools.shown] / p, pools.outcome)
    spread = _residual_squares(pools, predicted)
    for chances in pick_chances(reward, pools.size, n):
        x = chances[at, pools.shown] / p
        extra = x - uniform[at, pools.shown] / p
        own = _ratio(w, x, pools.outcome)
        direct, more = (chances * predicted).sum(axis=1), ((chances - uniform) * predicted).sum(axis=1)
        yield _AtN(
            utility={
                "ips": _mean(w, x * pools.outcome),
                "snips": own,
                "dr": _mean(w, direct + x * (pools.outcome - u_shown), _excess(pools, chances, predicted, spread, w)),
            },
            gain={
                "ips": _mean(w, extra * pools.outcome),
                "snips": _Move(own.value - first.value, own.influence - first.influence),
                "dr": _mean(
                    w,
                    more + extra * (pools.outcome - u_shown),
                    _excess(pools, chances - uniform, predicted, spread, w),
                ),
            },
            ess=float(x.sum()) ** 2 / float((x**2).sum()) if x.any() else 0.0,
            unsupported=float(w @ np.where(pools.seldom, chances, 0.0).sum(axis=1)),
        )


def _residual_squares(pools: LoggedPools, predicted: FloatArray) -> FloatArray:
    """Predict (U - u)^2 of every candidate by a quadratic of u, fitted on the shown answers; shape (Q, M).

    Rows weigh the root of what would make each candidate as likely: the whole of it would rest on the few rarest.
    """
    u = predicted[np.arange(len(pools)), pools.shown]
    root = (1 / (pools.propensity * pools.size)) ** 0.25
    terms = np.stack([np.ones_like(u), u, u**2], axis=1) * root[:, None]
    found = np.linalg.lstsq(terms, (pools.outcome - u) ** 2 * root, rcond=None)[0]
    return np.maximum(found[0] + found[1] * predicted + found[2] * predicted**2, 0.0)


def _excess(pools: LoggedPools, weight: FloatArray, predicted: FloatArray, spread: FloatArray, w: FloatArray) -> float:
    """Compute the model-assisted variance of a doubly robust mean, less the empirical one.

    Args:
        pools: the log.
        weight: shape (Q, M), of the candidates' utilities in the mean.
        predicted: shape (Q, M), utilities.
        spread: shape (Q, M), from :func:`_residual_squares`.
        w: shape (Q,), weights of the pools.
    """
    at = np.arange(len(pools))
    empirical = (weight[at, pools.shown] / pools.propensity * (pools.outcome - predicted[at, pools.shown])) ** 2
    return float(w**2 @ (_over_shown(pools, weight**2 * spread) - empirical))


def _excess_of_difference(
    pools: LoggedPools, picks: list[FloatArray], predicted: list[FloatArray], w: FloatArray
) -> float:
    """Compute the same for the difference of two means with outcome models of their own.

    A candidate's part is c_1 (U - u_1) - c_2 (U - u_2) = (c_1 - c_2) (U - u) - (c_1 + c_2) (u_1 - u_2) / 2, with u the
    mean of u_1 and u_2.
    """
    at = np.arange(len(pools))
    middle, apart = (predicted[0] + predicted[1]) / 2, (predicted[0] - predicted[1]) / 2
    weight, total = picks[0] - picks[1], picks[0] + picks[1]
    expected = weight**2 * _residual_squares(pools, middle) + (total * apart) ** 2
    parts = weight * (pools.outcome[:, None] - middle) - total * apart
    empirical = (parts[at, pools.shown] / pools.propensity) ** 2
    return float(w**2 @ (_over_shown(pools, expected) - empirical))


def _over_shown(pools: LoggedPools, squares: FloatArray) -> FloatArray:
    """Compute the expectation of squares / p^2 over what could have been shown, the seldom aside; shape (Q,)."""
    chance = np.where(pools.seldom, np.inf, pools.chance)
    return (squares / chance).sum(axis=1) / pools.answered


def _mean(w: FloatArray, values: FloatArray, excess: float = 0.0) -> _Move:
    mean = float(w @ values)
    return _Move(mean, w * (values - mean), excess)


def _ratio(w: FloatArray, x: FloatArray, outcome: FloatArray) -> _Move:
    """Compute the self-normalised mean and each pool's influence on it; NaN where nothing shown has any weight."""
    total = float(w @ x)
    if total == 0:
        return _Move(float("nan"), np.full(len(w), np.nan))
    value = float(w @ (x * outcome)) / total
    return _Move(value, w * x * (outcome - value) / total)


def _estimate(move: _Move, pools: LoggedPools, level: float) -> Estimate:
    """Compute Student's t interval over users, by the larger of the two variances."""
    users = len(np.unique(pools.user))
    if users < 2 or not np.isfinite(move.value):
        return Estimate(move.value, None, None, level)
    by_user = np.bincount(pools.user, move.influence, minlength=pools.users)
    variance = users / (users - 1) * float((by_user**2).sum()) + max(move.excess, 0.0)
    half = special.stdtrit(users - 1, (1 + level) / 2) * np.sqrt(variance)
    return Estimate(move.value, float(move.value - half), float(move.value + half), level)


def _curve(n: IntArray, found: list[_Move], pools: LoggedPools, level: float) -> Curve:
    points = [_estimate(move, pools, level) for move in found]

    def column(values: list[float | None]) -> FloatArray:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return Curve(
        n,
        column([one.value for one in points]),
        column([one.low for one in points]),
        column([one.high for one in points]),
    )
