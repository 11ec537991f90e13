"""Serve from a model whose users lie in shards: the rows of those who are asked for are read, and kept for a while.

A model of a million users is some gigabytes; what they share is a megabyte. :class:`UserShards` makes models of some
users from the shared part and their rows, as :meth:`bestfor.rewards.RewardModel.load` does for one.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from bestfor.artifacts import Arrays
from bestfor.errors import InputError
from bestfor.shards import Shards

Model = TypeVar("Model")
KEPT = 512
"""Models of some users that are kept, those asked for last."""


class UserShards:
    """Makes models of some users out of millions.

    Args:
        shards: where users' rows are.
        take: puts rows and their users into a copy of the model.
    """

    def __init__(self, shards: Shards, take: Callable[[Any, Arrays, tuple[str, ...]], None]) -> None:
        self.shards = shards
        self._take = take
        self._kept: OrderedDict[frozenset[str], Any] = OrderedDict()
        self._lock = Lock()

    def model_of(self, model: Model, users: Iterable[str]) -> Model:
        """Make the model of some users; the rows of each are read once, as long as they are kept.

        Raises:
            InputError: a shard is lost, torn or of another model.
        """
        asked = frozenset(users)
        with self._lock:
            if asked in self._kept:
                self._kept.move_to_end(asked)
                return self._kept[asked]
        rows, ids = self.shards.rows(sorted(asked))
        found: Any = copy.copy(model)
        found._whole = model
        try:
            self._take(found, rows, ids)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            what = f"incomplete rows of users ({' '.join(str(error).split())})"
            raise InputError(str(self.shards.folder), what, "the rows that the kind stores") from error
        with self._lock:
            self._kept[asked] = found
            while len(self._kept) > KEPT or (len(self._kept) > 1 and sum(map(len, self._kept)) > 4 * KEPT):
                self._kept.popitem(last=False)
        return found

    def abstained(self) -> tuple[str, ...]:
        """List users who abstain, in the order of their ids."""
        found: list[str] = []
        for marks, users in self.shards.array("user.abstained"):
            found += [users[code] for code in np.flatnonzero(marks).tolist()]
        return tuple(sorted(found))
