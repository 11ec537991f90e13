"""Exact curves of other rules than the highest reward, as long as a rule looks at rewards only.

Sort a pool's rewards descending, j = 0 the top. In a random N-subset the candidate of rank j is drawn and has k of the
others above it with probability C(j, k) C(m-1-j, N-1-k) / C(m, N): the hypergeometric law of order statistics of a
finite population (David & Nagaraja 2003). So a rule that takes the k-th highest of N with probability p_N(k) earns

    W_N(j) = sum_k p_N(k) C(j, k) C(m-1-j, N-1-k) / C(m, N)        estimate(N) = sum_j W_N(j) V_j

with V_j the mean utility of j's tied group; p_N = (1, 0, ...) is Best-of-N. A rule that first maps each reward on its
own (a cap, a lower confidence bound) is the same on the mapped rewards. Any other function of the subset's rewards is
averaged over all subsets where these are few, and over a seeded sample with its standard error where they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics._special import log_binomial
from bestfor.diagnostics.curves import KEPT, chunks, sort_by_reward, times_table, weights
from bestfor.diagnostics.soft import soft_best_of_n
from bestfor.errors import InputError
from bestfor.rng import derive
from bestfor.types import BoolArray, FloatArray, IntArray

Ranks = Callable[[int], FloatArray]
"""N -> shape (N,), the chance that the k-th highest reward of the subset is taken, k = 0 the highest."""

Chooser = Callable[[FloatArray], npt.NDArray[np.generic]]
"""Rewards of subsets, shape (B, N), each row's highest first -> places of the picks, shape (B,), or chances (B, N)."""

BLOCK = 1 << 16
"""Subsets that a chooser sees at a time."""


@dataclass(frozen=True)
class Rule:
    """A rule with an exact curve.

    Attributes:
        name: as it is typed, such as ``"top:3"``.
        ranks: chances of the subset's ranks; None takes the highest.
        value: maps rewards, shape (Q, M), and their standard deviations (None where there are none) to what is ranked;
            None ranks the rewards themselves.
        temperature: of a softmax choice, in the reward's units; None for all other rules.
    """

    name: str
    ranks: Ranks | None = field(default=None, repr=False)
    value: Callable[[FloatArray, FloatArray | None], FloatArray] | None = field(default=None, repr=False)
    temperature: float | None = None

    def table(self, m: int, n: IntArray) -> FloatArray:
        """W_N(j): the chance that the candidate of rank j in a pool of m is picked; shape (m, K), NaN where N > m."""
        if self.ranks is None:
            return weights(m, n)
        drawn = tuple(n.tolist())
        return _kept_table(self, m, drawn) if m * len(drawn) <= KEPT else _table(self, m, drawn)

    def ranked(self, reward: FloatArray, std: FloatArray | None = None) -> FloatArray:
        """What the rule ranks; shape (Q, M)."""
        return reward if self.value is None else self.value(reward, std)


@dataclass(frozen=True)
class Sampling:
    """When subsets are drawn instead of listed, and how many.

    Attributes:
        most: subsets of one pool and N that are listed, each of them; more are drawn at random.
        draws: random subsets of a pool where there are more.
        seed: of the draws.
    """

    most: int = 20_000
    draws: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class RuleCurve:
    """Expected utility under a rule; Q pools, K values of N.

    Attributes:
        n: shape (K,).
        utility: shape (Q, K), NaN where N exceeds the pool.
        standard_error: shape (Q, K), of the random draws; 0 where all subsets count.
        exact: shape (Q, K), whether all subsets count.
    """

    n: IntArray
    utility: FloatArray
    standard_error: FloatArray
    exact: BoolArray

    def mean(self, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """The mean over pools and its standard error from the draws alone, each of shape (K,).

        Args:
            weight: shape (Q,), summing to 1; all alike where None.
        """
        share = np.full(len(self.utility), 1 / len(self.utility)) if weight is None else weight
        return share @ self.utility, np.sqrt(share**2 @ self.standard_error**2)


def rule_curve(
    reward: npt.ArrayLike,
    utility: npt.ArrayLike,
    rule: str | Rule | Chooser,
    n: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
    std: npt.ArrayLike | None = None,
    sampling: Sampling | None = None,
) -> RuleCurve:
    """Expected utility when a rule picks one of N candidates drawn without replacement; ties broken at random.

    Args:
        reward: shape (Q, M), or (M,) for one pool.
        utility: of the same shape.
        rule: a name as for :func:`named_rule`, a rule, or any function of a subset's rewards (:data:`Chooser`).
        n: shape (K,), candidates drawn, each at least 1.
        size: shape (Q,), candidates in each pool; M where None.
        std: of the same shape as the reward, for ``"lower:..."``.
        sampling: for functions; the others are always exact.

    Returns:
        The curve, one row a pool.

    Raises:
        InputError: shapes that do not fit, an unknown name, or a function that picks no place of its subset.
    """
    scores, values = (np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (reward, utility))
    drawn = np.atleast_1d(np.asarray(n)).astype(np.int64)
    if scores.shape != values.shape:
        raise InputError("reward", f"shape {scores.shape}", f"{values.shape}, that of the utility")
    if not len(drawn) or int(drawn.min()) < 1:
        raise InputError("n", str(drawn.tolist()), "whole numbers of candidates, each at least 1")
    rows, m = scores.shape
    counts = np.full(rows, m, dtype=np.int64) if size is None else np.asarray(size, dtype=np.int64)
    if isinstance(rule, str):
        rule = named_rule(rule)
    if not isinstance(rule, Rule):
        return _any_rule((scores, values, counts), drawn, rule, sampling or Sampling())
    spread = None if std is None else np.atleast_2d(np.asarray(std, dtype=np.float64))
    exact = curve_by_rule(rule.ranked(scores, spread), values, counts, drawn, rule)
    return RuleCurve(drawn, exact, np.where(np.isnan(exact), np.nan, 0.0), np.ones(exact.shape, dtype=np.bool_))


def curve_by_rule(ranked: FloatArray, utility: FloatArray, size: IntArray, n: IntArray, rule: Rule) -> FloatArray:
    """The exact curve of a rule.

    Args:
        ranked: shape (Q, M), from :meth:`Rule.ranked`.
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).
        rule: which.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool.
    """
    if rule.temperature is not None:
        return soft_best_of_n(ranked, utility, size, n, rule.temperature)
    result = np.empty((len(size), len(n)))
    for rows, m in chunks(size):
        values = sort_by_reward(ranked[rows, :m], utility[rows, :m])[0]
        result[rows] = times_table(values, m, n, rule.table)
    return result


def _table(rule: Rule, m: int, n: tuple[int, ...]) -> FloatArray:
    result = np.full((m, len(n)), np.nan)
    rank = np.arange(m, dtype=np.float64)
    for column, drawn in enumerate(n):
        if drawn <= m and rule.ranks is not None:
            chance = _checked(rule.ranks(drawn), drawn, rule.name)
            result[:, column] = 0.0
            for k in np.flatnonzero(chance).tolist():
                lead = log_binomial(rank, float(k)) + log_binomial(m - 1 - rank, drawn - 1.0 - k)
                result[:, column] += chance[k] * np.exp(lead - log_binomial(np.array(float(m)), float(drawn)))
            result[:, column] /= result[:, column].sum()
    result.setflags(write=False)
    return result


_kept_table = lru_cache(maxsize=512)(_table)


def _checked(chance: FloatArray, drawn: int, name: str) -> FloatArray:
    if chance.shape != (drawn,) or not (chance >= 0).all() or abs(float(chance.sum()) - 1) > 1e-9:
        raise InputError(f"rule {name}", f"{chance.tolist()} at N = {drawn}", f"{drawn} chances that sum to 1")
    return chance


def kth_best(k: int) -> Rule:
    """The k-th highest reward, k = 1 the highest; the lowest where N is smaller."""
    _whole(f"rank:{k}", k)
    return Rule(f"rank:{k}", lambda n: np.eye(n)[min(k, n) - 1])


def top(k: int) -> Rule:
    """One of the k highest rewards at random."""
    _whole(f"top:{k}", k)
    return Rule(f"top:{k}", lambda n: (np.arange(n) < k) / min(k, n))


def trimmed(share: float) -> Rule:
    """One at random after this share of N is cut off at either end, rounded down; the median's ranks at the least."""
    if not 0 <= share < 0.5:
        raise InputError(f"rule trimmed:{share:g}", f"{share:g}", "a share from 0 up to, not including, 0.5")

    def ranks(n: int) -> FloatArray:
        cut = min(int(share * n), (n - 1) // 2)
        kept = np.zeros(n)
        kept[cut : n - cut] = 1 / (n - 2 * cut)
        return kept

    return Rule(f"trimmed:{share:g}", ranks)


def median() -> Rule:
    """The middle reward; one of the two middle ones at random where N is even."""

    def ranks(n: int) -> FloatArray:
        chance = np.zeros(n)
        chance[[(n - 1) // 2, n // 2]] += 0.5
        return chance if n % 2 == 0 else np.eye(n)[n // 2]

    return Rule("median", ranks)


def capped(cap: float) -> Rule:
    """The highest of min(reward, cap), ties at random.

    It earns what "the first drawn that reaches the cap, else the best" does, since the first of several that pass is
    each of them with the same chance; that one may stop drawing early.
    """
    return Rule(f"cap:{cap:g}", None, lambda reward, _: np.minimum(reward, cap))


def first_passing(threshold: float) -> Rule:
    """The first drawn whose reward reaches the threshold, else the highest; see :func:`capped`."""
    return Rule(f"first:{threshold:g}", None, lambda reward, _: np.minimum(reward, threshold))


def lower_bound(deviations: float) -> Rule:
    """The highest of mean minus so many standard deviations (a lower confidence bound)."""

    def value(reward: FloatArray, std: FloatArray | None) -> FloatArray:
        if std is None or std.shape != reward.shape:
            found = "no standard deviations" if std is None else f"shape {std.shape}"
            raise InputError(f"rule lower:{deviations:g}", found, f"standard deviations of shape {reward.shape}")
        return reward - deviations * std

    return Rule(f"lower:{deviations:g}", None, value)


def soft(temperature: float) -> Rule:
    """A softmax choice (Verdun et al. 2025), the temperature in the reward's units."""
    if not temperature > 0:
        raise InputError(f"rule soft:{temperature:g}", f"{temperature:g}", "a temperature above 0")
    return Rule(f"soft:{temperature:g}", temperature=temperature)


def _whole(name: str, k: int) -> None:
    if k < 1:
        raise InputError(f"rule {name}", str(k), "a whole number of at least 1")


_PLAIN: dict[str, Callable[[], Rule]] = {"best": lambda: Rule("best"), "second": lambda: kth_best(2), "median": median}
_WHOLE: dict[str, Callable[[int], Rule]] = {"rank": kth_best, "top": top}
_REAL: dict[str, Callable[[float], Rule]] = {
    "trimmed": trimmed, "cap": capped, "first": first_passing, "lower": lower_bound, "soft": soft,
}  # fmt: skip
NAMES = "best, second, median, rank:K, top:K, trimmed:SHARE, cap:C, first:C, lower:DEVIATIONS or soft:TEMPERATURE"


def named_rule(name: str) -> Rule:
    """A rule by its name: ``"second"``, ``"median"``, ``"rank:3"``, ``"top:3"``, ``"trimmed:0.25"``, ``"cap:0.8"`` ...

    Raises:
        InputError: an unknown name, or a number that does not fit.
    """
    kind, colon, number = name.strip().partition(":")
    if not colon and kind in _PLAIN:
        return _PLAIN[kind]()
    try:
        if kind in _WHOLE:
            return _WHOLE[kind](int(number))
        value = float(number)
        if kind in _REAL and np.isfinite(value):
            return _REAL[kind](value)
    except ValueError:
        pass
    raise InputError("rule", f"'{name}'", NAMES)


def _any_rule(
    pools: tuple[FloatArray, FloatArray, IntArray], n: IntArray, choose: Chooser, sampling: Sampling
) -> RuleCurve:
    reward, utility, size = pools
    shape = (len(size), len(n))
    curve, error, exact = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape, dtype=np.bool_)
    for row, m in enumerate(size.tolist()):
        values, order, _ = sort_by_reward(reward[row : row + 1, :m], utility[row : row + 1, :m])
        scores = reward[row, order[0]]
        for column, drawn in enumerate(n.tolist()):
            if drawn > m:
                continue
            listed = comb(m, drawn) <= sampling.most
            subsets = _all_subsets(m, drawn) if listed else _some_subsets(m, drawn, sampling, row)
            picks = _picked(scores, values[0], subsets, choose)
            exact[row, column] = listed
            curve[row, column] = picks.mean()
            error[row, column] = 0.0 if listed else picks.std(ddof=1) / len(picks) ** 0.5
    return RuleCurve(n, curve, error, exact)


@lru_cache(maxsize=32)
def _all_subsets(m: int, drawn: int) -> IntArray:
    places = np.fromiter((one for subset in combinations(range(m), drawn) for one in subset), dtype=np.int64)
    return places.reshape(-1, drawn)


def _some_subsets(m: int, drawn: int, sampling: Sampling, row: int) -> IntArray:
    rng = derive(sampling.seed, "rule", str(row), str(drawn))
    keys = rng.random((max(sampling.draws, 2), m))
    return np.sort(np.argpartition(keys, drawn - 1, axis=1)[:, :drawn], axis=1).astype(np.int64)


def _picked(scores: FloatArray, values: FloatArray, subsets: IntArray, choose: Chooser) -> FloatArray:
    """Expected utility of the pick from every subset; shape (B,)."""
    drawn = int(subsets.shape[1])
    result = np.empty(len(subsets))
    for low in range(0, len(subsets), BLOCK):
        here = subsets[low : low + BLOCK]
        told = np.asarray(choose(scores[here]))
        if told.shape == here.shape and np.issubdtype(told.dtype, np.floating):
            chances = told.astype(np.float64)
            if not ((chances >= 0).all() and np.allclose(chances.sum(axis=1), 1.0, atol=1e-9)):
                raise InputError("rule", "chances that do not sum to 1", f"{drawn} chances a subset")
            result[low : low + BLOCK] = (chances * values[here]).sum(axis=1)
            continue
        place = told.astype(np.int64) if np.issubdtype(told.dtype, np.integer) else np.full(0, -1)
        if place.shape != (len(here),) or not ((place >= 0) & (place < drawn)).all():
            found = f"{told.dtype} of shape {told.shape}"
            raise InputError("rule", found, f"a place from 0 to {drawn - 1} for each of {len(here)} subsets")
        result[low : low + BLOCK] = values[here[np.arange(len(here)), place]]
    return result
