"""Rows in an order of their own, so that the order in which they came changes nothing."""

from __future__ import annotations

import numpy as np

from bestfor.data.candidates import Examples
from bestfor.types import IntArray


def canonical(examples: Examples) -> Examples:
    """The same rows in an order and with codes that depend on their content only."""
    users, user = _recode(examples.users, examples.user)
    texts, text = _recode(examples.texts, examples.text)
    used, query = np.unique(examples.query, return_inverse=True)
    names = [examples.queries[code] for code in used]
    order = sorted(range(len(used)), key=lambda code: names[code])
    rank = np.empty(len(used), dtype=np.int64)
    rank[order] = np.arange(len(used))
    query = rank[query]
    rows = np.lexsort((examples.utility, text, examples.candidate, query, user))
    return Examples(
        users=users,
        queries=tuple(names[code] for code in order),
        inputs=tuple(examples.inputs[used[code]] for code in order),
        texts=texts,
        user=user[rows],
        query=query[rows],
        text=text[rows],
        candidate=examples.candidate[rows],
        utility=examples.utility[rows].astype(np.float64),
        logprob=examples.logprob[rows],
        history=examples.history,
    )


def _recode(names: tuple[str, ...], codes: IntArray) -> tuple[tuple[str, ...], IntArray]:
    used = np.unique(codes)
    kept = sorted({names[code] for code in used})
    position = {name: code for code, name in enumerate(kept)}
    table = np.zeros(len(names), dtype=np.int64)
    table[used] = [position[names[code]] for code in used]
    return tuple(kept), table[codes]
