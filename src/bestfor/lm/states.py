"""Read an input and a text with a language model: a state stands for the text.

Decoders read the input as their chat template puts it to them, and the text with the end token behind it, as a policy
would have written it. Encoders read the pair as their tokenizer joins two texts, and the mean state stands for it.
Probes find out whether texts may lie side by side, follow a cache, or need a row each; :mod:`bestfor.lm.passes` plans
by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Literal, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from bestfor.errors import InputError
from bestfor.lm.chat import messages, prompt_ids
from bestfor.lm.loading import LOCAL, agrees, device_of, dtype_of, usable
from bestfor.lm.location import fingerprint, locate
from bestfor.lm.packing import (
    Layout,
    Pack,
    Pooling,
    Tokens,
    attention_mask,
    one_by_one,
    pool,
    side_by_side,
    states_behind,
    states_repeated,
)
from bestfor.lm.weights import check_tokenizer, check_tokens, embedding_rows, load_weights

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
        check_tokenizer(self.tokenizer, f"backbone '{name}'")
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
        """Held by whoever changes what is attached to the model."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the checkpoint's files."""
        return fingerprint(self.folder)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The weights, on the device.

        Raises:
            InputError: they cannot be loaded, not with this attention, or some are missing or not finite.
        """
        try:
            with usable(self.folder, MODEL):
                more: dict[str, Any] = {"attn_implementation": self._attention, "use_safetensors": True}
                model = load_weights(AutoModel, self.folder, dtype=self._dtype, **more)
        except ImportError as error:
            where, reason = f"backbone '{self.name}', attention", str(error).splitlines()[0]
            raise InputError(where, f"'{self._attention}' ({reason})", "its package, or 'auto'") from error
        return cast(Any, model).to(self.device).eval()

    @property
    def hidden(self) -> int:
        """Width of a state."""
        return int(self._config.get_text_config().hidden_size)

    @cached_property
    def pad(self) -> int:
        """A token that fills rows and is masked: any does where the tokenizer has none, or one without embedding."""
        tokenizer, rows = self.tokenizer, embedding_rows(self.model)
        known = (one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None)
        return next((one for one in known if rows is None or one < rows), 0)

    @cached_property
    def causal(self) -> bool:
        """True where a state depends on nothing that comes after it, by a probe."""
        with torch.no_grad():
            first, other = (self._plain([[1, 2, 3, last]])[:, 0] for last in (4, 5))
        return bool(torch.equal(first, other))

    @cached_property
    def packs(self) -> bool:
        """True where texts may lie side by side: causal, full attention, and a probe agrees with each pair alone."""
        if not self.causal or self._attention == "flash_attention_2":
            return False
        # a window is longer than any probe
        if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=self.model.config).layers):
            return False
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3)), Pack((), ((3, 1),), np.arange(1))]
        return self._agrees(probe, lambda: self._states(side_by_side(probe, self.pad), packed=True))

    @cached_property
    def caches(self) -> bool:
        """True where texts may also follow the cache of their prompt side by side, by a probe."""
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3)), Pack((3,), ((3, 1),), np.arange(1))]
        return self.packs and self._agrees(probe, lambda: states_behind(self.model, probe, 4, self.pad, self.pooling))

    @cached_property
    def repeats(self) -> bool:
        """True where texts may follow copies of their prompt's cache, in rows, by a probe."""
        layers = DynamicCache(config=self.model.config).layers if self.causal else []
        if not layers or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            return False
        probe = [Pack((1, 2, 3), ((4, 5), (2, 1, 3), (5,)), np.arange(3))]
        return self._agrees(probe, lambda: states_repeated(self.model, probe[0], self.pad, self.pooling))

    def _agrees(self, probe: Sequence[Pack], work: Callable[[], torch.Tensor]) -> bool:
        def both() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                return work(), self._states(one_by_one(probe, self.pad), packed=False)

        return agrees(both, self.model.dtype)

    def encode(self, query: str, given: str, texts: Sequence[str], earlier: Sequence[str] = ()) -> tuple[Tokens, ...]:
        """Encode a prompt and texts; an input that is too long is cut at its end and counted.

        Args:
            query: names the query in errors.
            given: the input that the texts answer; may be empty.
            texts: the candidates.
            earlier: texts of the user, the one that matters most first.

        Returns:
            The prompt, then every text.

        Raises:
            InputError: a text that leaves no room for a prompt, or a token without an embedding.
        """
        prompt = self._prompt(given, earlier)
        end = self._end()
        wrote = [(*self._ids(text), *end) for text in texts]
        wrote = [text or (self.pad,) for text in wrote]
        room = self.limit - max((len(text) for text in wrote), default=0)
        if room < min(len(prompt), ROOM):
            found = f"a text of {self.limit - room} tokens"
            raise InputError(
                f"query '{query}'", found, f"at most {self.limit - ROOM} (the backbone's limit is {self.limit})"
            )
        if len(prompt) > room:
            self.shortened.add(query)
            prompt = self._shorten(given, earlier, len(prompt) - room, room)
        for ids in (prompt, *wrote):
            check_tokens(ids, self.model, self.tokenizer, f"backbone '{self.name}'")
        return prompt, *wrote

    def layout(self, packs: Sequence[Pack]) -> Layout:
        """Lay out packs in a batch: ``layout.pack`` says which of them a row of the batch belongs to."""
        return (side_by_side if self.packs else one_by_one)(packs, self.pad)

    def states(self, layout: Layout) -> torch.Tensor:
        """Compute the state of every text, shape (texts, hidden) in float32; gradients flow where they are wanted."""
        return self._states(layout, packed=self.packs)

    def _states(self, layout: Layout, *, packed: bool) -> torch.Tensor:
        device = self.device
        ids = torch.from_numpy(layout.ids).to(device)
        if packed:
            like = torch.empty(0, dtype=self.model.dtype, device=device)
            mask = attention_mask(layout.owner, layout.owner.shape[1], like)
            positions = torch.from_numpy(layout.positions).to(device)
            output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            return pool(output.last_hidden_state, layout, self.pooling)
        seen = torch.from_numpy(layout.seen.astype(np.int64)).to(device)
        more: dict[str, Any] = {"use_cache": False}
        if not self.causal:
            kinds = getattr(self._config, "type_vocab_size", 0) or 0
            segments = torch.from_numpy((layout.owner >= 0).astype(np.int64)).to(device)
            more = {"token_type_ids": segments} if kinds > 1 else {}
        states = self.model(input_ids=ids, attention_mask=seen, **more).last_hidden_state
        if self.causal:
            return pool(states, layout, self.pooling)
        share = seen[:, :, None].float()
        return (states.float() * share).sum(dim=1) / share.sum(dim=1)

    def _plain(self, rows: list[list[int]]) -> torch.Tensor:
        ids = torch.tensor(rows, device=self.device)
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    def _prompt(self, given: str, earlier: Sequence[str]) -> Tokens:
        gap = "\n\n" if not self.tokenizer.chat_template and self.causal else ""
        return tuple(prompt_ids(self.tokenizer, messages("", [("", text) for text in earlier], given), end=gap))

    def _shorten(self, given: str, earlier: Sequence[str], over: int, room: int) -> Tokens:
        """Make the prompt with fewer earlier texts, or with a shorter input, until it fits."""
        if earlier:
            prompt = self._prompt(given, earlier[:-1])
            return prompt if len(prompt) <= room else self._shorten(given, earlier[:-1], len(prompt) - room, room)
        ids = self._ids(given)
        kept = len(ids) - over
        while kept > 0:
            prompt = self._prompt(self.tokenizer.decode(list(ids[:kept])), ())
            if len(prompt) <= room:
                return prompt
            kept -= len(prompt) - room
        return self._prompt("", ())[-room:] if room else ()

    def _ids(self, text: str) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _end(self) -> Tokens:
        tokenizer = self.tokenizer
        end = tokenizer.eos_token_id if self.causal else getattr(tokenizer, "sep_token_id", None)
        return () if end is None else (end,)
