"""Rules by name: the k-th best, medians, one of the top, caps, lower bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bestfor.diagnostics.curves.rules import Rule
from bestfor.errors import InputError
from bestfor.types import FloatArray


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
