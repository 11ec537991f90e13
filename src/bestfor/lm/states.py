"""A language model as the back of a reward model: an input and a text in, a state that stands for the text out.

Decoders read the input as their chat template puts it to them, and the text with the end token behind it, as a policy
would have written it. Encoders read the pair as their tokenizer joins two texts, and the mean state stands for it.

How candidates are read, from what passes cost: which of them together, and in what way.

together   texts side by side behind their prompt in one sequence
behind     in several passes behind the prompt's cache, side by side within a pass
apart      each behind a prompt of its own: what models get that cannot do otherwise

States of many candidates at once: a query's prompt is read once, and users with adapters of their own share batches.

Without gradients. How texts are read, :mod:`bestfor.lm.states` decides; what memory does not hold goes in halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from bestfor.errors import InputError
from bestfor.lm.adapters import Pair, worn
from bestfor.lm.chat import messages
from bestfor.lm.checkpoint import LOCAL, device_of, dtype_of, is_full, no_bars, usable
from bestfor.lm.location import fingerprint, locate
from bestfor.lm.packing import (
    Layout,
    Pack,
    Pooling,
    Tokens,
    additive,
    bucketed,
    one_by_one,
    pooled,
    side_by_side,
    split_packs,
    states_behind,
    states_repeated,
)

Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]

LIMIT = 2048
"""Tokens of a pair where neither the configuration nor the model says less."""
MODEL = "a decoder or an encoder that transformers knows, with its weights as safetensors"
ROOM = 8
"""Tokens of a prompt that are left in any case: a text that leaves less is too long."""


class Backbone:
    """A checkpoint without its language-model head; the weights are loaded when they are first needed.

    Args:
        name: ``"embedded"``, a folder, or a hub name.
        dtype: ``"auto"`` (float32 on a CPU, the checkpoint's own elsewhere) or a torch name.
        device: ``"auto"`` or a torch name.
        attention: an implementation; ``"auto"`` is SDPA where the model has it. FlashAttention takes no masks: texts
            then have a row each.
        limit: the longest pair in tokens; by default what the model takes, up to ``LIMIT``.
        pooling: what stands for a text of a decoder: the state of its last token, or the mean of its tokens' states.

    Raises:
        InputError: no usable checkpoint, one with a decoder behind an encoder, or a limit beyond the model's.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        attention: Attention = "auto",
        limit: int | None = None,
        pooling: Pooling = "last",
    ) -> None:
        self.name = name
        self.pooling: Pooling = pooling
        self.folder: Path = locate(name, "backbone")
        self.device = device_of(device)
        self._dtype = dtype_of(dtype, self.device.type)
        self._attention = None if attention == "auto" else attention
        with usable(self.folder, MODEL):
            self._config = AutoConfig.from_pretrained(self.folder, **LOCAL)
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, **LOCAL)
        if self._config.is_encoder_decoder:
            raise InputError(f"backbone '{name}'", "an encoder-decoder model", "a decoder or an encoder")
        longest = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and longest is not None and limit > longest:
            raise InputError(
                f"backbone '{name}', limit", f"{limit} tokens", f"at most {longest}, which the model takes"
            )
        self.limit: int = limit or min(longest or LIMIT, LIMIT)
        self.shortened: set[str] = set()
        """Inputs that were cut at their end to leave room for a text."""
        self.lock = RLock()
        """Held by who changes what the model wears."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the checkpoint's files."""
        return fingerprint(self.folder)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The weights, on the device.

        Raises:
            InputError: they cannot be loaded, or not with this attention.
        """
        try:
            with usable(self.folder, MODEL), no_bars():
                more: dict[str, Any] = {"attn_implementation": self._attention, "use_safetensors": True}
                model = AutoModel.from_pretrained(self.folder, dtype=self._dtype, **more, **LOCAL)
        except ImportError as error:
            where, reason = f"backbone '{self.name}', attention", str(error).splitlines()[0]
            raise InputError(where, f"'{self._attention}' ({reason})", "its package, or 'auto'") from error
        return cast(Any, model).to(self.device).eval()

    @property
    def hidden(self) -> int:
        """Width of a state."""
        return int(self._config.get_text_config().hidden_size)

    @property
    def pad(self) -> int:
        """A token that fills rows and is masked: any does where the tokenizer has none for it."""
        tokenizer = self.tokenizer
        return next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)

    @cached_property
    def causal(self) -> bool:
        """Whether a state depends on nothing that comes after it: a probe tells."""
        with torch.no_grad():
            first, other = (self._plain([[1, 2, 3, last]])[:, 0] for last in (4, 5))
        return bool(torch.equal(first, other))

    @cached_property
    def packs(self) -> bool:
        """Whether texts may lie side by side: causal, full attention, and a probe agrees with each pair alone."""
        if not self.causal or self._attention == "flash_attention_2":
            return False
        # a window is longer than any probe
        if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=self.model.config).layers):
            return False
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3)), Pack((), ((3, 1),), np.arange(1))]
        return self._agrees(probe, lambda: self._states(side_by_side(probe, self.pad), packed=True))

    @cached_property
    def caches(self) -> bool:
        """Whether texts may follow the cache of their prompt side by side, too: a probe tells."""
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3)), Pack((3,), ((3, 1),), np.arange(1))]
        return self.packs and self._agrees(probe, lambda: states_behind(self.model, probe, 4, self.pad, self.pooling))

    @cached_property
    def repeats(self) -> bool:
        """Whether texts may follow copies of their prompt's cache, in rows; a probe tells, too."""
        layers = DynamicCache(config=self.model.config).layers if self.causal else []
        if not layers or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            return False
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3))]
        return self._agrees(probe, lambda: states_repeated(self.model, probe[0], self.pad, self.pooling))

    def _agrees(self, probe: Sequence[Pack], work: Callable[[], torch.Tensor]) -> bool:
        try:
            with torch.no_grad():
                found, alone = work(), self._states(one_by_one(probe, self.pad), packed=False)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            if is_full(error):
                raise  # says nothing about the model
            return False
        slack = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        return bool((found - alone).abs().max() <= slack * (1 + alone.abs().max()))

    def encode(self, query: str, asked: str, texts: Sequence[str], shown: Sequence[str] = ()) -> tuple[Tokens, ...]:
        """A prompt and texts in tokens; an input that is too long is cut at its end and counted.

        Args:
            query: names the query in errors.
            asked: what the texts answer; may be empty.
            texts: the candidates.
            shown: texts of the user, the one that matters most first.

        Returns:
            The prompt, then every text.

        Raises:
            InputError: a text that leaves no room for a prompt.
        """
        prompt = self._prompt(asked, shown)
        end = self._end()
        wrote = [(*self._ids(text, special=False), *end) for text in texts]
        wrote = [text or (self.pad,) for text in wrote]
        room = self.limit - max((len(text) for text in wrote), default=0)
        if room < min(len(prompt), ROOM):
            found = f"a text of {self.limit - room} tokens"
            raise InputError(
                f"query '{query}'", found, f"at most {self.limit - ROOM} (the backbone's limit is {self.limit})"
            )
        if len(prompt) > room:
            self.shortened.add(query)
            prompt = self._fitted(asked, shown, len(prompt) - room, room)
        return prompt, *wrote

    def layout(self, packs: Sequence[Pack]) -> Layout:
        """How packs lie in a batch: ``layout.pack`` says which of them a row of the batch belongs to."""
        return (side_by_side if self.packs else one_by_one)(packs, self.pad)

    def states(self, layout: Layout) -> torch.Tensor:
        """The state of every text, shape (texts, hidden) in float32; gradients flow where they are wanted."""
        return self._states(layout, packed=self.packs)

    def _states(self, layout: Layout, *, packed: bool) -> torch.Tensor:
        device = self.device
        ids = torch.from_numpy(layout.ids).to(device)
        if packed:
            mask = additive(layout.owner, layout.owner.shape[1], torch.empty(0, dtype=self.model.dtype, device=device))
            positions = torch.from_numpy(layout.positions).to(device)
            output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            return pooled(output.last_hidden_state, layout, self.pooling)
        seen = torch.from_numpy(layout.seen.astype(np.int64)).to(device)
        more: dict[str, Any] = {"use_cache": False}
        if not self.causal:
            kinds = getattr(self._config, "type_vocab_size", 0) or 0
            segments = torch.from_numpy((layout.owner >= 0).astype(np.int64)).to(device)
            more = {"token_type_ids": segments} if kinds > 1 else {}
        states = self.model(input_ids=ids, attention_mask=seen, **more).last_hidden_state
        if self.causal:
            return pooled(states, layout, self.pooling)
        share = seen[:, :, None].float()
        return (states.float() * share).sum(dim=1) / share.sum(dim=1)

    def _plain(self, rows: list[list[int]]) -> torch.Tensor:
        ids = torch.tensor(rows, device=self.device)
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    def _prompt(self, asked: str, shown: Sequence[str]) -> Tokens:
        chat = messages("", [("", text) for text in shown], asked)
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return self._ids(text, special=False)
        content = chat[-1]["content"]
        return self._ids(f"{content}\n\n" if content and self.causal else content, special=True)

    def _fitted(self, asked: str, shown: Sequence[str], over: int, room: int) -> Tokens:
        """The prompt with fewer earlier texts, or with a shorter input, until it fits."""
        if shown:
            prompt = self._prompt(asked, shown[:-1])
            return prompt if len(prompt) <= room else self._fitted(asked, shown[:-1], len(prompt) - room, room)
        ids = self._ids(asked, special=False)
        kept = len(ids) - over
        while kept > 0:
            prompt = self._prompt(self.tokenizer.decode(list(ids[:kept])), ())
            if len(prompt) <= room:
                return prompt
            kept -= len(prompt) - room
        return self._prompt("", ())[-room:] if room else ()

    def _ids(self, text: str, *, special: bool) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _end(self) -> Tokens:
        tokenizer = self.tokenizer
        end = tokenizer.eos_token_id if self.causal else getattr(tokenizer, "sep_token_id", None)
        return () if end is None else (end,)


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


StateArray = npt.NDArray[np.float32]


def states_of(
    backbone: Backbone,
    packs: Sequence[Pack],
    adapters: Sequence[Mapping[str, Pair]],
    *,
    tokens: int,
    tell: Callable[[str], None] | None = None,
) -> StateArray:
    """The state of every text.

    Equal batches give equal bits; another split into batches changes rounding alone. Threads that share a backbone take
    turns, since what a batch wears hangs on its layers.

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
    with backbone.lock, torch.no_grad(), _evaluating(backbone.model):
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


def _tried(backbone: Backbone, batch: Batch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray | None:
    """The states of a batch; None where memory does not hold it."""
    try:
        return _read(backbone, batch, adapters)
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
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
        layout = backbone.layout(batch.packs) if batch.way == "together" else None
        of_pack = np.array([places[id(one)] for one in asked])
        rows = of_pack if layout is None else of_pack[layout.pack]
        # the only one is every row's, without copies
        now.only(rows.tolist() if len(distinct) > 1 else [0])
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
