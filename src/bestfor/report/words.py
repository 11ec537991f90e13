"""Write numbers as people read them, and one sentence for every term and every number that cannot be had."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeGuard

from markupsafe import Markup, escape

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"

TERMS: dict[str, str] = {
    "captured": "Of all the utility that a perfect picker would gain over a random candidate (the headroom), the share "
    "that this reward model gains, at the same N. Its interval reaches as far up as down, so an end may lie beyond "
    "100%, which nothing can capture: it is shown as 100% (capped).",
    "alpha": "Share of users for whom the reward is nearly constant (collapsed): nothing can be picked by it.",
    "alpha_other_scale": "The same share by the rule for rewards on the other scale; a large difference means that "
    "the declared scale matters.",
    "beta": "Share of queries whose rewards run against their utilities (a negative correlation): more candidates make "
    "the answer worse. Counted naively this includes queries that only look reversed, because the correlation of M "
    "candidates wobbles by about 1/\N{SQUARE ROOT}M.",
    "beta_by_chance": "The share that would look reversed in pools of this size if every query had the mean rho "
    "and none were hacked.",
    "beta_corrected": "The same share once sampling noise is taken out; it takes 20 queries with 20 candidates each.",
    "beta_05": "Share of queries whose true correlation is below \N{MINUS SIGN}0.05, sampling noise taken out.",
    "rho_plus": "Mean within-query correlation of the queries where it is not negative.",
    "rho_plus_corrected": "The same with sampling noise taken out.",
    "rho_minus": "Mean within-query correlation of the queries where it is negative.",
    "rho_minus_corrected": "The same with sampling noise taken out.",
    "rho": "Mean within-query correlation over all active queries: the one number that predicts the gain. "
    "0 picks at random, 1 picks perfectly.",
    "leakage_gain": "Gain that comes from queries the law counts as zero (collapsed users, constant rewards): a pick "
    "needs the order of the rewards only, so it can gain although they hardly differ.",
    "active_queries": "Queries of users who have not collapsed, with varying rewards and varying utilities.",
    "queries_used": "Queries with at least 20 candidates, which the corrected values rest on.",
}

LEDGER: dict[str, str] = {
    "law": "what the normal law predicts",
    "growth": "the rewards are not normal: their maximum grows at another pace",
    "alpha": "collapsed users weigh more, or less, among queries than among users",
    "sigma": "utilities differ more, or less, on active queries than on all",
    "covariance": "queries whose utilities differ much are predicted better, or worse",
    "shape": "utility is not linear in the reward (a plateau or a cliff near the top)",
    "leakage": "gain from queries that the law counts as zero: collapsed users, constant rewards",
    "observed": "what was measured",
}

LAWS: dict[str, str] = {
    "bound": "grows with \N{SQUARE ROOT}(2 ln N): an upper bound for sub-Gaussian utilities",
    "normal": "grows with the expected maximum of N standard normals",
    "reward": "grows as the rewards' own maximum does; exact where utility is linear in the reward",
    "pool": "grows as the pool's own oracle curve does",
    "pairs": "from pairs alone: how often the reward orders two candidates right, through the utilities' own spread",
}

BEYOND: dict[str, str] = {
    "orders": "Order k: how good the candidate at each rank of the reward is, fitted by a polynomial of degree k in "
    "its expected normal score (1: a line, 2: with a bend, 3: with two) and read off at larger N.",
    "gao": f"Gao et al. (2023): gain = d (a {MINUS} b d), where d = \N{SQUARE ROOT}(ln N {MINUS} (N {MINUS} 1)/N) "
    "tells how far the best of N departs from one sample, a is the pull of the reward and b its over-optimisation.",
    "costs": "The N with the highest gain less its price, among 1, the powers of two and the largest N. It pays, or "
    "does not, where the interval of that difference says so; undecided is a gain whose worth is open, not shown one "
    "that cannot be told from chance. Below, the N of all with the highest utility less N times the price of a "
    "candidate, by the estimates alone (\u201cor more\u201d where the pools end before it stops to pay).",
}

CALIBRATION: dict[str, str] = {
    "factor": "root mean square of error over predicted std; 1 is right, above 1 is too sure",
    "temperature": "its square: the factor on the predicted variances that fits these labels best",
    "ence": "expected normalised calibration error: mean distance of the points from the dashed line, relative",
    "ence_by_noise": "about what a perfect prediction would show in bins of this size",
    "gain": "in mean log-likelihood, against the root mean squared error of all as the std everywhere",
    "tempered_gain": "above 0: it knows which of its predictions are unsure",
}

NO_CORRECTED = "not available: pools hold fewer than 20 candidates, or there are too few of them"
NO_INTERVAL = "no interval: too few users carry it"
ONE_USER = "no interval: fewer than two users carry it, and one says nothing about others"
NO_HEADROOM = "not available: the pools have no headroom at this N"
NO_SUCH = "no such query"


def known(value: float | None) -> TypeGuard[float]:
    """Tell a number from None and NaN, which both stand for what cannot be had."""
    return value is not None and not math.isnan(value)


def decimals(values: Iterable[float | None]) -> int:
    """Count the places after the point that show about three significant digits of the largest of some values."""
    largest = max((abs(value) for value in values if known(value)), default=0.0)
    if largest == 0.0:
        return 3
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)


def number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    """Write a number with a true minus sign; an en dash where there is none.

    Args:
        value: the number; None and NaN stand for none.
        places: after the point.
        signed: with a plus sign where it is above 0.
    """
    if not known(value):
        return NONE
    text = f"{abs(value):,.{places}f}"
    if float(text.replace(",", "")) == 0.0:
        return text
    if value < 0:
        return MINUS + text
    return f"+{text}" if signed else text


def percent(value: float | None, places: int | None = None, *, signed: bool = False) -> str:
    """Write a share in percent; an en dash where there is none.

    Args:
        value: the share, 1 is 100%.
        places: after the point; None for whole numbers, and one decimal below ten.
        signed: with a plus sign where it is above 0.
    """
    if not known(value):
        return NONE
    share = 100.0 * value
    if places is None:
        places = 1 if 0.05 <= abs(share) < 9.95 else 0
    return number(share, places, signed=signed) + "%"


def span(low: float | None, high: float | None, show: str = "percent", places: int = 3) -> str:
    """Write an interval as ``31% to 42%``, or an empty string where there is none.

    Args:
        low: its lower end.
        high: its upper end.
        show: ``percent`` for shares, ``number`` for others.
        places: after the point, of numbers.
    """
    if not (known(low) and known(high)):
        return ""
    if show == "percent":
        digits = 1 if max(abs(low), abs(high)) < 0.0995 else 0
        # An end that is not 0 is not shown as 0%: the interval's side of zero is what decides.
        low_digits, high_digits = (1 if 0.0 < abs(end) < 0.005 else digits for end in (low, high))
        return f"{percent(low, low_digits)} to {percent(high, high_digits)}"
    return f"{number(low, places)} to {number(high, places)}"


def points(text: str) -> str:
    """Write a difference of shares as percentage points, whose unit stands beside: without percent signs.

    Args:
        text: a number or an interval as :func:`percent` and :func:`span` write them.
    """
    return text.replace("%", "")


def capped(low: float | None, high: float | None) -> str:
    """Write an interval of a share that cannot exceed 1: an end beyond is shown as 100% and said to be capped."""
    beyond = known(high) and high > 1.0
    return span(low, 1.0 if beyond else high) + (" (capped)" if beyond and known(low) else "")


def count(value: float | None) -> str:
    """Write a whole number with thousands separators."""
    return f"{int(value):,}" if known(value) else NONE


def plural(value: int, noun: str, many: str = "") -> str:
    """Count a noun: ``1 user``, ``2 users``, ``1,096 queries``."""
    return f"{value:,} {noun if value == 1 else many or noun + 's'}"


def clip(text: str, width: int) -> str:
    """Clip a text to this width, its end replaced by an ellipsis."""
    return text if len(text) <= width else text[: max(width - 1, 1)].rstrip() + "…"


_NAMED = re.compile(r"`([^`\n]+)`")


def unquoted(text: str) -> str:
    """Take the backticks from names in a sentence, for where they cannot be set as code."""
    return _NAMED.sub(r"\1", text)


def coded(text: str) -> Markup:
    """Mark up a sentence: names between backticks become code, everything is escaped."""
    parts = enumerate(_NAMED.split(clean(text)))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in parts
    )


_UNSEEN = {*range(32), *range(127, 160), *range(0xD800, 0xE000)} - {ord("\n"), ord("\t")}
_REPLACED = dict.fromkeys(_UNSEEN, "\N{REPLACEMENT CHARACTER}")


def clean(text: str) -> str:
    """Replace lone surrogates and control characters, so that any page and any terminal can hold a text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_REPLACED)
