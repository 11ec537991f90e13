"""How candidates are read, from what passes cost: which of them together, and in what way.

together   texts side by side behind their prompt in one sequence
behind     in several passes behind the prompt's cache, side by side within a pass
apart      each behind a prompt of its own: what models get that cannot do otherwise
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from bestfor.rewards._backbone import Backbone
from bestfor.rewards._packs import Pack, bucketed, split_packs

Way = Literal["together", "behind", "apart"]

WEIGHTS, KERNELS = 32, 2.8e7
"""What a pass costs beyond its tokens, measured with the shipped model on one core: as many tokens, for reading the
weights, and as many operations for each layer, for starting its kernels."""
GPU_WEIGHTS, GPU_KERNELS = 128, 2e11
"""The same on a GPU: estimates, from 400 TFLOP/s, 3 TB/s, and half a millisecond a layer."""
DENSE = 1.5
"""How much longer a multiplication of attention under a mask takes than one of the weights."""


@dataclass(frozen=True)
class Batch:
    """Packs that are read together.

    Attributes:
        packs: their ``rows`` are rows of the result and their ``user`` a place among the adapters.
        chunk: tokens of a pack's texts in one pass behind the prompt's cache; None where all is one pass.
    """

    packs: tuple[Pack, ...]
    chunk: int | None = None

    def __str__(self) -> str:
        texts = sum(len(pack.texts) for pack in self.packs)
        return f"A batch of {texts} text{'s' * (texts > 1)} ({self.size:,} tokens)"

    @property
    def alone(self) -> bool:
        """Whether it holds one text."""
        return len(self.packs) == 1 and len(self.packs[0].texts) == 1

    @property
    def size(self) -> int:
        """Padded tokens of its largest pass, those in the cache included."""
        return len(self.packs) * max(self._width(pack) for pack in self.packs)

    def _width(self, pack: Pack) -> int:
        sizes = [len(text) for text in pack.texts]
        longest = sum(sizes) if self.chunk is None else min(sum(sizes), max(self.chunk, *sizes))
        return len(pack.prompt) + longest

    def halves(self) -> list[Batch]:
        """Half of the packs each; half of its texts each where there is one pack."""
        half = len(self.packs) // 2
        if half:
            return [replace(self, packs=self.packs[:half]), replace(self, packs=self.packs[half:])]
        (pack,) = self.packs
        middle, chunk = len(pack.texts) // 2, self.chunk and max(1, self.chunk // 2)
        return [Batch((_part(pack, part),), chunk) for part in (slice(middle), slice(middle, None))]


@dataclass(frozen=True)
class Costs:
    """What passes cost, in tokens that go through the weights.

    Attributes:
        attention: of a token held against another one.
        start: of a pass as such.
    """

    attention: float
    start: float

    @classmethod
    def of(cls, backbone: Backbone) -> Costs:
        """Two operations a weight and token; four a layer, pair of tokens, and channel of the heads."""
        model = backbone.model
        shape = model.config.get_text_config()
        embedded = sum(weight.numel() for weight in cast(Any, model).get_input_embeddings().parameters())
        token = 2 * (sum(weight.numel() for weight in model.parameters()) - embedded)
        layers, heads = shape.num_hidden_layers, shape.num_attention_heads
        channels = heads * (getattr(shape, "head_dim", None) or shape.hidden_size // heads)
        weights, kernels = (WEIGHTS, KERNELS) if backbone.device.type == "cpu" else (GPU_WEIGHTS, GPU_KERNELS)
        return cls(DENSE * 4 * layers * channels / token, weights + layers * kernels / token)

    def way(self, pack: Pack, tokens: int) -> tuple[Way, int]:
        """The cheapest way that fits, and the tokens of texts in a pass of it.

        With P tokens of a prompt, T of texts and n passes behind the prompt's cache, texts are held against
        T (P + T / n) tokens, where one sequence costs (P + T)^2: the best n is T sqrt(attention / start).
        """
        sizes = [len(text) for text in pack.texts]
        prompt, total, longest = len(pack.prompt), sum(sizes), max(sizes)
        if len(sizes) == 1:
            return "together", total
        room = max(tokens - prompt, longest)
        passes = max(2, round(total * (self.attention / self.start) ** 0.5), -(-total // room))
        pairs = len(sizes) * (prompt + longest) ** 2
        rounds = -(-len(sizes) * (prompt + longest) // tokens)
        behind = prompt**2 + total * (prompt + total / passes)
        costs: dict[Way, float] = {
            "together": prompt + total + self.attention * (prompt + total) ** 2 + self.start,
            "behind": prompt + total + self.attention * behind + self.start * (passes + 1),
            "apart": len(sizes) * prompt + total + self.attention * pairs + self.start * rounds,
        }
        if prompt + total > tokens:
            del costs["together"]
        best = min(costs, key=lambda way: costs[way])
        # the last text of a pass seldom ends where it should
        return best, min(max(longest, total // passes + longest // 2), room) if best == "behind" else total


def plan(backbone: Backbone, packs: Sequence[Pack], tokens: int) -> list[Batch]:
    """How packs are read: batches of similar length, each of at most so many padded tokens where texts allow it.

    Args:
        backbone: says what it can do.
        packs: candidates by query; in the batches, ``rows`` count their texts on and ``user`` is the pack's place.
        tokens: of the sequences of a pass, with padding and with what they see in a cache.
    """
    offsets = np.cumsum([0, *(len(pack.texts) for pack in packs)])
    numbered = [
        replace(pack, rows=np.arange(offsets[place], offsets[place + 1]), user=place)
        for place, pack in enumerate(packs)
        if pack.texts
    ]
    costs = Costs.of(backbone)
    whole: list[Pack] = []
    behind: list[tuple[int, int, Pack]] = []
    for pack in numbered:
        way, chunk = costs.way(pack, tokens) if backbone.packs else ("apart", 0)
        if way == "apart":
            whole += [_part(pack, slice(row, row + 1)) for row in range(len(pack.texts))]
        elif way == "together":
            whole.append(pack)
        elif pack.prompt and backbone.caches:
            behind.append((len(split_packs([pack], chunk)), chunk, pack))
        else:
            whole += split_packs([pack], chunk)
    return [*_whole(whole, tokens), *_behind(behind, tokens)]


def _whole(packs: Sequence[Pack], tokens: int) -> list[Batch]:
    groups = bucketed(packs, tokens) if packs else []
    return [Batch(tuple(packs[index] for index in group)) for group in groups]


def _behind(packs: Sequence[tuple[int, int, Pack]], tokens: int) -> list[Batch]:
    """Packs of as many passes and similar prompts share batches."""
    groups: list[tuple[int, Batch]] = []
    for passes, chunk, pack in sorted(packs, key=lambda one: (one[0], len(one[2].prompt) + one[1], one[2].user)):
        if groups and groups[-1][0] == passes:
            last = groups[-1][1]
            more = Batch((*last.packs, pack), max(last.chunk or 0, chunk))
            if more.size <= tokens:
                groups[-1] = (passes, more)
                continue
        groups.append((passes, Batch((pack,), chunk)))
    return [batch for _, batch in groups]


def _part(pack: Pack, part: slice) -> Pack:
    return replace(pack, texts=pack.texts[part], rows=pack.rows[part])
