"""Choose other people's items for a prompt: a control that tells what is personal about a user's own.

Retrieval helps a policy in two ways: it shows how such texts look at all, and how this user writes. With items of
others, chosen by the same rule, only the first is left; the difference is what is personal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bestfor.data.text import collapse_spaces
from bestfor.encoders.base import Encoder
from bestfor.policies.retrieval import Item, Retriever


class OthersRetriever:
    """Finds items of other users than the one who asks; made once for all users.

    A text of the user never shows, whoever else has it in a history: works of several authors are everybody's own.
    Where the query has a time, items are strictly earlier; items without a time count as the oldest.

    Args:
        items: each user's.
        own: for each user the texts that are the user's own beside these: inputs and references of queries.
        method: as of :class:`~bestfor.policies.retrieval.Retriever`.
        encoder: likewise.
        seed: likewise.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Item]],
        own: Mapping[str, Iterable[str]],
        method: str = "bm25",
        encoder: Encoder | None = None,
        seed: int = 0,
    ) -> None:
        pairs = [(user, item) for user in sorted(items) for item in items[user]]
        pairs.sort(key=lambda pair: _time(pair[1]))
        self._users = [user for user, _ in pairs]
        self._times = [_time(item) for _, item in pairs]
        self._retriever = Retriever([item for _, item in pairs], method, encoder, seed)
        self._texts = [{_same(item.input), _same(item.output)} - {""} for _, item in pairs]
        self._own = {user: {_same(text) for text in texts} - {""} for user, texts in own.items()}
        for user, texts in zip(self._users, self._texts, strict=True):
            self._own.setdefault(user, set()).update(texts)

    def best(self, user: str, query_input: str, k: int, *, before: int | None = None) -> list[Item]:
        """Find the k items of others that serve a query most, best first.

        Args:
            user: who asks.
            query_input: what is asked.
            k: how many.
            before: the query's time; None where it has none.
        """
        seen = len(self._times) if before is None else bisect_left(self._times, before)
        own = self._own.get(user, set()) | {_same(query_input)}
        found: list[Item] = []
        for place in self._retriever.ranked(query_input, seen).tolist() if k else ():
            if self._users[place] != user and not self._texts[place] & own:
                found.append(self._retriever.items[place])
                if len(found) == k:
                    break
        return found


def _time(item: Item) -> float:
    return -np.inf if item.timestamp is None else item.timestamp


def _same(text: str) -> str:
    """Text by which two are the same work: case and spaces aside."""
    return collapse_spaces(text).casefold()
