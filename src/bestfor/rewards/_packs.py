"""Candidates of a query in one sequence behind their prompt, which is read once for all of them.

    [ prompt | text 0 | text 1 | ... ]

Every text stands at the positions that follow the prompt, and a mask lets it see the prompt and itself: the states are
those of each pair alone, for a fraction of the tokens. It holds for causal models with full attention; other models
get a row for each pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.types import BoolArray, IntArray

Tokens = tuple[int, ...]

PROMPT, PADDING = -1, -2


@dataclass(frozen=True)
class Pack:
    """Some candidates of one query in tokens.

    Attributes:
        prompt: what all of them answer; may be empty.
        texts: k candidates, none of them empty.
        rows: shape (k,), the rows of the examples that they stand for.
        user: code of their user, -1 for one without a part of their own.
    """

    prompt: Tokens
    texts: tuple[Tokens, ...]
    rows: IntArray
    user: int = -1

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return len(self.prompt) + sum(len(text) for text in self.texts)


@dataclass(frozen=True)
class Layout:
    """Sequences of a batch, padded on the right.

    Attributes:
        ids: shape (rows, t).
        positions: shape (rows, t).
        owner: shape (rows, t): which text of the row a token belongs to, ``PROMPT`` or ``PADDING``.
        first: shape (texts,), the index of each text's first token in the flattened (rows * t) tokens.
        last: shape (texts,), that of its last.
        pack: shape (rows,), the pack that a row belongs to.
    """

    ids: IntArray
    positions: IntArray
    owner: IntArray
    first: IntArray
    last: IntArray
    pack: IntArray

    @property
    def seen(self) -> BoolArray:
        """What is no padding, shape (rows, t)."""
        return self.owner != PADDING

    def visible(self) -> BoolArray:
        """Whether a token (second axis) sees another one (third): the prompt and its own text before it.

        Padding sees itself, since softmax over nothing is no number.
        """
        t = self.owner.shape[1]
        before = np.tril(np.ones((t, t), dtype=np.bool_))
        own = self.owner[:, :, None] == self.owner[:, None, :]
        prompt = (self.owner == PROMPT)[:, None, :]
        read = (own | prompt) & before & self.seen[:, None, :] & self.seen[:, :, None]
        return read | np.eye(t, dtype=np.bool_)


def side_by_side(packs: Sequence[Pack], pad: int) -> Layout:
    """One row for each pack."""
    width = max(pack.length for pack in packs)
    shape = (len(packs), width)
    ids, positions = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    owner = np.full(shape, PADDING, dtype=np.int64)
    first: list[int] = []
    last: list[int] = []
    for row, pack in enumerate(packs):
        at = start = len(pack.prompt)
        ids[row, :at], positions[row, :at], owner[row, :at] = pack.prompt, np.arange(at), PROMPT
        for place, text in enumerate(pack.texts):
            part = slice(at, at + len(text))
            ids[row, part], owner[row, part] = text, place
            positions[row, part] = start + np.arange(len(text))
            first.append(row * width + at)
            at += len(text)
            last.append(row * width + at - 1)
    begins, ends = (np.array(places, dtype=np.int64) for places in (first, last))
    return Layout(ids, positions, owner, begins, ends, np.arange(len(packs)))


def one_by_one(packs: Sequence[Pack], pad: int) -> Layout:
    """One row for each text, behind a prompt of its own."""
    alone = [Pack(pack.prompt, (text,), pack.rows[:1]) for pack in packs for text in pack.texts]
    owners = np.repeat(np.arange(len(packs)), [len(pack.texts) for pack in packs])
    found = side_by_side(alone, pad)
    return Layout(found.ids, found.positions, found.owner, found.first, found.last, owners)


def split_packs(packs: Sequence[Pack], tokens: int) -> list[Pack]:
    """Packs whose texts have at most so many tokens together; a longer text is a pack of its own."""
    found: list[Pack] = []
    for pack in packs:
        start, size = 0, 0
        for place, text in enumerate(pack.texts):
            if size and size + len(text) > tokens:
                found.append(Pack(pack.prompt, pack.texts[start:place], pack.rows[start:place], pack.user))
                start, size = place, 0
            size += len(text)
        found.append(Pack(pack.prompt, pack.texts[start:], pack.rows[start:], pack.user))
    return found


def bucketed(packs: Sequence[Pack], tokens: int) -> list[list[int]]:
    """Indices of packs in batches of similar length whose padded size is at most ``tokens``; shortest first.

    A pack that is longer is a batch of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(packs)), key=lambda index: (packs[index].length, index)):
        if not groups or (len(groups[-1]) + 1) * packs[index].length > tokens:
            groups.append([])
        groups[-1].append(index)
    return groups
