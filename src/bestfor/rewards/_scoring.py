"""States of many candidates at once: a query's prompt is read once, and users with adapters of their own share batches.

Without gradients. What a model can do decides how texts lie: side by side behind their prompt in one sequence, in
several passes behind the prompt's cache where their tokens are many, or in rows of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from bestfor.errors import InputError
from bestfor.policies._lora import Pair, worn
from bestfor.rewards._backbone import Backbone
from bestfor.rewards._packs import Pack, bucketed, split_packs
from bestfor.rewards._prefix import states_behind

StateArray = npt.NDArray[np.float32]

START = 90
"""What a pass costs beyond its tokens, in tokens: measured with the shipped model on one core, as is ``DENSE``."""
STARTS = {"cuda": 2048}
"""The same where it is mostly the start of some thousands of kernels, whatever they do: an estimate."""
DENSE = 1.5
"""How much longer a multiplication of attention under a mask takes than one of the weights."""
FULL = ("out of memory", "not enough memory", "can't allocate")
"""What allocators of processors and devices say in a RuntimeError of no kind of its own."""


def states_of(
    backbone: Backbone,
    packs: Sequence[Pack],
    adapters: Sequence[Mapping[str, Pair]],
    *,
    tokens: int,
    tell: Callable[[str], None] | None = None,
) -> StateArray:
    """The state of every text.

    Equal batches give equal bits; another split into batches changes rounding alone.

    Args:
        backbone: the model.
        packs: candidates by query.
        adapters: what each pack's user wears; asked for when the pack's turn comes, so it may read them lazily.
        tokens: padded tokens of a pass, those of the cache it sees included; a longer pair goes alone.
        tell: takes a sentence where a batch does not fit in memory and goes in halves.

    Returns:
        Shape (texts, hidden) in float32, in the order of the packs' texts.

    Raises:
        InputError: a pair for which there is no memory, or an adapter of layers that the backbone does not have.
    """
    found = np.zeros((sum(len(pack.texts) for pack in packs), backbone.hidden), dtype=np.float32)
    refused: float = np.inf
    with torch.no_grad(), _evaluating(backbone.model):
        waiting = plan(backbone, packs, tokens)[::-1]
        while waiting:
            batch = waiting.pop()
            states = _tried(backbone, batch, adapters) if batch.size < refused or batch.alone else None
            if states is not None:
                found[np.concatenate([pack.rows for pack in batch.packs])] = states
                continue
            if batch.alone:
                raise _too_long(backbone, batch.packs[0])
            if batch.size < refused and tell is not None:
                tell(f"{batch} did not fit in memory and goes in halves.")
            refused = min(refused, batch.size)
            waiting.extend(reversed(batch.halves()))
    return found


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


def plan(backbone: Backbone, packs: Sequence[Pack], tokens: int) -> list[Batch]:
    """How packs are read: batches of similar length, each of at most so many padded tokens where texts allow it."""
    offsets = np.cumsum([0, *(len(pack.texts) for pack in packs)])
    numbered = [
        replace(pack, rows=np.arange(offsets[place], offsets[place + 1]), user=place)
        for place, pack in enumerate(packs)
        if pack.texts
    ]
    if not backbone.packs:
        alone = [_part(pack, slice(row, row + 1)) for pack in numbered for row in range(len(pack.texts))]
        return _whole(alone, tokens)
    costs = Costs.of(backbone)
    whole: list[Pack] = []
    behind: list[tuple[int, int, Pack]] = []
    for pack in numbered:
        chunk = costs.chunk(pack, tokens)
        if chunk is None:
            whole.append(pack)
            continue
        parts = split_packs([pack], chunk)
        if pack.prompt and backbone.caches:
            behind.append((len(parts), chunk, pack))
        else:
            whole += parts
    return [*_whole(whole, tokens), *_behind(behind, tokens)]


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
        weights = sum(weight.numel() for weight in model.parameters()) - embedded
        heads = shape.num_attention_heads
        channels = heads * (getattr(shape, "head_dim", None) or shape.hidden_size // heads)
        attention = DENSE * 4 * shape.num_hidden_layers * channels / (2 * weights)
        return cls(attention, STARTS.get(backbone.device.type, START))

    def chunk(self, pack: Pack, tokens: int) -> int | None:
        """Tokens of texts in a pass behind the prompt's cache; None where one sequence for all is cheaper, and fits.

        With P tokens of a prompt, T of texts and n passes, texts are held against T (P + T / n) tokens, where one
        sequence costs (P + T)^2: the best n is T sqrt(attention / start).
        """
        sizes = [len(text) for text in pack.texts]
        prompt, total, longest = len(pack.prompt), sum(sizes), max(sizes)
        if len(sizes) == 1:
            return None
        room = max(tokens - prompt, longest)
        passes = max(2, round(total * (self.attention / self.start) ** 0.5), -(-total // room))
        split = prompt + self.attention * (prompt**2 + total * (prompt + total / passes)) + self.start * (passes + 1)
        at_once = prompt + self.attention * (prompt + total) ** 2 + self.start
        if prompt + total <= tokens and at_once <= split:
            return None
        # the last text of a pass seldom ends where it should
        return min(max(longest, total // passes + longest // 2), room)


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


def _tried(backbone: Backbone, batch: Batch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray | None:
    """The states of a batch; None where memory does not hold it."""
    try:
        return _read(backbone, batch, adapters)
    except (RuntimeError, MemoryError) as error:
        if not _is_full(error):
            raise
    # out of the handler, so that what the error held is free
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _read(backbone: Backbone, batch: Batch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray:
    asked = [adapters[pack.user] for pack in batch.packs]
    distinct = {id(one): one for one in asked}
    places = {key: place for place, key in enumerate(distinct)}
    with worn(backbone.model, list(distinct.values())) as now:
        layout = None if batch.chunk else backbone.layout(batch.packs)
        of_pack = np.array([places[id(one)] for one in asked])
        rows = of_pack if layout is None else of_pack[layout.pack]
        # the only one is every row's, without copies
        now.only(rows.tolist() if len(distinct) > 1 else [0])
        if layout is not None:
            states = backbone.states(layout)
        else:
            states = states_behind(backbone.model, batch.packs, batch.chunk or 1, backbone.pad)
        return states.cpu().numpy()


def _is_full(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in FULL)


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
