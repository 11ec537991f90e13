"""Write candidates in this process: the policy of a run, or the shipped one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bestfor.data.turns import instructs
from bestfor.endpoint.choices import CUT, TEXT, Choice
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.gateway.errors import ApiError, wrong
from bestfor.gateway.upstream.batch import Asked, Batch, Came, late
from bestfor.gateway.wire import turn_text
from bestfor.policies import Prompt
from bestfor.policies.base import Sampled
from bestfor.policies.transformers import TransformersPolicy
from bestfor.runs.config import WorldTable, load_config

LONGEST = 1024
"""Tokens of a candidate at most, whatever a request says."""
UNSUPPORTED = ("tools", "functions", "response_format", "logprobs", "logit_bias", "audio", "modalities")
"""Fields that a plain language model in this process does not take; they are refused, not dropped."""


class LocalUpstream:
    """A policy of :mod:`bestfor.policies.transformers`; one request is written at a time.

    Args:
        policy: writes.
        instruction: stands before chats without a system turn; "" for none.

    Raises:
        MissingExtraError: torch is not installed.
    """

    def __init__(self, policy: TransformersPolicy, instruction: str = "") -> None:
        for package in ("torch", "transformers"):
            require(package, "models")
        self._policy, self._instruction = policy, instruction
        self._lock = asyncio.Lock()
        self.shown = f"{policy.name} in this process"

    async def sample(self, asked: Asked) -> Batch:
        """Write the candidates of one request in a thread; a client that has gone frees its place in the row.

        A deadline is kept; candidates are written together, so that all of them come before it or none.
        """
        policy = self._policy_of(asked.body)
        messages = tuple(self._messages(asked))
        prompt = Prompt(asked.answer, messages, asked.user)
        seed = asked.body.get("seed")
        try:
            async with asyncio.timeout(asked.deadline):
                written = await self._alone(policy, prompt, asked.n, seed)
        except TimeoutError:
            return Batch((), (late(),))
        except InputError as error:
            if "prompt" in error.found:
                raise ApiError(400, f"messages: {error.found}; {error.expected}", param="messages") from None
            raise
        return _batch(asked, written, policy.name, policy.count([dict(one) for one in messages]))

    async def models(self) -> list[dict[str, Any]]:
        """List the one model."""
        return [{"id": self._policy.name, "object": "model", "created": 0, "owned_by": "bestfor"}]

    async def ready(self) -> str:
        """Say nothing: it is there as soon as the process is."""
        return ""

    async def close(self) -> None:
        """Do nothing: it has no connections."""

    def load(self) -> None:
        """Load the weights, so that the first request does not wait for them."""
        self._policy.count([{"role": "user", "content": "Hello."}])

    async def _alone(self, policy: TransformersPolicy, prompt: Prompt, n: int, seed: object) -> list[Sampled]:
        """Write in a thread when nobody else does; one that nobody waits for any more ends before the next begins."""
        await self._lock.acquire()
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, policy, prompt, n, seed))

        def ended(done: asyncio.Future[list[Sampled]]) -> None:
            self._lock.release()
            if not done.cancelled():
                done.exception()  # seen, even where nobody waits

        writing.add_done_callback(ended)
        return await asyncio.shield(writing)

    def _write(self, policy: TransformersPolicy, prompt: Prompt, n: int, seed: object) -> list[Sampled]:
        given = seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
        named = replace(prompt, query_id="seeded") if isinstance(seed, int) else prompt
        return policy.sample([named], n, seed=given)[0]

    def _messages(self, asked: Asked) -> list[dict[str, str]]:
        if asked.path == "/completions":
            return [{"role": "user", "content": str(asked.body.get("prompt"))}]
        chat = [
            {"role": str(one.get("role")), "content": turn_text(one.get("content"))}
            for one in asked.body.get("messages") or ()
            if isinstance(one, Mapping)
        ]
        if self._instruction and not instructs(chat):
            chat.insert(0, {"role": "system", "content": self._instruction})
        return chat

    def _policy_of(self, body: Mapping[str, Any]) -> TransformersPolicy:
        """Make the policy that a request describes; it shares the weights."""
        for name in UNSUPPORTED:
            if body.get(name):
                raise wrong(name, "the policy in this process does not take it; expected an upstream that does")
        stop = body.get("stop")
        stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
        longest = body.get("max_completion_tokens") or body.get("max_tokens") or self._policy.max_new_tokens
        if not isinstance(longest, int) or longest < 1:
            raise wrong("max_tokens", "expected a whole number above 0")
        options = {
            "max_new_tokens": min(longest, LONGEST),
            "stop": stops or self._policy.stop,
            "temperature": _number(body, "temperature", self._policy.temperature) or 1e-3,
            "top_p": _number(body, "top_p", self._policy.top_p) or 1.0,
        }
        try:
            made = replace(self._policy, **options)
        except InputError as error:
            name = error.where.rpartition(".")[2]
            raise wrong(name, f"found {error.found}; expected {error.expected}") from None
        vars(made)["checkpoint"] = self._policy.checkpoint
        return made


def open_local(run: Path | None) -> LocalUpstream:
    """Open the policy of a run where it runs in this process, else the shipped one.

    Args:
        run: the run's folder, None where nobody knows it.
    """
    policy, instruction = TransformersPolicy("embedded", max_new_tokens=40), ""
    if run is not None and (run / "run.toml").is_file():
        config = load_config(run / "run.toml")
        instruction = config.policy.instruction or ""
        if isinstance(config.data, WorldTable) and not instruction:
            from bestfor.data.world import INSTRUCTIONS

            instruction = INSTRUCTIONS[config.data.task]
        if config.policy.kind == "transformers":
            table = config.policy
            policy = TransformersPolicy(
                table.model,
                temperature=table.temperature,
                top_p=table.top_p,
                max_new_tokens=table.max_new_tokens,
                stop=tuple(table.stop),
                dtype=table.dtype,
                device=table.device,
            )
    return LocalUpstream(policy, instruction)


def _number(body: Mapping[str, Any], name: str, usual: float) -> float:
    value = body.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "expected a number")
    return float(value)


def _batch(asked: Asked, written: list[Sampled], model: str, prompt_tokens: int) -> Batch:
    """Shape what was written as an OpenAI-compatible server would."""
    tokens = sum(one.tokens for one in written)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
    chat = asked.path == "/chat/completions"
    answer: dict[str, Any] = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{asked.answer}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [],
        "usage": usage,
    }
    came = []
    for place, one in enumerate(written):
        said = {"message": {"role": "assistant", "content": one.text}} if chat else {"text": one.text}
        choice = {"index": place, **said, "logprobs": None, "finish_reason": one.finish_reason}
        state = CUT if one.finish_reason == "length" else TEXT
        came.append(Came(choice, answer, Choice(state, one.text)))
    return Batch(tuple(came), (), 1, 0, usage)
