"""Sample from any model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, a hosted one)."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

from bestfor.endpoint import (
    OPENAI,
    Address,
    BudgetSpentError,
    Endpoint,
    EndpointConfig,
    EndpointError,
    RefusedError,
    Usage,
    connect,
)
from bestfor.endpoint.local import identity_of
from bestfor.errors import InputError
from bestfor.lm.chat import Message
from bestfor.policies.base import Prompt, Sampled, UnfinishedError
from bestfor.policies.openai.adapters import ServedAdapters
from bestfor.policies.openai.replies import OddityCounts, ServerTraits, completion_prompt, read
from bestfor.policies.openai.table import PolicyEndpoint
from bestfor.rng import key

Have = Sequence[Mapping[int, Sampled]]
_PATHS = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True)
class OpenAIPolicy:
    """Samples candidates from a model behind an OpenAI-compatible server.

    n candidates are asked for in one request. A server that gives fewer choices is noticed, remembered, and asked again
    for the rest; parameters that it refuses and that can be done without (seed, logprobs) are left out from then on.
    Servers promise nothing about repetition: what they wrote is kept, and a call that failed goes on with what is owed.

    Attributes:
        model: the name under which the server knows the model.
        base_url: the server's address, up to ``/v1``; OpenAI's own by default. Short for that of ``server``.
        temperature: divides the logits; 0 or more.
        top_p: nucleus sampling, sent always: many servers would otherwise take the model's own default.
        max_new_tokens: the longest candidate.
        stop: texts that end a candidate; it is cut before the first of them, whether or not the server does.
        chunk: queries that make one part of the pool.
        api: ``"chat"``, or ``"completions"`` for models without a chat template: the turns, parted by empty lines.
        logprobs: whether to ask for log-probabilities, where the server gives them.
        context: the longest prompt and answer together, in tokens; None where prompts always fit. Tokens are estimated
            generously, one for every three bytes.
        extra_body: further fields of every request, such as ``{"top_k": -1}`` or
            ``{"chat_template_kwargs": {"enable_thinking": False}}``.
        user_model: the name under which the server knows a user's own adapter (vLLM serves adapters as models), with
            ``{user}`` for the user's id in percent-encoding; users whom it does not know get the model itself.
        adapters: a folder of users' adapters in GGUF (:func:`bestfor.policies.adapters.export_gguf`) that llama.cpp's
            server has loaded: each request applies its user's. A server of our own (``local:NAME``) loads them.
        identity: names what is served, for the pool's keys, so that a server may move; its address by default.
        server: how the server is treated: key, concurrency, timeouts, retries, budget.
    """

    kind: ClassVar[str] = "openai"
    tables: ClassVar[tuple[str, ...]] = ("endpoint", "profile")
    extras: ClassVar[tuple[str, ...]] = ("endpoint",)

    model: str
    base_url: str = field(default="", kw_only=True, repr=False)
    temperature: float = field(default=1.0, kw_only=True)
    top_p: float = field(default=1.0, kw_only=True)
    max_new_tokens: int = field(default=32, kw_only=True)
    stop: tuple[str, ...] = field(default=(), kw_only=True)
    chunk: int = field(default=64, kw_only=True)
    api: Literal["chat", "completions"] = field(default="chat", kw_only=True)
    logprobs: bool = field(default=True, kw_only=True)
    context: int | None = field(default=None, kw_only=True)
    extra_body: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    user_model: str = field(default="", kw_only=True)
    adapters: str | Path | None = field(default=None, kw_only=True)
    identity: str = field(default="", kw_only=True)
    server: EndpointConfig = field(default_factory=EndpointConfig, kw_only=True)

    def __post_init__(self) -> None:
        _check("model", self.model, bool(self.model), "the name of a model that the server serves")
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "a number in (0, 1]")
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1")
        _check("chunk", self.chunk, self.chunk >= 1, "at least 1")
        _check("stop", self.stop, "" not in self.stop, "texts that are not empty")
        _check("api", self.api, self.api in _PATHS, "'chat' or 'completions'")
        _check(
            "user_model", self.user_model, not self.user_model or "{user}" in self.user_model, "a name with '{user}'"
        )
        _check("context", self.context, self.context is None or self.context > self.max_new_tokens, "room for a prompt")
        if self.base_url and self.server.base_url not in (OPENAI, self.base_url):
            raise InputError("OpenAIPolicy.base_url", "another address than the server's", "one of the two")
        Address.parse(self._config.base_url)
        _json(self.extra_body)

    @classmethod
    def from_table(cls, table: Any) -> Self:  # noqa: ANN401 - a table of a run's file
        """Make the policy that ``[policy]`` describes."""
        server = table.endpoint or PolicyEndpoint()
        return cls(
            table.model,
            temperature=table.temperature,
            top_p=table.top_p,
            max_new_tokens=table.max_new_tokens,
            stop=table.stop,
            chunk=table.chunk,
            api=server.api,
            logprobs=server.logprobs,
            context=server.context,
            extra_body=server.extra_body,
            identity=server.identity,
            user_model=server.user_model,
            adapters=server.adapters or None,
            server=server.config("[policy.endpoint]"),
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @property
    def signature(self) -> dict[str, str | int | float]:
        """Plain values of all that decides what is written, as far as it is known on this side."""
        return {
            "kind": "openai",
            "model": self.model,
            "server": self.identity or identity_of(self._config.base_url),
            "api": self.api,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "stop": repr(self.stop),
            "extra_body": _json(self.extra_body),
            "chunk": self.chunk,
            **({"user_model": self.user_model} if self.user_model else {}),
            **({"adapters": self._served.digest} if self._served is not None else {}),
        }

    @property
    def budget(self) -> int | None:
        """The most tokens of a chat that leave room for a candidate, None where none is known."""
        return None if self.context is None else self.context - self.max_new_tokens

    def count(self, messages: list[Message]) -> int:
        """Estimate the tokens of a chat generously: the server's tokenizer is not here."""
        return sum(8 + math.ceil(len(message["content"].encode()) / 3) for message in messages)

    @property
    def usage(self) -> Usage:
        """Usage so far."""
        return self.__dict__["endpoint"].usage if "endpoint" in self.__dict__ else Usage()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the server for a reader of the results."""
        servers = self.endpoint.notes if "endpoint" in self.__dict__ else ()
        return (*self._oddities.notes(self.model), *self._traits.notes(self.model), *servers)

    @property
    def parallel(self) -> int:
        """Chunks that keep all connections busy while one of them waits for its last answers."""
        return 1 + math.ceil(self._config.concurrency / self.chunk)

    def interrupt(self) -> None:
        """End the calls under way: they raise with what they have."""
        if "endpoint" in self.__dict__:
            self.endpoint.interrupt()

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        if "endpoint" in self.__dict__:
            self.endpoint.close()

    @cached_property
    def endpoint(self) -> Endpoint:
        """The connection to the server.

        Raises:
            InputError: the key's variable is named and not set.
            MissingExtraError: openai is not installed.
        """
        return connect(self._config, self.__dict__.get("_earlier"))

    def charge(self, earlier: Usage) -> None:
        """Count what earlier calls have spent against the budget; before the first request."""
        self.__dict__["_earlier"] = earlier

    def sample(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[list[Sampled]]:
        """Write n candidates for every prompt.

        Args:
            prompts: what is asked, with distinct query ids.
            n: candidates for each prompt.
            seed: the run's seed; every request is sent one of its own, made of it, the query and the candidate.

        Returns:
            One list of n candidates for each prompt, in the order of the prompts.

        Raises:
            UnfinishedError: some requests failed; holds what was written.
            InputError: two prompts share an id, or the key's variable is not set.
        """
        return self.complete(prompts, n, seed=seed, have=[{}] * len(prompts))

    def complete(self, prompts: Sequence[Prompt], n: int, *, seed: int, have: Have) -> list[list[Sampled]]:
        """Write what is owed beside candidates that are there already.

        Args:
            prompts: as for :meth:`sample`; likewise what is raised.
            n: likewise.
            seed: likewise.
            have: for each prompt the candidates that are there, by their index below n.

        Returns:
            One list of n candidates for each prompt, those of ``have`` among them.
        """
        name, count = Counter(prompt.query_id for prompt in prompts).most_common(1)[0] if prompts else ("", 0)
        if count > 1:
            raise InputError("prompts", f"query '{name}' twice", "distinct query ids")
        if self._served is not None:
            self.__dict__["_loaded"] = self.endpoint.loaded_adapters()
        written = [dict(got) for got in have]
        failures: list[tuple[str, EndpointError]] = []
        try:
            self.endpoint.run(lambda: self._all(prompts, (n, seed), written, failures))
        except (KeyboardInterrupt, CancelledError):
            raise UnfinishedError([dict(got) for got in written], "interrupted", hopeless=True) from None
        if failures:
            query, worst = max(failures, key=lambda failure: failure[1].hopeless)
            reason = str(worst) if worst.hopeless else f"query '{query}': {worst}"
            # A server that took the prompt once does not refuse it for ever.
            came = {one.query_id for one, got, had in zip(prompts, written, have, strict=True) if len(got) > len(had)}
            refused = {
                query: error.reason
                for query, error in failures
                if isinstance(error, RefusedError) and error.lasting and query not in came
            }
            raise UnfinishedError(written, reason, hopeless=worst.hopeless, refused=refused)
        return [[got[index] for index in range(n)] for got in written]

    async def _all(
        self,
        prompts: Sequence[Prompt],
        what: tuple[int, int],
        written: list[dict[int, Sampled]],
        failures: list[tuple[str, EndpointError]],
    ) -> None:
        async def one(prompt: Prompt, got: dict[int, Sampled]) -> None:
            owed = len(got) < what[0]
            try:
                await self._query(prompt, what, got)
                if owed:
                    self._oddities.count(list(got.values()), prompt.messages[-1]["content"])
            except EndpointError as error:
                failures.append((prompt.query_id, error))
                # A budget lets what is under way come in.
                if error.hopeless and not isinstance(error, BudgetSpentError):
                    for task in tasks:
                        task.cancel()

        tasks = [asyncio.ensure_future(one(prompt, got)) for prompt, got in zip(prompts, written, strict=True)]
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _query(self, prompt: Prompt, what: tuple[int, int], got: dict[int, Sampled]) -> None:
        """Ask until nothing is owed: in one request, or in as many as the server's answers make necessary."""
        n, seed = what
        while owed := [index for index in range(n) if index not in got]:
            size = self._traits.size(len(owed))
            groups = [owed[start : start + size] for start in range(0, len(owed), size)]
            calls = (self._ask(prompt, group, seed, got) for group in groups)
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _ask(self, prompt: Prompt, group: list[int], seed: int, got: dict[int, Sampled]) -> None:
        traits = self._traits
        body = self._body(prompt, len(group), key(seed, "candidate", prompt.query_id, group[0]) % 2**31)
        try:
            most = len(group) * self.max_new_tokens
            answer = await self.endpoint.post(_PATHS[self.api], body, most=most, near=prompt.user_id)
        except EndpointError as error:
            if error.status == 404 and body["model"] != self.model:
                traits.without_model.add(prompt.user_id)
                return
            learned = isinstance(error, RefusedError) and traits.learn(error, body)
            if not learned and not traits.turns.learn(error, body.get("messages", ())):
                raise
            return
        traits.turns.answered(body.get("messages", ()))
        replies = read(answer, self.stop, self.endpoint.scrub)[: len(group)]
        traits.note_choices(len(group), [reply.sampled for reply in replies], "logprobs" in body)
        came = zip(group, replies, strict=False)
        got.update({index: reply.sampled for index, reply in came if reply.sampled is not None})
        for reply in replies:
            self._oddities.thinking += reply.choice.chain and reply.sampled is not None and bool(reply.sampled.text)
            self._oddities.failed.update([self.endpoint.scrub(reply.choice.said)[:60]] if reply.sampled is None else [])

    def _body(self, prompt: Prompt, n: int, seed: int) -> dict[str, Any]:
        chat = self.api == "chat"
        request = (
            {"messages": self._traits.turns.adapt(prompt.messages)}
            if chat
            else {"prompt": completion_prompt(prompt.messages)}
        )
        fields: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_new_tokens,
            "seed": seed,
        }
        fields |= {"n": n} if n > 1 else {}
        fields |= {"stop": list(self.stop)} if self.stop else {}
        fields |= {"logprobs": True if chat else 1} if self.logprobs else {}
        own = self.user_model and prompt.user_id not in self._traits.without_model
        model = self.user_model.replace("{user}", quote(prompt.user_id, safe="")) if own else self.model
        lora = {} if self._served is None else {"lora": self._served.field(prompt.user_id, self._numbers)}
        return {"model": model, **request, **self._traits.adapt(fields), **lora, **self.extra_body}

    @cached_property
    def _served(self) -> ServedAdapters | None:
        return None if self.adapters is None else ServedAdapters.read(Path(self.adapters))

    @property
    def _numbers(self) -> Mapping[str, int]:
        return self.__dict__.get("_loaded", {})

    @cached_property
    def _traits(self) -> ServerTraits:
        return ServerTraits()

    @cached_property
    def _oddities(self) -> OddityCounts:
        return OddityCounts()

    @cached_property
    def _config(self) -> EndpointConfig:
        config = replace(self.server, base_url=self.base_url) if self.base_url else self.server
        return config if self._served is None else replace(config, adapters=self._served.paths)


def _json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError("OpenAIPolicy.extra_body", "what JSON cannot hold", "JSON values") from None


def _check(what: str, value: object, fine: bool, expected: str) -> None:
    if not fine:
        raise InputError(f"OpenAIPolicy.{what}", repr(value), expected)
