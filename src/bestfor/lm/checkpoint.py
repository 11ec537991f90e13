"""Run a causal language model that writes: prompts to token ids, token ids to candidates, candidates to texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from bestfor.errors import InputError
from bestfor.lm import batching, sampling
from bestfor.lm.adapters import Attached, Pair, attached
from bestfor.lm.chat import Message, prompt_ids
from bestfor.lm.loading import LOCAL, agrees, device_of, dtype_of, usable
from bestfor.lm.sampling import Drawn, Ends, NotFinite, Repeated, SharedPrefix
from bestfor.lm.weights import check_tokenizer, check_tokens, load_weights
from bestfor.types import BoolArray, FloatArray, IntArray


class Checkpoint:
    """A model with its tokenizer; the weights are loaded when they are first needed.

    Args:
        folder: a checkpoint as transformers saves it.
        dtype: ``"auto"`` or a torch name.
        device: ``"auto"`` or a torch name.

    Raises:
        InputError: the folder holds no causal language model, or dtype or device do not exist.
    """

    def __init__(self, folder: Path, *, dtype: str = "auto", device: str = "auto") -> None:
        self._folder = folder
        self._device = device_of(device)
        self._dtype = dtype_of(dtype, self._device.type)
        with usable(folder):
            self._config = AutoConfig.from_pretrained(folder, **LOCAL)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        check_tokenizer(self.tokenizer, str(folder))

    @cached_property
    def model(self) -> PreTrainedModel:
        """The weights, on the device.

        Raises:
            InputError: they cannot be loaded, or some are missing, of another shape, or not finite.
        """
        with usable(self._folder):
            # a pickle may hold code, and no fingerprint covers it
            model = load_weights(AutoModelForCausalLM, self._folder, dtype=self._dtype, use_safetensors=True)
        return cast(Any, model).to(self._device).eval()

    @property
    def longest(self) -> int | None:
        """The most tokens the model takes, prompt and candidate together; None where it sets no limit."""
        return getattr(self._config.get_text_config(), "max_position_embeddings", None)

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of a chat, up to where the candidate begins: :func:`bestfor.lm.chat.prompt_ids`."""
        return prompt_ids(self.tokenizer, messages)

    def run(
        self,
        prompts: Sequence[list[int]],
        uniforms: FloatArray,
        stop: tuple[str, ...],
        *,
        temperature: float,
        top_p: float,
        adapters: Sequence[Mapping[str, Pair]] | None = None,
    ) -> Drawn:
        """Draw candidates from a chunk of prompts.

        Args:
            prompts: token ids of b prompts.
            uniforms: shape (b, n, t), the noise.
            stop: texts that end a candidate.
            temperature: divides the logits.
            top_p: nucleus mass.
            adapters: each prompt's updates of layers, None for the model as it is.

        Returns:
            What was drawn, shape (b, n) and (b, n, t).

        Raises:
            InputError: a token without an embedding, or logits that are not finite.
        """
        for ids in prompts:
            check_tokens(ids, self.model, self.tokenizer, str(self._folder))
        rule = {"ends": self._ends(stop), "temperature": temperature, "top_p": top_p}
        shares = self.shares  # probed before anything is attached
        with attached(self.model, adapters or [{}] * len(prompts)) as batch:
            try:
                return self._run(prompts, uniforms, rule, shares, batch)
            except NotFinite:
                found = f"NaN or infinite logits ({self.model.dtype} numbers on {self._device.type})"
                expected = "finite ones: weights that are whole, or another dtype, such as bfloat16 or float32"
                raise InputError(str(self._folder), found, expected) from None

    def _run(
        self, prompts: Sequence[list[int]], uniforms: FloatArray, rule: dict[str, Any], shares: bool, batch: Attached
    ) -> Drawn:
        width = batching.SIDE_BY_SIDE
        starts = range(0, uniforms.shape[1], width)
        if shares:
            parts: list[Drawn] = []
            groups = batching.buckets([len(ids) for ids in prompts])
            for group in groups:
                batch.select(group)
                engine = SharedPrefix(self.model, self._cache(), [prompts[row] for row in group])
                drawn = [sampling.run(engine, uniforms[group, k : k + width], **rule) for k in starts]
                parts.append(_joined(drawn, 1))
            return _restored(_joined(parts, 0), [row for group in groups for row in group])
        # One prompt at a time needs no padding, which models with recurrent states do not all support.
        rows: list[Drawn] = []
        for row, ids in enumerate(prompts):
            batch.select([row])
            noise = [uniforms[row : row + 1, k : k + width] for k in starts]
            engines = (Repeated(self.model, self._cache(), ids, part.shape[1]) for part in noise)
            rows.append(_joined([sampling.run(e, part, **rule) for e, part in zip(engines, noise, strict=True)], 1))
        return _joined(rows, 0)

    def decode(self, drawn: Drawn, stop: tuple[str, ...]) -> list[list[str]]:
        """Decode texts, shape (b, n), cut before the first stop text, without special tokens and outer space."""
        b, n, _ = drawn.tokens.shape
        ids = [
            drawn.tokens[row, column, : drawn.count[row, column]].tolist() for row in range(b) for column in range(n)
        ]
        texts = [_cut(text, stop).strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return [texts[row * n : (row + 1) * n] for row in range(b)]

    @cached_property
    def shares(self) -> bool:
        """True where candidates may share one cache side by side: full attention throughout, and a probe agrees."""
        layers = getattr(self._cache(), "layers", [])
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return False
        return agrees(self._probe, self.model.dtype)

    def _probe(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of two prompts with two candidates each, side by side and in plain passes over each sequence."""
        prompts = [[1, 2, 3, 4, 5], [3, 1]]
        tokens = np.array([[[6, 7], [7, 2]], [[2, 6], [5, 5]]]) % self.model.get_input_embeddings().num_embeddings
        with torch.inference_mode():
            engine = SharedPrefix(self.model, self._cache(), prompts)
            engine.first()
            slots = np.array([[0, 1], [0, 1]])
            engine.advance(tokens[:, :, 0], slots)
            found = engine.advance(tokens[:, :, 1], slots).float()
            whole = [[*prompts[row], *tokens[row, column].tolist()] for row in range(2) for column in range(2)]
            ids = [torch.tensor([sequence], device=self.model.device) for sequence in whole]
            expected = torch.cat([self.model(input_ids=sequence).logits[:, -1] for sequence in ids]).float()
        return found, expected

    def _cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)

    def _ends(self, stop: tuple[str, ...]) -> Ends:
        declared = self.model.generation_config.eos_token_id
        tokens = {declared} if isinstance(declared, int) else set(declared or ())
        if self.tokenizer.eos_token_id is not None:
            tokens.add(self.tokenizer.eos_token_id)
        if not stop:
            return Ends(frozenset(tokens))

        def complete(ids: IntArray) -> bool:
            text = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
            return any(mark in text for mark in stop)

        return Ends(frozenset(tokens), self._triggers(stop), complete)

    def _triggers(self, stop: tuple[str, ...]) -> BoolArray:
        """Tokens whose text holds the last character of a stop text, or is only part of a character."""
        last = {mark[-1] for mark in stop}
        if any(mark.isspace() and mark != "\n" for mark in last):
            return np.ones(len(self._pieces), dtype=np.bool_)
        pattern = re.compile("[" + re.escape("".join(sorted(last))) + "\ufffd]")
        return np.array([pattern.search(piece) is not None for piece in self._pieces])

    @cached_property
    def _pieces(self) -> list[str]:
        size = self.model.config.get_text_config().vocab_size
        return self.tokenizer.batch_decode([[index] for index in range(size)])


def _restored(drawn: Drawn, rows: Sequence[int]) -> Drawn:
    """Restore the order of the prompts: row i of what was drawn is prompt ``rows[i]``."""
    back = np.argsort(np.array(rows))
    return Drawn(drawn.tokens[back], drawn.count[back], drawn.logprob[back], drawn.stopped[back])


def _joined(parts: Sequence[Drawn], axis: int) -> Drawn:
    names = ("tokens", "count", "logprob", "stopped")
    return Drawn(*(np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in names))


def _cut(text: str, stop: tuple[str, ...]) -> str:
    return text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]
