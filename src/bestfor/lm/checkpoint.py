"""A loaded causal language model: prompts to tokens, tokens to texts, and how it is best run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as hub_logging

from bestfor.errors import InputError
from bestfor.lm import batching
from bestfor.lm import sampling as _sampler
from bestfor.lm.adapters import Pair, Worn, worn
from bestfor.lm.chat import Message, asked_ids
from bestfor.lm.sampling import Drawn, Ends, Repeated, SharedPrefix
from bestfor.types import BoolArray, FloatArray, IntArray

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""How what lies in a folder is read: code in it is never executed, and nobody is asked whether it may be."""


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

    @cached_property
    def model(self) -> PreTrainedModel:
        """The weights, on the device.

        Raises:
            InputError: they cannot be loaded.
        """
        with usable(self._folder), no_bars():
            # a pickle may hold code, and no fingerprint covers it
            model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=self._dtype, use_safetensors=True, **LOCAL)
        return cast(Any, model).to(self._device).eval()

    @property
    def longest(self) -> int | None:
        """The most tokens the model takes, prompt and candidate together; None where it sets no limit."""
        return getattr(self._config.get_text_config(), "max_position_embeddings", None)

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of a chat, up to where the candidate begins: :func:`asked_ids`."""
        return asked_ids(self.tokenizer, messages)

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
        """
        rule = {"ends": self._ends(stop), "temperature": temperature, "top_p": top_p}
        shares = self.shares  # probed before anything is worn
        with worn(self.model, adapters or [{}] * len(prompts)) as batch:
            return self._run(prompts, uniforms, rule, shares, batch)

    def _run(
        self, prompts: Sequence[list[int]], uniforms: FloatArray, rule: dict[str, Any], shares: bool, batch: Worn
    ) -> Drawn:
        width = batching.SIDE_BY_SIDE
        starts = range(0, uniforms.shape[1], width)
        if shares:
            parts: list[Drawn] = []
            groups = batching.buckets([len(ids) for ids in prompts])
            for group in groups:
                batch.only(group)
                engine = SharedPrefix(self.model, self._cache(), [prompts[row] for row in group])
                drawn = [_sampler.run(engine, uniforms[group, k : k + width], **rule) for k in starts]
                parts.append(_joined(drawn, 1))
            return _ordered(_joined(parts, 0), [row for group in groups for row in group])
        # One prompt at a time needs no padding, which models with recurrent states do not all support.
        rows: list[Drawn] = []
        for row, ids in enumerate(prompts):
            batch.only([row])
            noise = [uniforms[row : row + 1, k : k + width] for k in starts]
            engines = (Repeated(self.model, self._cache(), ids, part.shape[1]) for part in noise)
            rows.append(_joined([_sampler.run(e, part, **rule) for e, part in zip(engines, noise, strict=True)], 1))
        return _joined(rows, 0)

    def decode(self, drawn: Drawn, stop: tuple[str, ...]) -> list[list[str]]:
        """Texts of shape (b, n), cut before the first stop text, without special tokens and outer space."""
        b, n, _ = drawn.tokens.shape
        ids = [
            drawn.tokens[row, column, : drawn.count[row, column]].tolist() for row in range(b) for column in range(n)
        ]
        texts = [_cut(text, stop).strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return [texts[row * n : (row + 1) * n] for row in range(b)]

    @cached_property
    def shares(self) -> bool:
        """Whether candidates may lie side by side behind one cache: full attention throughout, and a probe agrees."""
        layers = getattr(self._cache(), "layers", [])
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return False
        try:
            return self._probe()
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as error:
            if is_full(error):
                raise  # says nothing about the model
            return False

    def _probe(self) -> bool:
        """Compare two prompts with two candidates each, side by side, with plain passes over each whole sequence."""
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
        slack = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        return bool((found - expected).abs().max() <= slack * (1.0 + expected.abs().max()))

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


def _ordered(drawn: Drawn, rows: Sequence[int]) -> Drawn:
    """Back to the order of the prompts: row i of what was drawn is prompt ``rows[i]``."""
    back = np.argsort(np.array(rows))
    return Drawn(drawn.tokens[back], drawn.count[back], drawn.logprob[back], drawn.stopped[back])


def _joined(parts: Sequence[Drawn], axis: int) -> Drawn:
    names = ("tokens", "count", "logprob", "stopped")
    return Drawn(*(np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in names))


@contextmanager
def no_bars() -> Iterator[None]:
    """Loading weights is no step of a run: keep its bars off the terminal."""
    shown = hub_logging.is_progress_bar_enabled()
    hub_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hub_logging.enable_progress_bar()


@contextmanager
def usable(folder: Path, expected: str = "a causal language model") -> Iterator[None]:
    """Whatever transformers cannot make a model of is bad input."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(str(folder), f"no usable model ({reason})", expected) from error


FULL = ("out of memory", "not enough memory", "can't allocate", "alloc_failed")
"""What allocators of processors and devices say in a RuntimeError of no kind of its own."""


def is_full(error: Exception) -> bool:
    """Whether an error says that memory does not suffice: allocators have no common kind for it."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in FULL)


def device_of(name: str) -> torch.device:
    """Choose the device that a name means; ``"auto"`` is CUDA where it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Draws are accumulated in float64, which not every kind of device has.
        torch.empty(0, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError("device", f"'{name}' ({str(error).splitlines()[0]})", "cpu, cuda or auto") from error
    return device


def dtype_of(name: str, device: str) -> torch.dtype | str:
    """Choose the weights' type; ``"auto"`` is float32 on a CPU and the checkpoint's own elsewhere."""
    if name == "auto":
        return torch.float32 if device == "cpu" else "auto"
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InputError("dtype", f"'{name}'", "auto, float32, bfloat16 or float16")
    return kind


def _cut(text: str, stop: tuple[str, ...]) -> str:
    return text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]
