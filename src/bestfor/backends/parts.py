"""Parts of work for machines that know nothing of each other: ``i/n`` does every n-th piece."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bestfor.errors import InputError


@dataclass(frozen=True)
class WorkPart:
    """One of n parts of some work.

    Attributes:
        index: which, from 0.
        count: n.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, said: str) -> WorkPart:
        """Read ``i/n``: ``0/4`` is the first of four, ``3/4`` the last.

        Raises:
            InputError: it is not written so, or i is not below n.
        """
        found = re.fullmatch(r"([0-9]{1,18})/([0-9]{1,18})", said.strip())
        if found is None or not int(found[1]) < int(found[2]):
            raise InputError("--part", f"'{said}'", "i/n with i from 0 to n - 1, such as 0/4")
        return cls(int(found[1]), int(found[2]))

    def has(self, ordinal: int) -> bool:
        """Tell whether a piece is this part's, by its ordinal."""
        return ordinal % self.count == self.index

    def has_key(self, key: bytes) -> bool:
        """Tell whether a piece is this part's, by a hash of 8 bytes or more."""
        return self.has(int.from_bytes(key[:8], "big"))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
