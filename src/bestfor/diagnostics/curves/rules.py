"""Exact curves of other rules than the highest reward, as long as a rule looks at rewards only.

Sort a pool's rewards descending, j = 0 the top. In a random N-subset the candidate of rank j is drawn and has k of the
others above it with probability C(j, k) C(m-1-j, N-1-k) / C(m, N): the hypergeometric law of order statistics of a
finite population (David & Nagaraja 2003). So a rule that takes the k-th highest of N with probability p_N(k) earns

    W_N(j) = sum_k p_N(k) C(j, k) C(m-1-j, N-1-k) / C(m, N)        estimate(N) = sum_j W_N(j) V_j

with V_j the mean utility of j's tied group; p_N = (1, 0, ...) is Best-of-N. A rule that first maps each reward on its
own (a cap, a lower confidence bound) is the same on the mapped rewards. Any other function of the subset's rewards is
averaged over all subsets where these are few, and over a seeded sample with its standard error where they are not.

Soft Best-of-N: draw N, answer with a candidate chosen by a softmax of the rewards (Verdun et al. 2025), exactly.

With a_i = exp(R_i / T), the mean over all N-subsets S of sum_{i in S} U_i a_i / sum_{j in S} a_j is wanted. Since
1 / A = integral over s > 0 of exp(-s A), and exp(-s A) is a product over the subset, this is the integral of the mean
over subsets of sum_i U_i a_i prod_j x_j with x_j = exp(-s a_j): an elementary symmetric polynomial with one marked
factor, found for all N at once by a recursion over the candidates. The integral is taken on log s.

Rules by name: the k-th best, medians, one of the top, caps, lower bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bestfor.diagnostics._special import log_binomial
from bestfor.diagnostics.curves.best_of_n import KEPT, chunks, sort_by_reward, times_table, weights
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray

STEP = 0.25
_SPAN = 1000.0
_LOWEST, _QUICK_LOWEST, _HIGHEST = -42.0, -14.0, 5.0
_ROWS = 64


def soft_best_of_n(
    reward: FloatArray,
    utility: FloatArray,
    size: IntArray,
    n: IntArray,
    temperature: float,
    *,
    quick: bool = False,
) -> FloatArray:
    """Expected utility of a softmax choice among N candidates drawn without replacement.

    Args:
        reward: shape (Q, M).
        utility: shape (Q, M).
        size: shape (Q,), candidates in each pool.
        n: shape (K,).
        temperature: T, in units of the reward; towards 0 this becomes Best-of-N, towards infinity the pool mean.
        quick: a fifth of the work; the error is then below 1e-5 of the utilities' spread.

    Returns:
        Shape (Q, K), NaN where N exceeds the pool. The relative error is below 1e-9 while the rewards of a pool span
        at most 200 temperatures.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature is {temperature}; it must be above 0")
    result = np.full((len(size), len(n)), np.nan)
    for rows, m in chunks(size, _ROWS):
        known = np.flatnonzero(n <= m)
        if len(known):
            nodes = (_QUICK_LOWEST, 2 * STEP) if quick else (_LOWEST, STEP)
            curve = _block(reward[rows, :m] / temperature, utility[rows, :m], int(n[known].max()), nodes)
            result[rows] = _columns(curve, n, known)
    return result


def _columns(curve: FloatArray, n: IntArray, known: IntArray) -> FloatArray:
    result = np.full((len(curve), len(n)), np.nan)
    result[:, known] = curve[:, n[known] - 1]
    return result


def _block(reward: FloatArray, utility: FloatArray, largest: int, nodes: tuple[float, float]) -> FloatArray:
    """Shape (B, largest): soft Best-of-N at N = 1 .. largest for pools of one size; nodes: first and step."""
    start, step = nodes
    share = np.maximum(reward - reward.max(axis=1, keepdims=True), -_SPAN)
    centre = utility.mean(axis=1, keepdims=True)
    lowest = min(float(share.min()), 0.0)
    log_s: FloatArray = np.arange(start, _HIGHEST - lowest + step, step)
    scaled = np.exp(log_s[None, None, :] + share[:, :, None])
    marked = _marked_means(np.exp(-scaled), scaled * (utility - centre)[:, :, None], largest)
    return marked.sum(axis=2).T * step + centre


def _marked_means(factor: FloatArray, mark: FloatArray, largest: int) -> FloatArray:
    """Mean over N-subsets of (sum of marks) x (product of factors), for N = 1 .. largest.

    With e_k the mean product over k-subsets of the first j candidates and d_k the marked one,
    e_k <- ((j - k) e_k + k x_j e_{k-1}) / j and d_k <- ((j - k) d_k + k x_j (d_{k-1} + mark_j e_{k-1})) / j.

    Args:
        factor: shape (B, m, L), in [0, 1].
        mark: shape (B, m, L).
        largest: N.

    Returns:
        Shape (largest, B, L).
    """
    rows, m, nodes = factor.shape
    plain = np.zeros((largest + 1, rows, nodes))
    marked = np.zeros_like(plain)
    plain[0] = 1.0
    for j in range(1, m + 1):
        top = min(j, largest)
        keep = ((j - np.arange(1, top + 1)) / j)[:, None, None]
        grow = (np.arange(1, top + 1) / j)[:, None, None] * factor[None, :, j - 1]
        marked[1 : top + 1] = keep * marked[1 : top + 1] + grow * (marked[:top] + mark[:, j - 1] * plain[:top])
        plain[1 : top + 1] = keep * plain[1 : top + 1] + grow * plain[:top]
    return marked[1:]


Ranks = Callable[[int], FloatArray]
"""N -> shape (N,), the chance that the k-th highest reward of the subset is taken, k = 0 the highest."""


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
