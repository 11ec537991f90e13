"""Read many candidates without gradients: plan the passes by their costs, run them, give a state for each text.

together   texts side by side behind their prompt in one sequence
behind     in several passes behind the prompt's cache, side by side within a pass
repeated   a row each, behind copies of the prompt's cache
apart      each behind a prompt of its own: what models get that cannot do otherwise

A query's prompt is read once, and users with adapters of their own share batches. What memory does not hold goes in
halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from bestfor.errors import InputError
from bestfor.lm.adapters import Pair, attached
from bestfor.lm.loading import is_full
from bestfor.lm.packing import Pack, bucket, split_packs, states_behind, states_repeated
from bestfor.lm.states import Backbone

StateArray = npt.NDArray[np.float32]

Way = Literal["together", "behind", "repeated", "apart"]

WEIGHTS, KERNELS = 32, 2.8e7
"""What a pass costs beyond its tokens, measured with the shipped model on one core: as many tokens, for reading the
weights, and as many operations for each layer, for starting its kernels."""
GPU_WEIGHTS, GPU_KERNELS = 128, 2e11
"""The same on a GPU: estimates, from 400 TFLOP/s, 3 TB/s, and half a millisecond a layer."""
DENSE = 1.5
"""How much longer a multiplication of attention under a mask takes than one of the weights."""


@dataclass(frozen=True)
class PackBatch:
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
        """True where it holds one text."""
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

    def halves(self) -> list[PackBatch]:
        """Split into two batches of half of the packs each, or of half of the texts where there is one pack."""
        half = len(self.packs) // 2
        if half:
            return [replace(self, packs=self.packs[:half]), replace(self, packs=self.packs[half:])]
        (pack,) = self.packs
        middle, chunk = len(pack.texts) // 2, max(1, self.chunk // 2)
        return [PackBatch((_part(pack, part),), self.way, chunk) for part in (slice(middle), slice(middle, None))]


@dataclass(frozen=True)
class Costs:
    """Costs of passes, in tokens that go through the weights.

    Attributes:
        attention: of a token held against another one.
        start: of a pass as such.
    """

    attention: float
    start: float

    @classmethod
    def of(cls, backbone: Backbone) -> Costs:
        """Count two operations a weight and token; four a layer, pair of tokens, and channel of the heads."""
        model = backbone.model
        shape = model.config.get_text_config()
        embedded = sum(weight.numel() for weight in cast(Any, model).get_input_embeddings().parameters())
        token = 2 * (sum(weight.numel() for weight in model.parameters()) - embedded)
        layers, heads = shape.num_hidden_layers, shape.num_attention_heads
        channels = heads * (getattr(shape, "head_dim", None) or shape.hidden_size // heads)
        weights, kernels = (WEIGHTS, KERNELS) if backbone.device.type == "cpu" else (GPU_WEIGHTS, GPU_KERNELS)
        return cls(DENSE * 4 * layers * channels / token, weights + layers * kernels / token)

    def ways(self, pack: Pack, tokens: int, packs: int = 1) -> dict[Way, tuple[float, int]]:
        """Estimate what each way costs that fits, and its chunk: tokens of texts in a pass, or rows of a copied cache.

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


def plan(backbone: Backbone, packs: Sequence[Pack], tokens: int) -> list[PackBatch]:
    """Plan how packs are read: batches of similar length, each of at most so many padded tokens where texts allow it.

    Args:
        backbone: with probes of what it can do.
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
    batches: list[PackBatch] = []
    for pack in numbered:
        way, chunk = _way(backbone, costs.ways(pack, tokens, len(numbered)), pack) if costs else ("apart", 1)
        if way == "together":
            whole.append(pack)
        elif way == "behind":
            behind.append((len(split_packs([pack], chunk)), chunk, pack))
        elif way == "repeated":
            batches += [PackBatch((part,), way) for part in _rows(pack, chunk)]
        else:
            whole += _rows(pack, 1)
    return [*_whole(whole, tokens), *_behind(behind, tokens), *batches]


def _way(backbone: Backbone, ways: dict[Way, tuple[float, int]], pack: Pack) -> tuple[Way, int]:
    """Choose the cheapest way that the backbone can do."""
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
    """Split a pack into texts of similar length, so many at a time."""
    order = sorted(range(len(pack.texts)), key=lambda row: len(pack.texts[row]))
    parts = [order[start : start + rows] for start in range(0, len(order), rows)]
    return [replace(pack, texts=tuple(pack.texts[row] for row in part), rows=pack.rows[part]) for part in parts]


def _whole(packs: Sequence[Pack], tokens: int) -> list[PackBatch]:
    groups = bucket(packs, tokens) if packs else []
    return [PackBatch(tuple(packs[index] for index in group)) for group in groups]


def _behind(packs: Sequence[tuple[int, int, Pack]], tokens: int) -> list[PackBatch]:
    """Batch packs of as many passes and similar prompts."""
    groups: list[tuple[int, PackBatch]] = []
    for passes, chunk, pack in sorted(packs, key=lambda one: (one[0], len(one[2].prompt) + one[1], one[2].user)):
        if groups and groups[-1][0] == passes:
            last = groups[-1][1]
            more = PackBatch((*last.packs, pack), "behind", max(last.chunk, chunk))
            if more.size <= tokens:
                groups[-1] = (passes, more)
                continue
        groups.append((passes, PackBatch((pack,), "behind", chunk)))
    return [batch for _, batch in groups]


def _part(pack: Pack, part: slice) -> Pack:
    return replace(pack, texts=pack.texts[part], rows=pack.rows[part])


def states_of(
    backbone: Backbone,
    packs: Sequence[Pack],
    adapters: Sequence[Mapping[str, Pair]],
    *,
    tokens: int,
    note: Callable[[str], None] | None = None,
) -> StateArray:
    """Compute the state of every text.

    Equal batches give equal bits; another split into batches changes rounding alone. Threads that share a backbone take
    turns, since a batch's adapters hang on its layers.

    Args:
        backbone: the model.
        packs: candidates by query.
        adapters: of each pack's user; looked up when the pack's turn comes, so they may be read lazily.
        tokens: padded tokens of a pass, those of the cache it sees included; a longer pair goes alone.
        note: takes a sentence where a batch does not fit in memory and goes in halves.

    Returns:
        Shape (texts, hidden) in float32, in the order of the packs' texts.

    Raises:
        InputError: a pair for which there is no memory, or an adapter of layers that the backbone does not have.
    """
    found = np.zeros((sum(len(pack.texts) for pack in packs), backbone.hidden), dtype=np.float32)
    refused: float = np.inf
    with backbone.lock, torch.no_grad(), _evaluating(backbone.model):
        waiting = plan(backbone, packs, tokens)[::-1]
        while waiting:
            batch = waiting.pop()
            states = _read_or_none(backbone, batch, adapters) if batch.size < refused or batch.alone else None
            if states is not None:
                found[np.concatenate([pack.rows for pack in batch.packs])] = states
                continue
            if batch.alone:
                raise _too_long(backbone, batch.packs[0])
            if batch.size < refused and note is not None:
                note(f"{batch} did not fit in memory and goes in halves.")
            refused = min(refused, batch.size)
            waiting.extend(reversed(batch.halves()))
    return found


def _read_or_none(backbone: Backbone, batch: PackBatch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray | None:
    """Read the states of a batch; None where memory does not hold it."""
    try:
        return _read(backbone, batch, adapters)
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
            raise
    # out of the handler, so that what the error held is free
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _read(backbone: Backbone, batch: PackBatch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray:
    own = [adapters[pack.user] for pack in batch.packs]
    distinct = {id(one): one for one in own}
    places = {key: place for place, key in enumerate(distinct)}
    with attached(backbone.model, list(distinct.values())) as now:
        layout = backbone.layout(batch.packs) if batch.way == "together" else None
        of_pack = np.array([places[id(one)] for one in own])
        rows = of_pack if layout is None else of_pack[layout.pack]
        # the only one is every row's, without copies
        now.select(rows.tolist() if len(distinct) > 1 else [0])
        if layout is not None:
            states = backbone.states(layout)
        elif batch.way == "behind":
            states = states_behind(backbone.model, batch.packs, batch.chunk, backbone.pad, backbone.pooling)
        else:
            states = states_repeated(backbone.model, batch.packs[0], backbone.pad, backbone.pooling)
        return states.cpu().numpy()


def _too_long(backbone: Backbone, pack: Pack) -> InputError:
    found = f"no memory for a text of {len(pack.texts[0])} tokens behind a prompt of {len(pack.prompt)}"
    return InputError(f"backbone '{backbone.name}'", found, "a lower limit of tokens, or a device with more memory")


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
