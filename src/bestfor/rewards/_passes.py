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

Way = Literal["together", "behind", "repeated", "apart"]

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
        way: in which; texts that are apart are packs of one.
        chunk: tokens of a pack's texts in one pass behind the prompt's cache.
    """

    packs: tuple[Pack, ...]
    way: Way = "together"
    chunk: int = 0

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
        rows = len(self.packs[0].texts) if self.way == "repeated" else len(self.packs)
        return rows * max(self._width(pack) for pack in self.packs)

    def _width(self, pack: Pack) -> int:
        sizes = [len(text) for text in pack.texts]
        if self.way == "repeated":
            return len(pack.prompt) + max(sizes)
        total = min(sum(sizes), max(self.chunk, *sizes)) if self.way == "behind" else sum(sizes)
        return len(pack.prompt) + total

    def halves(self) -> list[Batch]:
        """Half of the packs each; half of its texts each where there is one pack."""
        half = len(self.packs) // 2
        if half:
            return [replace(self, packs=self.packs[:half]), replace(self, packs=self.packs[half:])]
        (pack,) = self.packs
        middle, chunk = len(pack.texts) // 2, max(1, self.chunk // 2)
        return [Batch((_part(pack, part),), self.way, chunk) for part in (slice(middle), slice(middle, None))]


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

    def ways(self, pack: Pack, tokens: int, packs: int = 1) -> dict[Way, tuple[float, int]]:
        """What each way costs that fits, and its chunk: tokens of texts in a pass, rows where the cache is repeated.

        With P tokens of a prompt, T of texts and n passes behind the prompt's cache, texts are held against
        T (P + T / n) tokens, where one sequence costs (P + T)^2: the best n is T sqrt(attention / start).

        Args:
            pack: some texts.
            tokens: padded tokens of a pass.
            packs: how many there are, which may share the passes of some ways.
        """
        sizes = [len(text) for text in pack.texts]
        prompt, total, longest, count = len(pack.prompt), sum(sizes), max(sizes), len(sizes)
        shared = self.start / max(1, min(packs, tokens // (prompt + total)))
        room = max(tokens - prompt, longest)
        passes = max(2, round(total * (self.attention / shared) ** 0.5), -(-total // room))
        rows = max(1, min(count, tokens // (prompt + longest)))
        groups = -(-count // rows)
        found: dict[Way, tuple[float, int]] = {
            "behind": (
                self._cost(prompt + total, prompt**2 + total * (prompt + total / passes)) + shared * (passes + 1),
                # the last text of a pass seldom ends where it should
                min(max(longest, total // passes + longest // 2), room),
            ),
            "repeated": (
                self._cost(groups * prompt + count * longest, groups * prompt**2 + count * longest * (prompt + longest))
                + 2 * self.start * groups,
                rows,
            ),
            "apart": (self._cost(count * prompt + total, count * (prompt + longest) ** 2) + shared * groups, 1),
        }
        if prompt + total <= tokens:
            found["together"] = self._cost(prompt + total, (prompt + total) ** 2) + shared, total
        return found

    def _cost(self, tokens: float, pairs: float) -> float:
        return tokens + self.attention * pairs


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
    costs = Costs.of(backbone) if backbone.packs or backbone.repeats else None
    whole: list[Pack] = []
    behind: list[tuple[int, int, Pack]] = []
    batches: list[Batch] = []
    for pack in numbered:
        way, chunk = _way(backbone, costs.ways(pack, tokens, len(numbered)), pack) if costs else ("apart", 1)
        if way == "together":
            whole.append(pack)
        elif way == "behind":
            behind.append((len(split_packs([pack], chunk)), chunk, pack))
        elif way == "repeated":
            batches += [Batch((part,), way) for part in _rows(pack, chunk)]
        else:
            whole += _rows(pack, 1)
    return [*_whole(whole, tokens), *_behind(behind, tokens), *batches]


def _way(backbone: Backbone, ways: dict[Way, tuple[float, int]], pack: Pack) -> tuple[Way, int]:
    """The cheapest that the backbone can do."""
    cached = len(pack.prompt) > 0
    able: dict[Way, bool] = {
        "together": backbone.packs,
        "behind": cached and backbone.caches,
        "repeated": cached and backbone.repeats,
        "apart": True,
    }
    if len(pack.texts) == 1:
        return "apart", 1
    found: list[Way] = [way for way in ways if able[way]]
    best = min(found, key=lambda way: ways[way][0])
    return best, ways[best][1]


def _rows(pack: Pack, rows: int) -> list[Pack]:
    """Texts of similar length, so many at a time."""
    order = sorted(range(len(pack.texts)), key=lambda row: len(pack.texts[row]))
    parts = [order[start : start + rows] for start in range(0, len(order), rows)]
    return [replace(pack, texts=tuple(pack.texts[row] for row in part), rows=pack.rows[part]) for part in parts]


def _whole(packs: Sequence[Pack], tokens: int) -> list[Batch]:
    groups = bucketed(packs, tokens) if packs else []
    return [Batch(tuple(packs[index] for index in group)) for group in groups]


def _behind(packs: Sequence[tuple[int, int, Pack]], tokens: int) -> list[Batch]:
    """Packs of as many passes and similar prompts share batches."""
    groups: list[tuple[int, Batch]] = []
    for passes, chunk, pack in sorted(packs, key=lambda one: (one[0], len(one[2].prompt) + one[1], one[2].user)):
        if groups and groups[-1][0] == passes:
            last = groups[-1][1]
            more = Batch((*last.packs, pack), "behind", max(last.chunk, chunk))
            if more.size <= tokens:
                groups[-1] = (passes, more)
                continue
        groups.append((passes, Batch((pack,), "behind", chunk)))
    return [batch for _, batch in groups]


def _part(pack: Pack, part: slice) -> Pack:
    return replace(pack, texts=pack.texts[part], rows=pack.rows[part])
