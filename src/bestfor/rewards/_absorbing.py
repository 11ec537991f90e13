"""Models that take further labels in closed form: the part of ``update`` that does not depend on the formula."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np

from bestfor.data.candidates import Examples
from bestfor.errors import BestforError
from bestfor.rewards._canonical import canonical
from bestfor.rewards.model import RewardModel
from bestfor.types import IntArray


class AbsorbingModel(RewardModel):
    """A reward model whose users can learn from further labels without another fit."""

    def update(self, examples: Examples) -> Self:
        """Absorb further labels of known or new users in closed form; edits and returns this model.

        What all users share in variances and features stays as fitted; the users of these labels become what they would
        be had the labels been there at fit, the others stay as they were (what a kind changes beyond that, its file
        says). Rows of one query share its level; queries of earlier calls count as others. Who abstains, abstains until
        the next fit.

        Args:
            examples: n labelled rows; none changes nothing.

        Raises:
            InputError: a utility is NaN or infinite, or the model was loaded for somebody else.
            BestforError: before fit or load.
        """
        if not self._fitted:
            raise BestforError(f"'{self.kind}' is updated after fit or load")
        self._check_labels(examples, "update")
        if len(examples) == 0:
            return self
        ordered = canonical(examples)
        self._check_asked(ordered.users)
        codes = self._known_codes(ordered.users, abstaining=True)
        fresh = codes < 0
        codes[fresh] = len(self._users) + np.arange(int(fresh.sum()))
        self._absorb(ordered, codes)
        # last, so that a failure above leaves nobody without what was learned of them
        self._add_users(tuple(name for name, new in zip(ordered.users, fresh, strict=True) if new))
        return self

    @abstractmethod
    def _absorb(self, examples: Examples, codes: IntArray) -> None:
        """Learn from canonical rows; ``codes`` are their users' places, new ones after all that are known."""

    def _add_users(self, names: tuple[str, ...]) -> None:
        if not names:
            return
        if self._codes is not None:
            self._codes.update({name: len(self._users) + place for place, name in enumerate(names)})
        self._users = (*self._users, *names)
        if self._abstained is not None:
            self._abstained = np.append(self._abstained, np.zeros(len(names), dtype=np.bool_))
