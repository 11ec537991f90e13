"""Find similar users, by the mean embedding of what they wrote and liked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bestfor.encoders import Encoder
from bestfor.rewards.features import unit_rows
from bestfor.types import BoolArray, FloatArray

_BLOCK = 1024


def user_vectors(texts: Sequence[Sequence[str]], encoder: Encoder) -> FloatArray:
    """Embed each user as a vector of unit length, zeros where there are no texts; shape (users, dim).

    Args:
        texts: of each user.
        encoder: of texts.
    """
    names = sorted({text for own in texts for text in own})
    vectors = np.zeros((len(texts), encoder.dim))
    if not names:
        return vectors
    place = {name: code for code, name in enumerate(names)}
    known = unit_rows(encoder.encode(names).astype(np.float64))
    for user, own in enumerate(texts):
        if own:
            vectors[user] = known[[place[text] for text in own]].mean(axis=0)
    return unit_rows(vectors)


def nearest_users(vectors: FloatArray, able: BoolArray, count: int) -> list[list[tuple[int, float]]]:
    """Find the nearest other users of each, with shares in proportion to their cosines that add up to 1.

    Args:
        vectors: shape (users, dim), unit length or zero.
        able: shape (users,), who can be somebody's neighbour.
        count: how many at most; only those with a positive cosine.
    """
    found: list[list[tuple[int, float]]] = []
    for start in range(0, len(vectors), _BLOCK):
        # Rounded, so that who is nearest does not depend on the last bits of a product.
        cosines = np.round(vectors[start : start + _BLOCK] @ vectors.T, 9)
        cosines[:, ~able] = 0.0
        own = np.arange(len(cosines))
        cosines[own, start + own] = 0.0
        for row in cosines:
            chosen = [int(code) for code in np.argsort(-row, kind="stable")[:count] if row[code] > 0]
            total = float(row[chosen].sum())
            found.append([(code, round(float(row[code]) / total, 9)) for code in chosen])
    return found
