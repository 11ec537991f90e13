"""Pack candidates of a query behind their prompt, which is read once for all of them.

    [ prompt | text 0 | text 1 | ... ]

Every text stands at the positions that follow the prompt, and a mask lets it see the prompt and itself: the states are
those of each pair alone, for a fraction of the tokens. It holds for causal models with full attention; other models
get a row for each pair.

In one sequence every token is held against all texts before it, seen or not: the work grows with the square of their
number. Behind a key-value cache of the prompt, texts follow in passes of some of them side by side, and a pass meets
the prompt and its own texts alone (:func:`states_behind`); models that take no masks of ours get a copy of the cache
for each text (:func:`states_repeated`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

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
        """Mask of what is no padding, shape (rows, t)."""
        return self.owner != PADDING


def side_by_side(packs: Sequence[Pack], pad: int) -> Layout:
    """Lay out one row for each pack."""
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
    """Lay out one row for each text, behind a prompt of its own."""
    alone = [Pack(pack.prompt, (text,), pack.rows[:1]) for pack in packs for text in pack.texts]
    owners = np.repeat(np.arange(len(packs)), [len(pack.texts) for pack in packs])
    found = side_by_side(alone, pad)
    return Layout(found.ids, found.positions, found.owner, found.first, found.last, owners)


def split_packs(packs: Sequence[Pack], tokens: int) -> list[Pack]:
    """Split packs into ones whose texts have at most so many tokens together; a longer text is a pack of its own."""
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


def bucket(packs: Sequence[Pack], tokens: int) -> list[list[int]]:
    """Group packs of similar length, by their indices, so that padded sizes are at most ``tokens``; shortest first.

    A pack that is longer is a batch of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(packs)), key=lambda index: (packs[index].length, index)):
        if not groups or (len(groups[-1]) + 1) * packs[index].length > tokens:
            groups.append([])
        groups[-1].append(index)
    return groups


def attention_mask(owner: IntArray, q: int, like: torch.Tensor) -> torch.Tensor:
    """Build what attention adds to its scores so that a token sees the prompt and its own text up to itself.

    Padding sees itself, since softmax over nothing is no number.

    Args:
        owner: shape (rows, keys), whose the tokens are, as in :class:`Layout`.
        q: how many of them, the last ones, look; the others are in a cache.
        like: has the type and the device.

    Returns:
        Shape (rows, 1, q, keys).
    """
    keys = torch.from_numpy(owner).to(like.device)
    looks = keys[:, -q:, None]
    place = torch.arange(keys.shape[1], device=like.device)
    at = place[-q:, None]
    real = (keys != PADDING)[:, None, :] & (looks != PADDING)
    seen = ((looks == keys[:, None, :]) | (keys == PROMPT)[:, None, :]) & real & (place <= at) | (place == at)
    return like.new_zeros(seen.shape).masked_fill_(~seen, torch.finfo(like.dtype).min)[:, None]


Pooling = Literal["last", "mean"]
"""What stands for a text: the state of its last token, or the mean of its tokens' states."""


def pool(states: torch.Tensor, layout: Layout, pooling: Pooling) -> torch.Tensor:
    """Pool the states of all tokens, (rows, t, hidden), to one of every text, (texts, hidden) in float32."""
    flat = states.flatten(0, 1)
    last = torch.from_numpy(layout.last).to(states.device)
    if pooling == "last":
        return flat[last].float()
    first = torch.from_numpy(layout.first).to(states.device)
    places = first[:, None] + torch.arange(int((layout.last - layout.first).max(initial=0)) + 1, device=states.device)
    own = (places <= last[:, None])[:, :, None].float()
    return (flat[torch.minimum(places, last[:, None])].float() * own).sum(dim=1) / own.sum(dim=1)


def states_behind(
    model: PreTrainedModel, packs: Sequence[Pack], tokens: int, pad: int, pooling: Pooling = "last"
) -> torch.Tensor:
    """Compute the state of every text, behind its prompt's cache; (texts, hidden) in float32, in the packs' order.

    Args:
        model: causal, with full attention.
        packs: rows of the batch, none with an empty prompt.
        tokens: of a pack's texts in one pass; a longer text goes alone.
        pad: fills rows.
        pooling: what stands for a text.
    """
    cache = DynamicCache(config=model.config)
    prompts = side_by_side([Pack(pack.prompt, (), pack.rows[:0]) for pack in packs], pad)
    _pass(model, cache, prompts.ids, prompts.positions, prompts.owner)
    starts = np.array([[len(pack.prompt)] for pack in packs])
    parts = [[part.texts for part in split_packs([pack], tokens)] for pack in packs]
    found: list[list[torch.Tensor]] = [[] for _ in packs]
    for place in range(max(len(part) for part in parts)):
        now = [part[place] if place < len(part) else () for part in parts]
        layout = side_by_side([Pack((), texts, pack.rows) for texts, pack in zip(now, packs, strict=True)], pad)
        owner = np.concatenate([prompts.owner, layout.owner], axis=1)
        states = _pass(model, cache, layout.ids, layout.positions + starts, owner)
        cache.crop(-layout.ids.shape[1])
        ends = pool(states, layout, pooling)
        for row, part in enumerate(ends.split([len(texts) for texts in now])):
            found[row].append(part)
    return torch.cat([part for row in found for part in row])


def states_repeated(model: PreTrainedModel, pack: Pack, pad: int, pooling: Pooling = "last") -> torch.Tensor:
    """Compute the states of one pack, each text behind a copy of the prompt's cache, without a mask of ours.

    Padding stands right of a text, where nothing that counts sees it.

    Args:
        model: causal, with attention throughout.
        pack: with a prompt.
        pad: fills rows.
        pooling: what stands for a text.
    """
    cache = DynamicCache(config=model.config)
    prompt = torch.tensor([pack.prompt], device=model.device)
    model(input_ids=prompt, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(pack.texts))
    layout = side_by_side([Pack((), (text,), pack.rows[:1]) for text in pack.texts], pad)
    ids = torch.from_numpy(layout.ids).to(model.device)
    states = model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    return pool(states, layout, pooling)


def _pass(
    model: PreTrainedModel, cache: DynamicCache, ids: IntArray, positions: IntArray, owner: IntArray
) -> torch.Tensor:
    device = model.device
    output = model(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=attention_mask(owner, ids.shape[1], next(model.parameters())),
        position_ids=torch.from_numpy(positions).to(device),
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state
