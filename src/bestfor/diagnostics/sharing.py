"""Whether two users share a text, found block by block."""

# pyright: basic
# (pyarrow ships no types)

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bestfor.data.hashing import Hashes, hash_strings
from bestfor.diagnostics.table.pools import Pools
from bestfor.types import IntArray


class Sharing:
    """Remembers 16 bytes a text and block until a shared text is found, and nothing after that.

    Texts are told apart by 64-bit hashes: among ten million, two are taken for one once in 400,000 tables.
    """

    def __init__(self) -> None:
        self._found = False
        self._texts: list[Hashes] = []
        self._users: list[IntArray] = []

    def add(self, pools: Pools, user: IntArray) -> None:
        """Look at the texts of a block.

        Args:
            pools: of the block.
            user: shape (users of the block,), their codes among all users.
        """
        if pools.text is None or self._found:
            return
        mask = pools.mask
        owner = np.broadcast_to(pools.user[:, None], mask.shape)[mask]
        pairs = np.unique(pools.text[mask] * len(user) + owner)
        text, one = np.divmod(pairs, len(user))
        if (text[1:] == text[:-1]).any():
            self._found = True
            return
        hashes = hash_strings(pa.array(pools.text_ids, pa.large_string()))
        self._texts.append(hashes[text])
        self._users.append(user[one])

    def found(self) -> bool:
        """Whether any text stood in the pools of two users."""
        if self._found or len(self._texts) < 2:
            return self._found
        text, user = np.concatenate(self._texts), np.concatenate(self._users)
        order = np.argsort(text)
        text, user = text[order], user[order]
        same = text[1:] == text[:-1]
        return bool((user[1:] != user[:-1])[same].any())
