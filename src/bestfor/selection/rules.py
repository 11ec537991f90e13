"""Rules that pick one of several candidates by their rewards: by name, with the exact chance of every rank.

A rule ranks the candidates by what it makes of their rewards (the rewards themselves, a cap, a lower confidence bound)
and takes the k-th highest of N with probability p_N(k), k = 0 the highest; candidates that tie share the chances of
their ranks:

    chance(i) = mean over the ranks k of i's tied group of p_N(k)          p_N = (1, 0, ...) is Best-of-N

A soft rule chooses by a softmax of the rewards instead, chance(i) = exp(R_i / T) / sum_j exp(R_j / T) (Verdun et al.
2025); ``thompson`` takes each candidate with the posterior probability that its mean is the highest (Thompson 1933).
Averaged over all N-subsets of a pool the same chances are the exact curves of
:mod:`bestfor.diagnostics.curves.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray

NAMES = (
    "best, second, median, rank:K, top:K, trimmed:SHARE, epsilon:SHARE, cap:C, first:C, lower:DEVIATIONS, "
    "length_capped:WORDS, soft:TEMPERATURE or thompson"
)
"""Names of the rules, as :func:`named_rule` reads them."""

Ranks = Callable[[int], FloatArray]
"""N -> shape (N,), the chance that the k-th highest reward of the subset is taken, k = 0 the highest."""


@dataclass(frozen=True)
class LengthCap:
    """Cap on the length of a text.

    Attributes:
        limit: words or characters at most.
        unit: words are parted by white space.
    """

    limit: int
    unit: Literal["words", "characters"] = "words"

    def lengths(self, texts: Sequence[str]) -> IntArray:
        """Count the words or characters of texts; shape (n,)."""
        return np.array([len(text.split()) if self.unit == "words" else len(text) for text in texts], dtype=np.int64)

    def ranked(self, reward: FloatArray, length: IntArray) -> FloatArray:
        """Order candidates: those within the cap by reward, below them the others, the shorter the higher.

        Args:
            reward: shape (Q, M).
            length: shape (Q, M), see :meth:`lengths`.

        Returns:
            Shape (Q, M), whole numbers from 0 for the lowest; equal ones tie.
        """
        excess = np.maximum(length - self.limit, 0)
        result = np.empty(reward.shape)
        for row, (above, one) in enumerate(zip(excess, reward, strict=True)):
            order = np.lexsort((one, -above))
            steps = (np.diff(above[order]) != 0) | (np.diff(one[order]) != 0)
            result[row, order] = np.concatenate([[0], np.cumsum(steps)])
        return result


@dataclass(frozen=True)
class Rule:
    """A way to pick one of some candidates by their rewards.

    Attributes:
        name: as it is typed, such as ``"top:3"``.
        ranks: chances of the ranks among the candidates; None takes the highest.
        value: maps rewards, shape (Q, M), and their standard deviations (None where there are none) to what is ranked;
            None ranks the rewards themselves.
        temperature: of a softmax choice, in the reward's units; None for all other rules.
        cap: on the texts' length; None for all other rules.
        thompson: whether each candidate has the posterior probability that its mean is the highest.
    """

    name: str
    ranks: Ranks | None = field(default=None, repr=False)
    value: Callable[[FloatArray, FloatArray | None], FloatArray] | None = field(default=None, repr=False)
    temperature: float | None = None
    cap: LengthCap | None = None
    thompson: bool = False

    def ranked(self, reward: FloatArray, std: FloatArray | None = None, length: IntArray | None = None) -> FloatArray:
        """Map rewards to what the rule ranks.

        Args:
            reward: shape (Q, M).
            std: their standard deviations, of the same shape, where there are any.
            length: the texts' lengths, of the same shape, which a rule with a cap needs.

        Returns:
            Shape (Q, M).

        Raises:
            InputError: a rule with a cap, and no lengths.
        """
        if self.cap is not None:
            if length is None or length.shape != reward.shape:
                raise InputError(
                    f"rule {self.name}", "no texts", f"the candidates' texts, whose {self.cap.unit} it counts"
                )
            return self.cap.ranked(reward, length)
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


def named_rule(name: str) -> Rule:
    """Find a rule by its name: ``"best"``, ``"median"``, ``"rank:3"``, ``"top:3"``, ``"trimmed:0.25"`` ...

    Raises:
        InputError: an unknown name, or a number that does not fit.
    """
    kind, colon, number = name.strip().partition(":")
    if not colon and kind in _PLAIN:
        return _PLAIN[kind]()
    sized = re.fullmatch(r"0*([1-9][0-9]{0,8})(words|characters)?", number, re.ASCII)
    if kind == "length_capped" and sized is not None:
        return length_capped(int(sized[1]), "characters" if sized[2] == "characters" else "words")
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


def epsilon(share: float) -> Rule:
    """Take any candidate at random with this chance, the highest otherwise: every candidate is shown now and then."""
    if not 0 <= share <= 1:
        raise InputError(f"rule epsilon:{share:g}", f"{share:g}", "a share from 0 to 1")
    return Rule(f"epsilon:{share:g}", lambda n: share / n + (1 - share) * np.eye(1, n)[0])


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


def length_capped(limit: int, unit: Literal["words", "characters"] = "words") -> Rule:
    """Take the highest reward of the texts within a length; the shortest text where none is."""
    name = f"length_capped:{limit}{'' if unit == 'words' else unit}"
    _whole(name, limit)
    return Rule(name, cap=LengthCap(limit, unit))


def thompson() -> Rule:
    """Take each candidate with the posterior probability that its mean is the highest of all."""
    return Rule("thompson", thompson=True)


def soft(temperature: float) -> Rule:
    """Choose by a softmax (Verdun et al. 2025), the temperature in the reward's units."""
    if not temperature > 0:
        raise InputError(f"rule soft:{temperature:g}", f"{temperature:g}", "a temperature above 0")
    return Rule(f"soft:{temperature:g}", temperature=temperature)


def _whole(name: str, k: int) -> None:
    if k < 1:
        raise InputError(f"rule {name}", str(k), "a whole number of at least 1")


_PLAIN: dict[str, Callable[[], Rule]] = {
    "best": lambda: Rule("best"), "second": lambda: kth_best(2), "median": median, "thompson": thompson,
}  # fmt: skip
_WHOLE: dict[str, Callable[[int], Rule]] = {"rank": kth_best, "top": top}
_REAL: dict[str, Callable[[float], Rule]] = {
    "trimmed": trimmed, "epsilon": epsilon, "cap": capped, "first": first_passing, "lower": lower_bound, "soft": soft,
}  # fmt: skip
