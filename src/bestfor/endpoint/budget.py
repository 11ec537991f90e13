"""Bound the cost of requests before it is spent, and count it as servers report it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bestfor.endpoint.failures import BudgetSpentError
from bestfor.errors import InputError
from bestfor.moved import renamed

_MILLION = 1_000_000
_SHOWN = 3

__getattr__ = renamed(__name__, {"Ledger": "Account"})


@dataclass(frozen=True)
class Budget:
    """Limits of what may be spent, None for no limit.

    A request is sent only where its upper bound still fits beside all that is under way, so a limit is not overrun:
    a token is at least one byte of the prompt, and no candidate is longer than its limit.

    Attributes:
        max_requests: requests sent, each retry counted.
        max_tokens: tokens of prompts and answers together.
        max_cost: in the currency of the prices.
        input_price: price of a million prompt tokens.
        output_price: price of a million tokens of answers.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not value >= 0:
                raise InputError(f"budget, {one.name}", repr(value), "0 or more")
        if (self.input_price is None) != (self.output_price is None):
            raise InputError("budget", "one price", "both input_price and output_price, per million tokens")
        if self.max_cost is not None and not self.priced:
            raise InputError("budget, max_cost", "no prices", "input_price and output_price, per million tokens")

    @property
    def priced(self) -> bool:
        """True where both prices are given, so that costs are known."""
        return self.input_price is not None and self.output_price is not None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price tokens; 0 without prices."""
        prices = (self.input_price or 0.0, self.output_price or 0.0)
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / _MILLION


@dataclass(frozen=True)
class Usage:
    """Requests, tokens and cost that have been spent.

    Attributes:
        requests: requests sent.
        failed: those among them without a usable answer; what a server bills for these it does not say.
        prompt_tokens: tokens of the answered prompts.
        completion_tokens: tokens of the answers.
        estimated: answers that did not say their tokens: counted at their upper bound.
        cost: of all these tokens, None without prices.
        why: why requests failed, and how many did; not among the plain values.
    """

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    cost: float | None = None
    why: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost is None and other.cost is None else (self.cost or 0.0) + (other.cost or 0.0)
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Usage(**counts, cost=cost, why=_grouped(Counter(dict(self.why)) + Counter(dict(other.why))))

    def __sub__(self, earlier: Usage) -> Usage:
        cost = None if self.cost is None else self.cost - (earlier.cost or 0.0)
        counts = {name: getattr(self, name) - getattr(earlier, name) for name in _COUNTS}
        return Usage(**counts, cost=cost, why=_grouped(Counter(dict(self.why)) - Counter(dict(earlier.why))))

    def __str__(self) -> str:
        said = [f"{self.requests} requests", f"{self.prompt_tokens} + {self.completion_tokens} tokens"]
        said += [f"{self.failed} requests failed{self._reasons()}"] if self.failed else []
        said += [f"{self.estimated} answers without a token count, taken at their bound"] if self.estimated else []
        return ", ".join(said + ([] if self.cost is None else [f"cost {self.cost:.4f}"]))

    def _reasons(self) -> str:
        """List the most frequent reasons why requests failed, with their counts."""
        shown = [f"{count} x {reason}" for reason, count in self.why[:_SHOWN]]
        rest = sum(count for _, count in self.why[_SHOWN:])
        return f" ({'; '.join([*shown, *([f'{rest} x others'] if rest else [])])})" if shown else ""

    def to_dict(self) -> dict[str, int | float | None]:
        """Give plain values by name."""
        return {name: getattr(self, name) for name in (*_COUNTS, "cost")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Usage:
        """Reverse :meth:`to_dict`; what is absent is 0, other keys are left alone."""
        return cls(**{name: values[name] for name in (*_COUNTS, "cost") if name in values})


_COUNTS = tuple(one.name for one in fields(Usage) if one.name not in ("cost", "why"))


def _grouped(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(counts.most_common())


@dataclass(frozen=True)
class Bound:
    """Largest number of tokens that one request can use.

    Attributes:
        prompt: tokens of the prompt.
        completion: tokens of all its answers.
    """

    prompt: int
    completion: int


class Account:
    """Account of a budget: reservations and what was spent; lives within one event loop.

    Args:
        budget: what may be spent.
        earlier: what has been spent of it before.
    """

    def __init__(self, budget: Budget, earlier: Usage | None = None) -> None:
        self._budget = budget
        self._earlier = earlier or Usage()
        self._spent = Usage(cost=0.0 if budget.priced else None)
        self._held: list[Bound] = []
        self._limited = any(limit is not None for limit in (budget.max_requests, budget.max_tokens, budget.max_cost))
        self.open()

    def open(self) -> None:
        """Begin anew within another event loop; what was spent stays spent."""
        self._held.clear()
        self._changed = asyncio.Condition()

    @property
    def usage(self) -> Usage:
        """Usage so far, without what was spent before."""
        return self._spent

    async def reserve(self, bound: Bound) -> None:
        """Wait until a request fits beside those under way.

        Raises:
            BudgetSpentError: it does not fit though nothing is under way.
        """
        if self._limited:
            async with self._changed:
                while (over := self._over(bound)) is not None:
                    if not self._held:
                        raise BudgetSpentError(over)
                    await self._changed.wait()
                self._take(bound)
        else:
            self._take(bound)

    async def settle(self, bound: Bound, used: Bound | None, *, answered: bool, why: str = "") -> None:
        """Turn a reservation into what was used.

        Args:
            bound: what was reserved.
            used: what the server says, None where it does not.
            answered: whether there is an answer at all.
            why: why there is none.
        """
        self._held.remove(bound)
        counted = used or (bound if answered else Bound(0, 0))
        self._spent += Usage(
            failed=int(not answered),
            prompt_tokens=counted.prompt,
            completion_tokens=counted.completion,
            estimated=int(answered and used is None),
            cost=self._budget.cost(counted.prompt, counted.completion) if self._budget.priced else None,
            why=((why, 1),) if why and not answered else (),
        )
        if self._limited:
            async with self._changed:
                self._changed.notify_all()

    def _take(self, bound: Bound) -> None:
        self._held.append(bound)
        self._spent += Usage(requests=1)

    def _over(self, bound: Bound) -> str | None:
        """Name the limit that a request would break, None where it fits."""
        budget, spent = self._budget, self._earlier + self._spent
        prompt = spent.prompt_tokens + bound.prompt + sum(held.prompt for held in self._held)
        completion = spent.completion_tokens + bound.completion + sum(held.completion for held in self._held)
        if budget.max_requests is not None and spent.requests + 1 > budget.max_requests:
            return f"{budget.max_requests} requests"
        if budget.max_tokens is not None and prompt + completion > budget.max_tokens:
            return f"{budget.max_tokens} tokens"
        if budget.max_cost is not None and budget.cost(prompt, completion) > budget.max_cost:
            return f"a cost of {budget.max_cost:g}"
        return None
