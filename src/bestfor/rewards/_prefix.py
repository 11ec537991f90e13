"""Candidates behind the cache of their prompt: it is read once, and they follow in passes of some texts side by side.

In one sequence every token is held against all texts before it, seen or not: the work grows with the square of their
number. Behind a cache a pass meets the prompt and its own texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from bestfor.rewards._packs import PADDING, PROMPT, Layout, Pack, side_by_side, split_packs
from bestfor.types import IntArray

Pooling = Literal["last", "mean"]
"""What stands for a text: the state of its last token, or the mean of its tokens' states."""


def pooled(states: torch.Tensor, layout: Layout, pooling: Pooling) -> torch.Tensor:
    """The state of every text, shape (texts, hidden) in float32, from those of all tokens, (rows, t, hidden)."""
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
    """The state of every text, shape (texts, hidden) in float32, in the order of the packs' texts.

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
        ends = pooled(states, layout, pooling)
        for row, part in enumerate(ends.split([len(texts) for texts in now])):
            found[row].append(part)
    return torch.cat([part for row in found for part in row])


def states_repeated(model: PreTrainedModel, pack: Pack, pad: int, pooling: Pooling = "last") -> torch.Tensor:
    """The same, of one pack, each text behind a copy of the prompt's cache: for models that take no masks of ours.

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
    return pooled(states, layout, pooling)


def additive(owner: IntArray, q: int, like: torch.Tensor) -> torch.Tensor:
    """What attention adds to its scores so that a token sees the prompt and its own text up to itself.

    Padding sees itself, since softmax over nothing is no number.

    Args:
        owner: shape (rows, keys), whose the tokens are, as in :class:`bestfor.rewards._packs.Layout`.
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


def _pass(
    model: PreTrainedModel, cache: DynamicCache, ids: IntArray, positions: IntArray, owner: IntArray
) -> torch.Tensor:
    device = model.device
    output = model(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=additive(owner, ids.shape[1], next(model.parameters())),
        position_ids=torch.from_numpy(positions).to(device),
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state
