"""Sample from any causal language model that transformers can load, shipped, local or from the hub."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bestfor.data.states import THOUGHT, THOUGHT_CUT
from bestfor.data.turns import instructs
from bestfor.endpoint.choices import without_chain
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.lm import batching
from bestfor.lm.chat import Message, takes_system
from bestfor.lm.location import fingerprint, locate
from bestfor.policies.base import Prompt, Sampled
from bestfor.rng import derive
from bestfor.types import FloatArray

if TYPE_CHECKING:
    from bestfor.lm.adapter_files import AdapterFolder
    from bestfor.lm.checkpoint import Checkpoint


@dataclass(frozen=True)
class TransformersPolicy:
    """Samples candidates from a causal language model on this machine.

    A prompt is encoded once, however many candidates are drawn from it. The noise of a candidate is keyed by (seed,
    query, candidate), and queries are sampled in fixed chunks of neighbours in the sorted order of their ids, so the
    order of the queries and resumption change nothing on one machine, library version and number of threads.

    Attributes:
        model: ``"embedded"``, a folder, or a hub name such as ``"Qwen/Qwen3-4B"``; all are loaded the same way.
        temperature: divides the logits; above 0.
        top_p: nucleus sampling: only the most probable tokens that together reach this mass are drawn.
        max_new_tokens: the longest candidate.
        dtype: ``"auto"`` (float32 on a CPU, the checkpoint's own elsewhere) or a torch name such as ``"bfloat16"``.
        device: ``"auto"`` (a GPU if there is one) or a torch name such as ``"cpu"``, ``"cuda:1"``.
        chunk: queries that are sampled together.
        stop: texts that end a candidate; it is cut before the first of them.
        adapters: a folder of per-user adapters (:mod:`bestfor.policies.adapters`): a prompt's candidates are written
            with its user's; users of one chunk share its batches.
    """

    kind: ClassVar[str] = "transformers"
    tables: ClassVar[tuple[str, ...]] = ("adapters", "profile")
    extras: ClassVar[tuple[str, ...]] = ("models",)
    processes: ClassVar[bool] = True

    model: str | Path
    temperature: float = field(default=1.0, kw_only=True)
    top_p: float = field(default=1.0, kw_only=True)
    max_new_tokens: int = field(default=32, kw_only=True)
    dtype: str = field(default="auto", kw_only=True)
    device: str = field(default="auto", kw_only=True)
    chunk: int = field(default=16, kw_only=True)
    stop: tuple[str, ...] = field(default=(), kw_only=True)
    adapters: str | Path | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, self.temperature > 0, "a number above 0")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "a number in (0, 1]")
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1")
        _check("chunk", self.chunk, self.chunk >= 1, "at least 1")
        _check("stop", self.stop, "" not in self.stop, "texts that are not empty")

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was loaded behind, and name folders so that they are found from another current directory."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        places = ("model", "adapters")
        folders = {name: Path(own[name]).resolve() for name in places if own[name] and Path(own[name]).is_dir()}
        return own | folders

    @property
    def name(self) -> str:
        """The model's name; a folder's last part."""
        return str(self.model) if not Path(self.model).is_dir() else Path(self.model).resolve().name

    @property
    def signature(self) -> dict[str, str | int | float]:
        """Signature of all that decides what is written, the weights included, as plain values.

        Raises:
            InputError: the checkpoint is not there.
        """
        return self._signature

    @cached_property
    def _signature(self) -> dict[str, str | int | float]:
        adapted = {} if self.adapters is None else {"adapters": self._adapters.digest}
        return adapted | {
            "kind": "transformers",
            "model": self.name,
            "weights": fingerprint(locate(self.model)),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            "chunk": self.chunk,
            "batching": batching.rule(),
            "stop": repr(self.stop),
            "torch": version("torch"),
            "transformers": version("transformers"),
        }

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The tokenizer, and the model as soon as it is needed.

        Raises:
            InputError: the checkpoint is not there, or is no causal language model.
        """
        require("torch", "models")
        require("transformers", "models")
        from bestfor.lm.checkpoint import Checkpoint

        return Checkpoint(locate(self.model), dtype=self.dtype, device=self.device)

    @cached_property
    def _adapters(self) -> AdapterFolder:
        from bestfor.lm.adapter_files import AdapterFolder

        return AdapterFolder(Path(self.adapters or ""), fingerprint(locate(self.model)))

    @property
    def budget(self) -> int | None:
        """The most tokens of a chat that leave room for a candidate, None where the model sets no limit.

        Raises:
            InputError: candidates are to be as long as all that the model takes, or longer.
        """
        longest = self.checkpoint.longest
        if longest is not None and longest <= self.max_new_tokens:
            expected = f"fewer than {longest}, which '{self.name}' takes together with the prompt"
            raise InputError("max_new_tokens", str(self.max_new_tokens), expected)
        return None if longest is None else longest - self.max_new_tokens

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the model for a reader of the results."""
        said: list[str] = []
        if self.__dict__.get("_instructed") and not takes_system(self.checkpoint.tokenizer):
            told = "takes no system turn: the instruction stands before the first user turn"
            said.append(f"the chat template of {self.name} {told}")
        if thinking := self.__dict__.get("_thinking", 0):
            said.append(f"{thinking} candidates of {self.name} came after a chain of thought, which was taken off")
        return tuple(said)

    def count(self, messages: list[Message]) -> int:
        """Tokens of a chat as the model reads it."""
        self.__dict__["_instructed"] = self.__dict__.get("_instructed", False) or instructs(messages)
        return len(self.checkpoint.encode(messages))

    def sample(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[list[Sampled]]:
        """Write n candidates for every prompt.

        Args:
            prompts: what is asked, with distinct query ids.
            n: candidates for each prompt.
            seed: the run's seed.

        Returns:
            One list of n candidates for each prompt, in the order of the prompts.

        Raises:
            InputError: the checkpoint is not there, two prompts share an id, a prompt does not fit the model, or the
                adapters are not this checkpoint's.
        """
        ordered = sorted(prompts, key=lambda prompt: prompt.query_id)
        for left, right in itertools.pairwise(ordered):
            if left.query_id == right.query_id:
                raise InputError("prompts", f"query '{left.query_id}' twice", "distinct query ids")
        written: dict[str, list[Sampled]] = {}
        for start in range(0, len(ordered), self.chunk):
            part = ordered[start : start + self.chunk]
            written.update(zip((prompt.query_id for prompt in part), self._chunk(part, n, seed), strict=True))
        return [written[prompt.query_id] for prompt in prompts]

    def _chunk(self, prompts: Sequence[Prompt], n: int, seed: int) -> list[list[Sampled]]:
        checkpoint = self.checkpoint
        encoded = [checkpoint.encode(list(prompt.messages)) for prompt in prompts]
        for prompt, ids in zip(prompts, encoded, strict=True):
            self._fits(prompt, len(ids))
        noise = np.stack([noise_of(prompt.query_id, n, self.max_new_tokens, seed=seed) for prompt in prompts])
        users = None if self.adapters is None else [self._adapters.of(prompt.user_id) for prompt in prompts]
        drawn = checkpoint.run(
            encoded, noise, self.stop, temperature=self.temperature, top_p=self.top_p, adapters=users
        )
        texts = checkpoint.decode(drawn, self.stop)
        return [
            [
                self._sampled(
                    texts[row][column],
                    int(drawn.count[row, column]),
                    float(drawn.logprob[row, column]),
                    "stop" if drawn.stopped[row, column] else "length",
                )
                for column in range(n)
            ]
            for row in range(len(prompts))
        ]

    def _sampled(self, text: str, tokens: int, logprob: float, reason: str) -> Sampled:
        """Make a candidate; the probability of one after a chain of thought, which is taken off, is not known."""
        rest, chain = without_chain(text)
        if not chain:
            return Sampled(text, tokens, logprob, reason)
        self.__dict__["_thinking"] = self.__dict__.get("_thinking", 0) + bool(rest)
        return Sampled(rest, tokens, None, reason if rest else THOUGHT_CUT if reason == "length" else THOUGHT)

    def _fits(self, prompt: Prompt, tokens: int) -> None:
        if tokens == 0:
            raise InputError(f"query '{prompt.query_id}'", "an empty prompt", "at least one token")
        if self.budget is not None and tokens > self.budget:
            found = f"a prompt of {tokens} tokens"
            room = f"at most {self.budget}, which leaves room for {self.max_new_tokens} more: fewer or shorter items"
            raise InputError(f"query '{prompt.query_id}'", found, room)


def noise_of(query_id: str, n: int, steps: int, *, seed: int) -> FloatArray:
    """The uniforms of one query's candidates, one independent stream for each.

    Args:
        query_id: names the query.
        n: candidates.
        steps: tokens at most.
        seed: the run's seed.

    Returns:
        Shape (n, steps), in [0, 1).
    """
    return np.stack([derive(seed, "candidate", query_id, index).random(steps) for index in range(n)])


def _check(what: str, value: object, fine: bool, expected: str) -> None:
    if not fine:
        raise InputError(f"TransformersPolicy.{what}", repr(value), expected)
