"""State what a candidate costs: as a share of what can be won, in spreads, in utility, or in money and seconds.

A price holds for one doubling of N or for one candidate. Relative prices turn into utility by a linear form in the
means behind the curves, so that the interval of a gain less its price knows that the headroom is an estimate too, and
no verdict depends on the unit of the utility. The spread within a query is Gini's: sqrt(pi) (E max of two - mean), the
standard deviation where utilities are normal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean, LinearForm
from bestfor.errors import InputError

Per = Literal["doubling", "candidate"]
HEADROOM, SD, UTILITY = "of the headroom", "of the sd", "utility"
_UNITS = {
    "": HEADROOM, "headroom": HEADROOM, HEADROOM: HEADROOM, "sd": SD, SD: SD, "utility": UTILITY,
}  # fmt: skip
_FORM = re.compile(
    r"(?P<amount>[0-9.eE+-]+) *(?P<percent>%?) *(?P<unit>[^0-9]*?)(?: +(?:per|a) +(?P<per>doubling|candidate))?"
    r"(?: +at +(?P<worth>[0-9.eE+-]+)(?: +(?P<same>[^0-9 ]+))?)?"
)
EXPECTED = "such as '0.02', '0.1 sd', '0.01 utility per candidate' or '0.002 EUR at 5' (a unit of utility is worth 5)"


@dataclass(frozen=True)
class Price:
    """A price of drawing more.

    Attributes:
        amount: at least 0, in the unit.
        unit: ``"of the headroom"`` (of what a perfect pick gains at the largest N), ``"of the sd"`` (of utilities
            within a query), ``"utility"``, or the name of a currency or of seconds, with ``worth``.
        per: what is paid for: one doubling of N, or one candidate beyond the first.
        worth: of one unit of utility in that currency; 1 for the other units.

    Raises:
        InputError: an amount or a worth that cannot be.
    """

    amount: float
    unit: str = HEADROOM
    per: Per = "doubling"
    worth: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise InputError("price", f"{self.amount:g}", "a number that is not negative")
        if not (math.isfinite(self.worth) and self.worth > 0):
            raise InputError("price", f"a unit of utility that is worth {self.worth:g}", "a number above 0")

    def times(self, n: int) -> float:
        """Count how often it is paid for N candidates in place of one: doublings, or candidates beyond the first."""
        return math.log2(n) if self.per == "doubling" else float(n - 1)

    def form(self, largest: int) -> LinearForm[CurveMean]:
        """Express the price in utility as a linear form in the means behind the curves.

        Args:
            largest: N at which the headroom is taken.
        """
        if self.unit == HEADROOM:
            return {CurveMean("oracle", largest): self.amount, POOL: -self.amount} if largest > 1 else {}
        if self.unit == SD:
            sd = math.sqrt(math.pi) * self.amount
            return {CurveMean("oracle", 2): sd, POOL: -sd} if largest > 1 else {}
        return {ONE: self.amount / self.worth}

    def in_utility(self, headroom: float, sd: float) -> float:
        """Convert to utility units.

        Args:
            headroom: what a perfect pick gains at the largest N.
            sd: of utilities within a query.
        """
        if self.unit == HEADROOM:
            return self.amount * headroom
        return self.amount * sd if self.unit == SD else self.amount / self.worth

    @property
    def label(self) -> str:
        """The price in words, ``"2% of the headroom"``."""
        if self.unit in (HEADROOM, SD):
            return f"{100 * self.amount:g}% {self.unit}"
        at = "" if self.worth == 1 else f" (at {self.worth:g} a unit of utility)"
        return f"{self.amount:g} {self.unit}{at}".replace(" utility", " of utility")


PRICE = Price(0.02)
"""Of one doubling where none is stated: five doublings, 32 candidates, then cost a tenth of what could be won."""

DOUBLING_PRICES = (PRICE, Price(0.01), Price(0.05), Price(0.1))
"""Prices of a doubling that are tried where none is stated; the first one is spoken of."""

CANDIDATE_PRICE = Price(0.005, per="candidate")
"""Of one candidate where none is stated: 20 more candidates then cost a tenth of what could be won."""

CANDIDATE_PRICES = (Price(0.002, per="candidate"), CANDIDATE_PRICE, *(Price(x, per="candidate") for x in (0.01, 0.02)))
"""Prices of a candidate for which the best fixed N is found where none is stated."""


def parse_price(text: str, where: str = "--price") -> Price:
    """Read a price: ``AMOUNT [UNIT] [per doubling|per candidate] [at WORTH]``.

    The unit is ``headroom`` (nothing said), ``sd`` or ``utility``; any other word is a currency or a time, for which
    ``at`` says what one unit of utility is worth, and which is paid for each candidate.

    Args:
        text: such as ``"0.02"``, ``"2% of the headroom"``, ``"0.1 sd per candidate"`` or ``"0.4 s at 60"``.
        where: for errors.

    Raises:
        InputError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        amount = float(found["amount"]) / (100 if found["percent"] else 1)
        worth = 1.0 if found["worth"] is None else float(found["worth"])
    except ValueError:
        raise InputError(where, f"'{text}'", EXPECTED) from None
    named = found["unit"].strip()
    unit = _UNITS.get(named.lower(), named)
    money = unit not in (HEADROOM, SD, UTILITY)
    if money != (found["worth"] is not None) or (found["percent"] and unit not in (HEADROOM, SD)):
        raise InputError(where, f"'{text}'", EXPECTED)
    per: Per = "candidate" if found["per"] == "candidate" or (money and found["per"] is None) else "doubling"
    return Price(amount, unit, per, worth)
