"""Draw n candidates from prompts that are encoded once.

Two ways to run a model, with the same distribution:

- :class:`SharedPrefix` keeps one key-value cache for a prompt and lays its candidates side by side along the sequence:
  a step feeds one token of every candidate, at the same position, and a mask lets each candidate see the prompt and its
  own tokens only. Nothing is copied n-fold, so memory traffic is what one sequence costs.
- :class:`Repeated` repeats the cache of one prompt n times and needs nothing unusual of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from bestfor.lm.packing import PADDING, PROMPT, attention_mask
from bestfor.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


BLOCK = 1 << 21
"""Probabilities that are accumulated at once (16 MiB in float64)."""


@dataclass(frozen=True)
class Ends:
    """Rules that end a text.

    Attributes:
        tokens: ids of the end tokens.
        triggers: shape (vocabulary,), the tokens that could complete a stop text, None where there is none.
        complete: tells of all tokens of a candidate, the last of them a trigger, whether they hold a stop text.
    """

    tokens: frozenset[int]
    triggers: BoolArray | None = None
    complete: Callable[[IntArray], bool] | None = None


@dataclass(frozen=True)
class Drawn:
    """Candidates that the loop drew for b prompts, n candidates each, at most t tokens.

    Attributes:
        tokens: shape (b, n, t), token ids; only the first ``count`` are meant.
        count: shape (b, n), tokens drawn, the end token included.
        logprob: shape (b, n), sum of the drawn tokens' log-probabilities at temperature 1, in nats.
        stopped: shape (b, n), whether an end token or a stop rule ended the candidate.
    """

    tokens: IntArray
    count: IntArray
    logprob: FloatArray
    stopped: BoolArray


class Engine(Protocol):
    """A way to run a model for b prompts whose candidates are addressed by (prompt, slot)."""

    compacts: bool

    def first(self) -> torch.Tensor:
        """Read the prompts; logits of the first token, shape (b, vocabulary)."""
        ...

    def advance(self, tokens: IntArray, slots: IntArray) -> torch.Tensor:
        """Feed one token of some candidates of every prompt.

        Args:
            tokens: shape (b, w), the tokens last drawn.
            slots: shape (b, w), which candidates they belong to; w never grows between calls.

        Returns:
            Logits of the next token, shape (b * w, vocabulary).
        """
        ...


class SharedPrefix:
    """All candidates of a prompt behind one cache of that prompt."""

    compacts = True

    def __init__(self, model: PreTrainedModel, cache: Cache, prompts: Sequence[Sequence[int]]) -> None:
        self._model, self._cache = model, cache
        width = max(len(ids) for ids in prompts)
        ids = np.zeros((len(prompts), width), dtype=np.int64)
        self._seen = np.zeros((len(prompts), width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            self._seen[row, width - len(prompt) :] = 1
        self._ids = ids
        self._next = self._seen.sum(axis=1)
        self._owner = np.where(self._seen == 1, PROMPT, PADDING)
        self._first: torch.Tensor | None = None

    def first(self) -> torch.Tensor:
        """Read the prompts as :class:`Engine` says; called again, go back to them for further candidates."""
        if self._first is not None:
            self._rewind()
            return self._first
        device = self._model.device
        output = self._model(
            input_ids=torch.from_numpy(self._ids).to(device),
            attention_mask=torch.from_numpy(self._seen).to(device),
            position_ids=torch.from_numpy(np.maximum(self._seen.cumsum(axis=1) - 1, 0)).to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
        self._first = logits
        return logits

    def _rewind(self) -> None:
        width = self._seen.shape[1]
        self._cache.crop(width - self._owner.shape[1])
        self._owner = self._owner[:, :width]
        self._next = self._seen.sum(axis=1)

    def advance(self, tokens: IntArray, slots: IntArray) -> torch.Tensor:
        """Read one more token of every candidate; logits of the next, shape (candidates, vocabulary)."""
        device = self._model.device
        self._owner = np.concatenate([self._owner, slots], axis=1)
        like = torch.empty(0, dtype=self._model.dtype, device=device)
        output = self._model(
            input_ids=torch.from_numpy(tokens).to(device),
            attention_mask=attention_mask(self._owner, tokens.shape[1], like),
            position_ids=torch.from_numpy(np.repeat(self._next[:, None], tokens.shape[1], axis=1)).to(device),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._next = self._next + 1
        return output.logits.flatten(0, 1)


class Repeated:
    """The candidates of a single prompt, each with a copy of its cache."""

    def __init__(self, model: PreTrainedModel, cache: Cache, prompt: Sequence[int], n: int) -> None:
        self._model, self._cache, self._n = model, cache, n
        self._prompt = prompt
        self._rows = np.arange(n)
        kinds = [*getattr(cache, "layers", [])]
        self.compacts = bool(kinds) and all(
            hasattr(layer, "batch_repeat_interleave") and hasattr(layer, "batch_select_indices") for layer in kinds
        )

    def first(self) -> torch.Tensor:
        """Read the prompt; logits of the first token, shape (candidates, vocabulary)."""
        copies = 1 if self.compacts else self._n
        ids = torch.tensor([list(self._prompt)] * copies, device=self._model.device)
        logits = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True).logits[:1, -1]
        if self.compacts:
            self._cache.batch_repeat_interleave(self._n)
        return logits

    def advance(self, tokens: IntArray, slots: IntArray) -> torch.Tensor:
        """Read one more token of every candidate; logits of the next, shape (candidates, vocabulary)."""
        device = self._model.device
        if not np.array_equal(slots[0], self._rows):
            where = {slot: row for row, slot in enumerate(self._rows.tolist())}
            kept = torch.tensor([where[slot] for slot in slots[0].tolist()], device=device)
            self._cache.batch_select_indices(kept)
            self._rows = slots[0]
        ids = torch.from_numpy(np.ascontiguousarray(tokens.T)).to(device)
        return self._model(input_ids=ids, past_key_values=self._cache, use_cache=True).logits[:, -1]


class NotFinite(ArithmeticError):
    """Signal that a model's logits are NaN or infinite: no distribution to draw from."""


def draw(logits: torch.Tensor, uniforms: FloatArray, temperature: float, top_p: float) -> tuple[IntArray, FloatArray]:
    """Draw tokens by inverting the distribution function.

    Args:
        logits: shape (r, vocabulary), any floating type.
        uniforms: shape (r, k) in [0, 1): k independent draws from every row.
        temperature: divides the logits.
        top_p: only the most probable tokens whose mass reaches this are drawn (nucleus sampling, Holtzman et al. 2020).

    Returns:
        Tokens and their log-probabilities at temperature 1 without the cut, each of shape (r, k).

    Raises:
        NotFinite: a row whose largest logit is NaN or infinite.
    """
    rows = max(1, BLOCK // logits.shape[1])
    tokens = np.empty(uniforms.shape, dtype=np.int64)
    logprobs = np.empty(uniforms.shape, dtype=np.float64)
    for start in range(0, len(uniforms), rows):
        part = slice(start, start + rows)
        block = logits[part].float()
        picked = _invert(block, torch.from_numpy(uniforms[part]).to(block.device), temperature, top_p)
        plain = torch.log_softmax(block, dim=-1)
        tokens[part] = picked.cpu().numpy()
        logprobs[part] = plain.gather(1, picked).double().cpu().numpy()
    return tokens, logprobs


def _invert(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    largest = logits.amax(dim=-1, keepdim=True)
    if not torch.isfinite(largest).all():
        raise NotFinite
    scaled = (logits - largest) / temperature
    weights = scaled.exp().double()
    if top_p < 1.0:
        ordered, order = weights.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= top_p * ordered.sum(dim=-1, keepdim=True), 0.0)
        weights = torch.zeros_like(weights).scatter_(1, order, ordered)
    mass = weights.cumsum(dim=-1)
    total = mass[:, -1:]
    # A uniform just below one could round up to the total, behind which there is no token.
    point = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(mass, point, right=True)


def run(engine: Engine, uniforms: FloatArray, ends: Ends, *, temperature: float, top_p: float) -> Drawn:
    """Draw candidates until all have ended or the limit is reached.

    Args:
        engine: the model behind its prompts.
        uniforms: shape (b, n, t), the noise of every step.
        ends: what ends a text.
        temperature: as in :func:`draw`.
        top_p: as in :func:`draw`.

    Returns:
        What was drawn.
    """
    b, n, limit = uniforms.shape
    tokens = np.zeros((b, n, limit), dtype=np.int64)
    count, logprob = np.zeros((b, n), dtype=np.int64), np.zeros((b, n))
    stopped = np.zeros((b, n), dtype=np.bool_)
    slots = np.repeat(np.arange(n)[None], b, axis=0)
    prompt = np.arange(b)[:, None]
    with torch.inference_mode():
        logits = engine.first()
        for step in range(limit):
            noise = uniforms[prompt, slots, step]
            flat = noise if step == 0 else noise.reshape(-1, 1)
            drawn, value = (array.reshape(noise.shape) for array in draw(logits, flat, temperature, top_p))
            live = ~stopped[prompt, slots]
            rows, columns = np.nonzero(live)
            chosen = slots[rows, columns]
            tokens[rows, chosen, step] = drawn[rows, columns]
            count[rows, chosen] = step + 1
            logprob[rows, chosen] += value[rows, columns]
            stopped[rows, chosen] = _ended(tokens[rows, chosen, : step + 1], ends)
            if step == limit - 1 or stopped.all():
                break
            slots = _slots(stopped, slots) if engine.compacts else slots
            logits = engine.advance(tokens[prompt, slots, step], slots)
    return Drawn(tokens, count, logprob, stopped)


def _ended(texts: IntArray, ends: Ends) -> BoolArray:
    """Find which rows of tokens, shape (rows, tokens so far), are finished by their last token."""
    last = texts[:, -1]
    ended = np.isin(last, list(ends.tokens)) if ends.tokens else np.zeros(len(last), dtype=np.bool_)
    if ends.triggers is not None and ends.complete is not None:
        for index in np.flatnonzero(~ended & ends.triggers[last]):
            ended[index] = ends.complete(texts[index])
    return ended


def _slots(stopped: BoolArray, slots: IntArray) -> IntArray:
    """Put candidates that go on first, in as many columns as the prompt with most of them needs; ended ones follow."""
    width = int((~stopped).sum(axis=1).max())
    gone = np.take_along_axis(stopped, slots, axis=1)
    order = np.argsort(gone, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(slots, order, axis=1)
