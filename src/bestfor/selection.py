"""Pick one of several candidates by their rewards: rules by name, and the exact chance of every candidate.

A rule ranks the candidates by what it makes of their rewards (the rewards themselves, a cap, a lower confidence bound)
and takes the k-th highest of N with probability p_N(k), k = 0 the highest; candidates that tie share the chances of
their ranks:

    chance(i) = mean over the ranks k of i's tied group of p_N(k)          p_N = (1, 0, ...) is Best-of-N

A soft rule chooses by a softmax of the rewards instead, chance(i) = exp(R_i / T) / sum_j exp(R_j / T) (Verdun et al.
2025). Averaged over all N-subsets of a pool the same chances are the exact curves of
:mod:`bestfor.diagnostics.curves.rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bestfor.errors import InputError
from bestfor.types import FloatArray, RewardEstimate

NAMES = "best, second, median, rank:K, top:K, trimmed:SHARE, cap:C, first:C, lower:DEVIATIONS or soft:TEMPERATURE"
"""Names of the rules, as :func:`named_rule` reads them."""

Ranks = Callable[[int], FloatArray]
"""N -> shape (N,), the chance that the k-th highest reward of the subset is taken, k = 0 the highest."""


@dataclass(frozen=True)
class Rule:
    """A way to pick one of some candidates by their rewards.

    Attributes:
        name: as it is typed, such as ``"top:3"``.
        ranks: chances of the ranks among the candidates; None takes the highest.
        value: maps rewards, shape (Q, M), and their standard deviations (None where there are none) to what is ranked;
            None ranks the rewards themselves.
        temperature: of a softmax choice, in the reward's units; None for all other rules.
    """

    name: str
    ranks: Ranks | None = field(default=None, repr=False)
    value: Callable[[FloatArray, FloatArray | None], FloatArray] | None = field(default=None, repr=False)
    temperature: float | None = None

    def ranked(self, reward: FloatArray, std: FloatArray | None = None) -> FloatArray:
        """Map rewards to what the rule ranks.

        Args:
            reward: shape (Q, M).
            std: their standard deviations, of the same shape, where there are any.

        Returns:
            Shape (Q, M).
        """
        return reward if self.value is None else self.value(reward, std)

    def rank_chances(self, n: int) -> FloatArray:
        """Compute the chance that the k-th highest of N is taken, k = 0 the highest; shape (N,).

        Raises:
            InputError: the rule's own chances do not sum to 1.
        """
        if self.ranks is None:
            return np.eye(1, n)[0]
        chance = self.ranks(n)
        if chance.shape != (n,) or not (chance >= 0).all() or abs(float(chance.sum()) - 1) > 1e-9:
            raise InputError(f"rule {self.name}", f"{chance.tolist()} at N = {n}", f"{n} chances that sum to 1")
        return chance


@dataclass(frozen=True)
class Pick:
    """The candidate that a rule picks among n.

    Attributes:
        index: of the pick.
        chances: shape (n,), the exact probability that the rule picks each candidate; they sum to 1.
        expected: mean reward of the pick under these chances, in the rewards' units.
    """

    index: int
    chances: FloatArray
    expected: float


def select(
    scores: npt.ArrayLike | RewardEstimate, rule: str | Rule = "best", *, rng: np.random.Generator | None = None
) -> Pick:
    """Pick one candidate by its rewards.

    Args:
        scores: shape (n,), the candidates' rewards, or a reward model's estimate, whose standard deviations ``lower:``
            needs.
        rule: a name as for :func:`named_rule`, or a rule.
        rng: draws the pick by its chances; where None it is the likeliest candidate, the first of several.

    Returns:
        The pick, with the chances of all candidates.

    Raises:
        InputError: no candidates, rewards that are not finite, or a rule that is not known or cannot be used.
    """
    rule = named_rule(rule) if isinstance(rule, str) else rule
    given = scores if isinstance(scores, RewardEstimate) else RewardEstimate(np.asarray(scores, dtype=np.float64))
    mean = np.asarray(given.mean, dtype=np.float64)
    if mean.ndim != 1 or not len(mean):
        raise InputError("scores", f"shape {mean.shape}", "one reward a candidate, at least one")
    chances = _chances(rule, mean, given.std)
    index = int(chances.argmax()) if rng is None else int(rng.choice(len(chances), p=chances))
    return Pick(index, chances, float(chances @ mean))


def _chances(rule: Rule, mean: FloatArray, std: FloatArray | None) -> FloatArray:
    """Compute the probability that the rule picks each candidate, shape (n,); what ties shares its ranks' chances."""
    ranked = rule.ranked(mean[None], None if std is None else np.asarray(std, dtype=np.float64)[None])[0]
    unknown = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(ranked)))
    if len(unknown):
        raise InputError(f"scores, candidate {int(unknown[0])}", "a number that is not finite", "finite numbers")
    if rule.temperature is not None:
        weight = np.exp((ranked - ranked.max()) / rule.temperature)
        return weight / weight.sum()
    _, group, members = np.unique(-ranked, return_inverse=True, return_counts=True)
    share = np.add.reduceat(rule.rank_chances(len(mean)), np.cumsum(members) - members)
    return (share / members)[group]


def named_rule(name: str) -> Rule:
    """Find a rule by its name: ``"best"``, ``"median"``, ``"rank:3"``, ``"top:3"``, ``"trimmed:0.25"`` ...

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


def kth_best(k: int) -> Rule:
    """Take the k-th highest reward, k = 1 the highest; the lowest where N is smaller."""
    _whole(f"rank:{k}", k)
    return Rule(f"rank:{k}", lambda n: np.eye(n)[min(k, n) - 1])


def top(k: int) -> Rule:
    """Take one of the k highest rewards at random."""
    _whole(f"top:{k}", k)
    return Rule(f"top:{k}", lambda n: (np.arange(n) < k) / min(k, n))


def trimmed(share: float) -> Rule:
    """Take one at random after this share of N is cut off at either end, rounded down; the median at the least."""
    if not 0 <= share < 0.5:
        raise InputError(f"rule trimmed:{share:g}", f"{share:g}", "a share from 0 up to, not including, 0.5")

    def ranks(n: int) -> FloatArray:
        cut = min(int(share * n), (n - 1) // 2)
        kept = np.zeros(n)
        kept[cut : n - cut] = 1 / (n - 2 * cut)
        return kept

    return Rule(f"trimmed:{share:g}", ranks)


def median() -> Rule:
    """Take the middle reward; one of the two middle ones at random where N is even."""

    def ranks(n: int) -> FloatArray:
        chance = np.zeros(n)
        chance[[(n - 1) // 2, n // 2]] += 0.5
        return chance if n % 2 == 0 else np.eye(n)[n // 2]

    return Rule("median", ranks)


def capped(cap: float) -> Rule:
    """Take the highest of min(reward, cap), ties at random.

    It earns what "the first drawn that reaches the cap, else the best" does, since the first of several that pass is
    each of them with the same chance; that one may stop drawing early.
    """
    return Rule(f"cap:{cap:g}", None, lambda reward, _: np.minimum(reward, cap))


def first_passing(threshold: float) -> Rule:
    """Take the first drawn whose reward reaches the threshold, else the highest; see :func:`capped`."""
    return Rule(f"first:{threshold:g}", None, lambda reward, _: np.minimum(reward, threshold))


def lower_bound(deviations: float) -> Rule:
    """Take the highest of mean minus so many standard deviations (a lower confidence bound)."""

    def value(reward: FloatArray, std: FloatArray | None) -> FloatArray:
        if std is None or std.shape != reward.shape:
            found = "no standard deviations" if std is None else f"shape {std.shape}"
            raise InputError(f"rule lower:{deviations:g}", found, f"standard deviations of shape {reward.shape}")
        return reward - deviations * std

    return Rule(f"lower:{deviations:g}", None, value)


def soft(temperature: float) -> Rule:
    """Choose by a softmax (Verdun et al. 2025), the temperature in the reward's units."""
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
