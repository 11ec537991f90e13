"""Measure how near a text is to what its user wrote before: only items earlier than the query count."""

from __future__ import annotations

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.rewards.features.embeddings import unit_rows
from bestfor.types import FloatArray, IntArray

HISTORY = ("nearest", "mean")


def history_features(candidates: Candidates, encoder: Encoder, text: IntArray, query: IntArray) -> FloatArray:
    """Largest and mean cosine to the user's earlier texts, shape (pairs, 2); NaN where there are none.

    Args:
        candidates: with the users' histories.
        encoder: of texts and histories.
        text: shape (pairs,), codes of texts.
        query: shape (pairs,), codes of the queries under which they stand, each of one user.
    """
    found = np.full((len(text), len(HISTORY)), np.nan)
    if candidates.history is None or len(text) == 0:
        return found
    user = np.zeros(len(candidates.queries), dtype=np.int64)
    user[candidates.query] = candidates.user
    earlier = {
        int(code): candidates.history.before(candidates.users[user[code]], candidates.queries[code])
        for code in np.unique(query)
    }
    names = sorted({item for items in earlier.values() for item in items})
    if not names:
        return found
    place = {name: code for code, name in enumerate(names)}
    own = unit_rows(encoder.encode(names).astype(np.float64))
    vectors = unit_rows(encoder.encode([candidates.texts[code] for code in text]).astype(np.float64))
    order = np.argsort(query, kind="stable")
    codes, starts = np.unique(query[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        items = earlier[int(code)]
        if items:
            cosines = vectors[rows] @ own[[place[item] for item in items]].T
            found[rows] = np.column_stack([cosines.max(axis=1), cosines.mean(axis=1)])
    return found
