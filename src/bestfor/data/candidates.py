"""Candidates as coded arrays with their users' histories: the input of every reward model's fit and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class History:
    """Texts that users wrote, with how many of them each query may see.

    Attributes:
        texts: each user's texts, oldest first.
        seen: how many of them came before a query, by query id; all where the query is not named.
        tested: how many of them came before a user's first test query, by user; all where the user is not named.
    """

    texts: Mapping[str, tuple[str, ...]]
    seen: Mapping[str, int] = field(default_factory=dict)
    tested: Mapping[str, int] = field(default_factory=dict)

    def before(self, user: str, query: str) -> tuple[str, ...]:
        """Give the user's texts that came before a query: never the query's own, never a later one."""
        return self.texts.get(user, ())[: self.seen.get(query)]

    def before_tests(self, user: str) -> tuple[str, ...]:
        """Give the user's texts that each of their test queries sees: these may be summarised once, at fit."""
        return self.texts.get(user, ())[: self.tested.get(user)]


@dataclass(frozen=True)
class Examples:
    """Candidates as rows; users, queries and texts are coded, so equal texts are stored once.

    Attributes:
        users: user ids; ``user`` indexes them.
        queries: query ids; ``query`` indexes them.
        inputs: what each query asks, aligned with ``queries`` (empty strings where people rated bare texts).
        texts: distinct texts; ``text`` indexes them.
        user: shape (n,), code of each row's user.
        query: shape (n,), code of each row's query.
        text: shape (n,), code of each row's text.
        candidate: shape (n,), the candidate's index within its query.
        utility: shape (n,), the measured utility, NaN where it is unknown.
        logprob: shape (n,), the policy's log-probability of the text, NaN where the text was not sampled.
        history: what the users wrote, None where nobody knows.
    """

    users: tuple[str, ...]
    queries: tuple[str, ...]
    inputs: tuple[str, ...]
    texts: tuple[str, ...]
    user: IntArray
    query: IntArray
    text: IntArray
    candidate: IntArray
    utility: FloatArray
    logprob: FloatArray
    history: History | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Examples:
        """Select rows by an index or a mask; users, queries and texts keep their codes."""
        return Examples(
            self.users,
            self.queries,
            self.inputs,
            self.texts,
            self.user[rows],
            self.query[rows],
            self.text[rows],
            self.candidate[rows],
            self.utility[rows],
            self.logprob[rows],
            self.history,
        )
