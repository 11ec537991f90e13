"""How a diagnosis is made: everything about it that is not data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.rules import Rule
from bestfor.diagnostics.intervals.clustered import Resampling
from bestfor.diagnostics.named_rules import named_rule
from bestfor.errors import InputError
from bestfor.types import Averaging

Interval = Literal["t", "bootstrap"]
"""``"t"``: Student's t on user means, two-way where users share texts. ``"bootstrap"``: users drawn again."""


@dataclass(frozen=True)
class Settings:
    """How a diagnosis is made and what it is called.

    Attributes:
        n: values of N; None takes powers of two up to the common pool size, and that size (the largest that nine
            queries of ten reach). Queries with fewer candidates than the largest N are left out and counted.
        averaging: whether every user or every query weighs the same.
        level: nominal coverage of intervals.
        interval: how intervals are made; ``"bootstrap"`` does not count texts as random.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        rules: other rules whose curves stand beside that of the highest reward, by name (see
            :func:`~bestfor.diagnostics.named_rules.named_rule`) or as rules.
        signature: what the caller knows of the data and the models; version, averaging and level are added.
        name: of the run.

    Raises:
        InputError: a value that cannot be.
    """

    n: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
    averaging: Averaging = "user"
    level: float = 0.95
    interval: Interval = "t"
    resamples: int = 2000
    seed: int = 0
    rules: tuple[str | Rule, ...] = ()
    signature: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InputError("level", str(self.level), "a number between 0 and 1")
        if self.averaging not in ("user", "query"):
            raise InputError("averaging", repr(self.averaging), "'user' or 'query'")
        if self.interval not in ("t", "bootstrap"):
            raise InputError("interval", repr(self.interval), "'t' or 'bootstrap'")
        if self.resamples < 100:
            raise InputError("resamples", str(self.resamples), "at least 100")
        names = [rule.name for rule in self.all_rules()]
        if len(set(names)) < len(names):
            raise InputError("rules", ", ".join(names), "each of them once")

    def all_rules(self) -> tuple[Rule, ...]:
        """The other rules, each with an exact curve on a table of rewards alone."""
        rules = tuple(named_rule(one) if isinstance(one, str) else one for one in self.rules)
        for rule in rules:
            if rule.temperature is not None:
                raise InputError(f"rule {rule.name}", "a softmax choice", "rules that rank; 'soft' is always told")
            if rule.name.startswith("lower:"):
                raise InputError(f"rule {rule.name}", "no standard deviations", "mean - deviations * std as rewards")
        return rules

    def resampling(self) -> Resampling | None:
        """How users are drawn again; None for t intervals."""
        return Resampling(self.resamples, self.seed) if self.interval == "bootstrap" else None

    def told(self) -> dict[str, Any]:
        """What the signature says about this."""
        known: dict[str, Any] = {**self.signature, "averaging": self.averaging, "level": self.level}
        if self.interval == "bootstrap":
            known |= {"interval": "bootstrap", "resamples": self.resamples, "bootstrap_seed": self.seed}
        return known | ({"rules": [rule.name for rule in self.all_rules()]} if self.rules else {})
