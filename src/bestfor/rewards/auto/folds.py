"""Deal labelled rows into folds whose texts, or whose prompts, are unseen by the rest.

What has to be unseen is what will be new at serving: the text where many people rate the same ones, the prompt with all
its candidates where every prompt has texts of its own.
"""

from __future__ import annotations

import numpy as np

from bestfor import rng as randomness
from bestfor.data.candidates import Candidates
from bestfor.rewards.rows import share_texts
from bestfor.types import IntArray


def unseen_units(candidates: Candidates) -> tuple[IntArray, str]:
    """Code what is held out together: shape (n,), and whether it is a text or a prompt.

    Prompts are one where their words are, since several people may be asked the same; without words each query is its
    own. With a query a user, or less than three prompts, texts are held out.
    """
    if share_texts(candidates.text):
        return candidates.text, "text"
    names = [text or f"\0{query}" for text, query in zip(candidates.inputs, candidates.queries, strict=True)]
    _, prompt = np.unique(np.array(names, dtype=object), return_inverse=True)
    unit = prompt[candidates.query].astype(np.int64)
    several = len(np.unique(candidates.query)) > len(np.unique(candidates.user))
    if several and len(np.unique(unit)) > 2:
        return unit, "prompt"
    return candidates.text, "text"


def deal(candidates: Candidates, folds: int, seed: int) -> IntArray:
    """Fold of each row, shape (n,): texts or prompts shuffled by the seed and dealt out in turn.

    Args:
        candidates: rows in canonical order.
        folds: how many at most; fewer where there are fewer units.
        seed: of the shuffle.
    """
    unit, what = unseen_units(candidates)
    distinct, code = np.unique(unit, return_inverse=True)
    order = randomness.derive(seed, "folds").permutation(len(distinct))
    if what == "prompt":
        # a user's prompts are dealt one after another, so that every fold leaves each user some
        first = np.full(len(distinct), len(candidates.users), dtype=np.int64)
        np.minimum.at(first, code, candidates.user)
        order = order[np.argsort(first[order], kind="stable")]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[code] % min(folds, len(distinct))


def compared(candidates: Candidates, fold: IntArray) -> IntArray:
    """Code rows whose utilities are compared with each other, shape (n,): those of one query and one fold.

    Where most rows are alone in that (one rated answer to each prompt), those of one user and fold; where most are
    alone in that too, those of one fold.

    Args:
        candidates: n rows.
        fold: shape (n,).
    """
    folds = int(fold.max(initial=0)) + 1
    for code in (candidates.query, candidates.user):
        pair = np.unique(code * folds + fold, return_inverse=True)[1].astype(np.int64)
        if 2 * np.count_nonzero(np.bincount(pair)[pair] > 1) >= len(pair):
            return pair
    return np.unique(fold, return_inverse=True)[1].astype(np.int64)
