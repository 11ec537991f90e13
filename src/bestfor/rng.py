"""Derive randomness from names, so that order, resumption and the number of workers change nothing.

Every random decision belongs to something with a name (a user, a query, a candidate). Its generator is keyed by the
seed and these names through SHA-256, never by the moment at which it is drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np

Key = str | int


def key(seed: int, *names: Key) -> int:
    """Derive 128 bits from a seed and a path of names.

    Args:
        seed: the run's seed.
        names: for example ``("candidate", query_id, 3)``; their types count, so ``1`` and ``"1"`` differ.

    Returns:
        An integer in [0, 2**128).
    """
    digest = hashlib.sha256(repr((int(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:16], "little")


def derive(seed: int, *names: Key) -> np.random.Generator:
    """Make the counter-based generator of one named decision (Philox, keyed by :func:`key`)."""
    return np.random.Generator(np.random.Philox(key=key(seed, *names)))
