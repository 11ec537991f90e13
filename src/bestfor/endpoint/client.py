"""Send requests to an OpenAI-compatible server: bounded, retried, counted, and silent about the key."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any, TypeVar

from bestfor.endpoint._thread import LoopThread
from bestfor.endpoint.address import OPENAI, Address, Secrets
from bestfor.endpoint.budget import Account, Bound, Budget, Usage
from bestfor.endpoint.choices import FAILED, FILTERS, Spent, read_choice
from bestfor.endpoint.failures import ErrorWords, Failure, of_status, said_of
from bestfor.endpoint.local import Lease, loaded_adapters, local_settings
from bestfor.endpoint.room import ContextRoom, tokens_of
from bestfor.errors import InputError
from bestfor.extras import require

T = TypeVar("T")
_LONGEST_WAIT = 30.0
_LOST = 3
_WORDS = 300
_TORN = "an answer that is no whole JSON object"
_TURN = 32
_STREAM = "a stream, which was not asked for: extra_body = { stream = false } may switch it off"
_TAG = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")
_LEAST = 0.01
"""Least share of the time for one attempt that is worth beginning one."""
_SHORT = 100
_HINT = " (is 'base_url' the address up to /v1?)"
_ACCOUNT = ("OpenAI-Organization", "OpenAI-Project")


@dataclass(frozen=True)
class EndpointConfig:
    """Settings of a server: its address, retries, limits and budget.

    Attributes:
        base_url: its address up to ``/v1``, or ``local:NAME`` for llama.cpp's server of a model on this machine, which
            is started and stopped as it is needed. A ``user:password@`` and query parameters are sent and never shown.
        key_env: the environment variable that holds the key. By default ``OPENAI_API_KEY`` for OpenAI's own address and
            no key for any other.
        concurrency: requests under way at once.
        timeout: seconds for one attempt, to the last byte of the answer.
        patience: seconds for one request with all its attempts and the waits between them; not while it waits for one
            of the ``concurrency`` others to end.
        retries: attempts after the first, on 408, 409, 425, 429, 5xx, timeouts, dropped connections and torn answers.
        backoff: seconds before the first retry; doubled for each further one up to 30 s, and shortened by chance by up
            to a half. ``Retry-After`` goes before it, and holds back every other request too.
        budget: what may be spent.
        adapters: files that a local server loads (:class:`bestfor.endpoint.local.LlamaSettings`).
        also: addresses of further servers of the same model, asked with the same key; see
            :class:`bestfor.endpoint.group.EndpointGroup`.

    Raises:
        InputError: no address, or a value out of range.
    """

    base_url: str = field(default=OPENAI, repr=False)
    key_env: str = ""
    concurrency: int = 32
    timeout: float = 120.0
    patience: float = 600.0
    retries: int = 6
    backoff: float = 0.5
    budget: Budget = field(default_factory=Budget)
    adapters: tuple[str, ...] = ()
    also: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check_servers(self.base_url, self.also)
        for name, least in (("concurrency", 1), ("retries", 0), ("backoff", 0)):
            if not getattr(self, name) >= least:
                raise InputError(f"endpoint, {name}", repr(getattr(self, name)), f"{least} or more")
        for name in ("timeout", "patience"):
            if not getattr(self, name) > 0:
                raise InputError(f"endpoint, {name}", repr(getattr(self, name)), "a number above 0")


def _check_servers(base_url: str, also: Sequence[str]) -> None:
    """Check the addresses of one server or several.

    Raises:
        InputError: what is no address, or among several one that is started here or stands twice.
    """
    seen = {(first := Address.parse(base_url)).server}
    for url in also:
        try:
            address = Address.parse(url)
        except InputError as error:
            raise InputError("also", error.found, "addresses such as 'http://127.0.0.1:8001/v1'") from None
        started = next((one.shown for one in (first, address) if one.local), "")
        if started:
            raise InputError("also", f"'{started}' among several", "servers that run already")
        if address.server in seen:
            raise InputError("also", f"'{address.shown}' twice, base_url counted", "each server once")
        seen.add(address.server)


class Endpoint:
    """Connection to one server, with its own thread, so that it also serves callers within an event loop.

    Use it as a context manager, or leave it to be closed with its last reference.

    Args:
        config: the server.
        earlier: what has been spent of the budget before.
        account: of several connections that share a budget, in the place of one of its own.

    Raises:
        InputError: the key's variable is named and not set.
        MissingExtraError: openai is not installed.
    """

    def __init__(self, config: EndpointConfig, earlier: Usage | None = None, *, account: Account | None = None) -> None:
        self.config = config
        self.address = Address.parse(config.base_url)
        self._openai: ModuleType = require("openai", "endpoint")
        self._secrets = Secrets(config.key_env, self.address)
        self._account = account or Account(config.budget, earlier)
        self._opening = threading.Lock()
        self._not_before = 0.0
        self._room: ContextRoom | None = None
        self._lost = 0
        self._answered = False

    def __repr__(self) -> str:
        return f"Endpoint({self.address.shown!r}, {self._secrets!r})"

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def usage(self) -> Usage:
        """Usage of this connection so far."""
        return self._account.usage

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do asynchronous work on the connection's own thread and wait for it; callers in several threads may."""
        with self._opening:
            self._serve()
            thread = self._thread
        return thread.run(work)

    def loaded_adapters(self) -> dict[str, int]:
        """List the adapters that llama.cpp's server has loaded: the number of each, by its file's name.

        Raises:
            InputError: it does not list them.
        """
        with self._opening:
            self._serve()
        key = {"Authorization": f"Bearer {self._secrets.key}", **self._secrets.headers}
        return loaded_adapters(self._url.removesuffix("/v1"), key, self.address.shown)

    def interrupt(self) -> None:
        """Cancel all work under way; its callers see it cancelled."""
        thread: LoopThread | None = self.__dict__.get("_thread")
        if thread is not None:
            thread.cancel()

    def close(self) -> None:
        """Close the connections and end the thread; a later request opens them again."""
        self.__dict__.pop("_client", None)
        thread: LoopThread | None = self.__dict__.pop("_thread", None)
        if thread is not None:
            thread.close()
        lease: Lease | None = self.__dict__.pop("_lease", None)
        if lease is not None:
            lease.release()

    def _serve(self) -> None:
        """Start the server of a local model, or take one that runs; another one where it has died."""
        if not self.address.local:
            return
        lease: Lease | None = self.__dict__.get("_lease")
        if lease is not None and lease.server.alive:
            return
        if lease is not None:
            lease.release()
            self.__dict__.pop("_client", None)
        settings = replace(local_settings(self.address.url), adapters=self.config.adapters)
        self._lease = Lease(settings)
        weakref.finalize(self, self._lease.release)

    @property
    def _url(self) -> str:
        return self._lease.server.url if self.address.local else self.address.url

    @property
    def held_until(self) -> float:
        """Time of the loop until which the server asked everybody to wait."""
        return self._not_before

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the server for a reader of the results."""
        return ()

    def join(self, thread: LoopThread) -> None:
        """Work on another connection's thread, within which :meth:`post` is then called."""
        if self.__dict__.get("_thread") is not thread:
            self.__dict__.pop("_client", None)
            self._slots = asyncio.Semaphore(self.config.concurrency)
            self.__dict__["_thread"] = thread

    def leave(self) -> None:
        """Leave the other connection's thread, which its owner ends."""
        self.__dict__.pop("_client", None)
        self.__dict__.pop("_thread", None)

    def scrub(self, text: str) -> str:
        """Remove every spelling of the key from a text, whoever has repeated it."""
        return self._secrets.scrub(text)

    async def post(self, path: str, body: Mapping[str, Any], *, most: int, near: str = "") -> dict[str, Any]:
        """Send one request, with retries where they may help.

        Args:
            path: ``"/chat/completions"`` or ``"/completions"``.
            body: what is asked, JSON.
            most: tokens that all its answers together may have.
            near: for groups of servers: requests of one name go to one of them; here nothing.

        Returns:
            The answer: ``choices`` is a list of at least one object.

        Raises:
            RefusedError: the server does not take this request.
            BudgetSpentError: the budget does not allow it.
            EndpointError: no answer.
        """
        del near
        text = json.dumps(body.get("messages", body.get("prompt", "")), ensure_ascii=False)
        bound = Bound(len(text.encode(errors="replace")) + _TURN, most)
        clock = asyncio.get_running_loop().time
        attempt, own = 0, 0.0
        least = _LEAST * min(self.config.timeout, self.config.patience)
        while True:
            async with self._slots, self._room_for(text, most):
                # Patience counts the request's own time: others may hold the slots, and the budget, for long.
                began = clock()
                answer = await self._hold(began + self.config.patience - own)
                own += clock() - began
                if answer is None:
                    await self._account.reserve(bound)
                    began = clock()
                    answer = await self._counted(path, body, bound, max(least, self.config.patience - own))
                    own += clock() - began
            if isinstance(answer, dict):
                return answer
            wait = self._wait(answer, attempt)
            attempt += 1
            own += wait
            if not answer.again or attempt > self.config.retries or own + least > self.config.patience:
                break
            await asyncio.sleep(wait)
        raise self._final(answer).error(self.address.shown, attempt)

    async def _hold(self, deadline: float) -> Failure | None:
        """Wait as long as the server asked everybody to, and not all to the same moment."""
        clock = asyncio.get_running_loop().time
        while (left := self._not_before - clock()) > 0:
            if clock() + left > deadline:
                return Failure("the server asks to wait for longer than patience lasts")
            await asyncio.sleep(left + self.config.backoff * random.random() / 2)
        return None

    def _room_for(self, text: str, most: int) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._room is None else self._room.hold(tokens_of(text, most))

    def _wait(self, failure: Failure, attempt: int) -> float:
        backoff = min(_LONGEST_WAIT, self.config.backoff * 2.0**attempt)
        if failure.after is None:
            return backoff * (1 - random.random() / 2)
        if failure.again and failure.after <= self.config.patience:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + failure.after)
        return failure.after + self.config.backoff * random.random() / 2

    def _final(self, failure: Failure) -> Failure:
        """Decide if it was this request or the server: three in a row that were lost speak of the server."""
        if failure.again:
            self._lost += 1
            return replace(failure, hopeless=self._lost >= _LOST or not self._answered)
        if failure.status in (403, 404) and self._answered:
            return replace(failure, hopeless=False)
        return failure

    async def _counted(self, path: str, body: Mapping[str, Any], bound: Bound, left: float) -> dict[str, Any] | Failure:
        used, answered, why = None, False, "cancelled"
        try:
            answer = await self._attempt(path, body, min(self.config.timeout, left))
            answered = isinstance(answer, dict)
            if isinstance(answer, dict):
                used = used_tokens(answer)
            else:
                why, used = answer.reason[:_SHORT], None if answer.tokens is None else Bound(*answer.tokens)
        finally:
            await self._account.settle(bound, used, answered=answered, why=why)
        if answered:
            self._answered, self._lost = True, 0
        return answer

    async def _attempt(self, path: str, body: Mapping[str, Any], timeout: float) -> dict[str, Any] | Failure:
        openai = self._openai
        try:
            # The client's own limit is for each read: a server that drips would never reach it.
            async with asyncio.timeout(timeout):
                answer = await self._client.post(path, cast_to=object, body=body, options={"timeout": timeout})
        except openai.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            return self._failure(error.status_code, headers, error.body or error.response.text)
        except (TimeoutError, openai.APITimeoutError):
            return Failure(f"no answer within {timeout:.3g} s (more 'timeout', or less 'concurrency', gives it longer)")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return await self._revived(Failure(f"no connection, or one that broke ({type(cause).__name__})"))
        except json.JSONDecodeError as error:
            return Failure(_no_object(error.doc))
        except UnicodeDecodeError:
            return Failure(_TORN)
        except (openai.OpenAIError, OSError, ValueError) as error:
            return Failure(f"a request that could not be made ({type(error).__name__})", again=False)
        return self._checked(answer)

    async def _revived(self, lost: Failure) -> Failure:
        """Start a local server that has died once more, so that the next attempt finds one."""
        lease: Lease | None = self.__dict__.get("_lease")
        if lease is None or lease.server.alive:
            return lost

        def serve() -> None:
            with self._opening:
                self._serve()

        try:
            await asyncio.to_thread(serve)
        except InputError as error:
            return Failure(f"the server ended and could not be started again: {error}", again=False)
        client = self.__dict__.get("_client")
        if client is not None and str(client.base_url).rstrip("/") != self._url:
            self.__dict__.pop("_client", None)
        return lost

    def _checked(self, answer: object) -> dict[str, Any] | Failure:
        """Check an answer: half a JSON comes as text, and some servers send errors as answers."""
        if not isinstance(answer, dict):
            return Failure(_no_object(answer))
        used = used_tokens(answer)
        tokens = None if used is None else (used.prompt, used.completion)
        if answer.get("error"):
            return replace(self._error_within(answer), tokens=tokens)
        choices = answer.get("choices")
        if not choices and (answer.get("promptFeedback") or (used is not None and used.prompt > 0)):
            reason = "an answer without choices: the server refuses or filters this prompt"
            return Failure(reason, 200, again=False, tokens=tokens)
        if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
            return Failure(f"an answer without choices{self._told(answer)}", tokens=tokens)
        if all("delta" in one and not one.get("message") for one in choices):
            return Failure(_STREAM, tokens=tokens)
        spent = Spent.of(answer)
        each = [read_choice(one, spent) for one in choices]
        if all(one.state == FAILED for one in each):
            return Failure(f"an answer that failed: {self.scrub(each[0].said)}", tokens=tokens)
        return answer

    def _told(self, answer: Mapping[str, Any]) -> str:
        """Quote what an answer says in the place of choices: some gateways give an error no name."""
        words = {name: answer[name] for name in ("message", "detail", "msg", "errors") if answer.get(name)}
        return f": {self.scrub(' '.join(said_of(words).text.split()))[:_WORDS]}" if words else ""

    def _error_within(self, answer: Mapping[str, Any]) -> Failure:
        """Describe an error that came as an answer, by the status that it names itself."""
        error = answer["error"]
        code = error.get("code") if isinstance(error, dict) else None
        named = str(code).lower()
        status = int(named) if named.isdecimal() else 400 if named in FILTERS else 500
        failure = self._failure(status if 400 <= status < 600 else 500, {}, answer)
        reason = failure.reason if code is not None else f"HTTP 200 with an error: {said_of(answer).text}"
        hint = _HINT if "endpoint" in reason.lower() else ""
        return replace(failure, reason=self.scrub(reason)[:_WORDS] + hint)

    def _failure(self, status: int, headers: Mapping[str, str], body: object) -> Failure:
        """Describe an HTTP error by the server's own words, in one short line and without secrets."""
        said = said_of(body)
        text = _TAG.sub(" ", said.text) if said.text.lstrip().startswith("<") else said.text
        line = self.scrub(" ".join(text.split()))[:_WORDS]
        return of_status(status, headers, ErrorWords(line, self.scrub(said.parameter), said.code))

    @cached_property
    def _thread(self) -> LoopThread:
        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._room = ContextRoom(self._lease.server.settings.context) if self.address.local else None
        self._account.open()
        return LoopThread()

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 (openai is optional)
        config, openai = self.config, self._openai
        elsewhere = {} if self.address.url == OPENAI else dict.fromkeys(_ACCOUNT, openai.Omit())
        client = openai.AsyncOpenAI(
            api_key=self._secrets.key,
            base_url=self._url,
            timeout=config.timeout,
            max_retries=0,
            default_headers={**elsewhere, **self._secrets.headers},
            default_query=dict(self.address.query) or None,
            # No proxy knows a server that was started here.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if self.address.local else None,
        )
        self._thread.last.append(client.close)
        return client


def _no_object(answer: object) -> str:
    """Describe an answer that is no JSON object: a web page, a stream, or half of something."""
    text = answer.lstrip() if isinstance(answer, str) else ""
    if text.startswith("<"):
        words = " ".join(_TAG.sub(" ", text).split())[:60]
        return f"a web page instead of JSON ('{words}'): is 'base_url' the address up to /v1, and is the key right?"
    if re.match(r"(data|event|id):|: |\{.*\}\s*\n\s*\{", text):
        return _STREAM
    return _TORN


def used_tokens(answer: Mapping[str, Any]) -> Bound | None:
    """Count an answer's tokens as stated or as listed: llama.cpp states those of the first choice alone."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    choices = answer.get("choices")
    return Bound(prompt, max(completion, sum(map(_listed, choices)) if isinstance(choices, list) else 0))


def _listed(choice: object) -> int:
    """Count the tokens that a choice lists with their log-probabilities; 0 where it lists none."""
    held = choice.get("logprobs") if isinstance(choice, Mapping) else None
    if not isinstance(held, Mapping):
        return 0
    return max(
        len(tokens) if isinstance(tokens := held.get(name), list) else 0 for name in ("content", "token_logprobs")
    )
