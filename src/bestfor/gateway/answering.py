"""Answer a request: candidates from the upstream, the user's own rewards, one pick, OpenAI's shape."""

from __future__ import annotations

import asyncio
import contextlib
import math
import operator
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from bestfor.errors import InputError
from bestfor.gateway.access import Access, Caller
from bestfor.gateway.config import GatewayConfig
from bestfor.gateway.errors import ApiError, wrong
from bestfor.gateway.identity import IDENTIFYING, NOBODY, Identity
from bestfor.gateway.limits import Limits
from bestfor.gateway.links import AnswerLink, sign
from bestfor.gateway.meters import Meters
from bestfor.gateway.tenants import Services
from bestfor.gateway.traces import traced
from bestfor.gateway.upstream import Asked, Batch, Came, Upstream
from bestfor.gateway.wire import turn_text
from bestfor.gateway.wishes import Wish, read_wish
from bestfor.serving.journal import JournalError
from bestfor.serving.options import AnswerOptions
from bestfor.serving.service import ServedAnswer

CHAT, TEXT = "/chat/completions", "/completions"
OWN_KEYS = ("bestfor", "n", "stream", "stream_options")
"""Keys of a request that the gateway answers itself; all others are passed on as they are."""
NO_USER = "no user was named: everybody's model served, and what is said of this answer teaches nobody"


@dataclass(frozen=True)
class Question:
    """A request that was understood.

    Attributes:
        id: of its answer.
        caller: who sent it.
        user: whose taste counts; None where nobody was named.
        wish: what is wished of Best-of-N.
        path: of the upstream.
        body: what is passed on.
        prompt: text that the reward model reads as what was asked.
        links: address before the token of a signed link.
        begun: ``time.perf_counter()`` at its arrival.
        everybody: whether what all users share scores, and why.
        notes: plain sentences about this request.
    """

    id: str
    caller: Caller
    user: str | None
    wish: Wish
    path: str
    body: Mapping[str, Any]
    prompt: str
    links: str
    begun: float
    everybody: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """An answer in OpenAI's shape, and what was picked."""

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class Answering:
    """Turns requests into answers.

    Args:
        config: defaults and links.
        services: what scores and keeps.
        writer: who writes candidates.
        access: the secret of links.
        limits: count tokens.
        meters: what is counted.

    Raises:
        InputError: what verifies tokens is not there.
    """

    def __init__(
        self,
        config: GatewayConfig,
        services: Services,
        writer: Upstream,
        access: Access,
        limits: Limits,
        meters: Meters,
    ) -> None:
        self._config, self._services, self._writer = config, services, writer
        self._access, self._limits, self._meters = access, limits, meters
        self.identity = Identity(config.users)

    def read(
        self, caller: Caller, path: str, headers: Mapping[str, str], body: Mapping[str, Any], base: str
    ) -> Question:
        """Understand a request.

        Args:
            caller: who sends it.
            path: ``/chat/completions`` or ``/completions``.
            headers: of the request.
            body: of the request.
            base: the gateway's address as the client wrote it.

        Raises:
            ApiError: a field that is wrong, named.
        """
        prompt = _chat_prompt(body) if path == CHAT else _text_prompt(body)
        if body.get("model") is not None and not isinstance(body["model"], str):
            raise wrong("model", "expected the name of a model")
        _check_stream(body)
        wish = read_wish(headers, body, self._config.defaults)
        user = self.identity.user(headers, body)
        collapsed, idle = (False, False) if user is None else self._services.known(caller.tenant, user)
        notes = []
        if collapsed:
            notes.append("the run's diagnosis says that this user's own part has collapsed: everybody's model served")
        if idle and "n" not in (body.get("bestfor") or {}) and "X-Bestfor-N" not in headers and wish.returned == 1:
            wish = Wish(1, wish.rule, None, wish.deadline, wish.candidates, wish.detail)
            notes.append("the run's diagnosis says that more candidates bring this user nothing: one was sampled")
        dropped = OWN_KEYS if self._config.users.forward else (*OWN_KEYS, *IDENTIFYING)
        passed = {name: value for name, value in body.items() if name not in dropped}
        links = (self._config.links.public_url or base).rstrip("/") + "/f/"
        everybody = user is None or collapsed
        if user is None:
            notes.append(NO_USER)
        return Question(
            new_id(), caller, user, wish, path, passed, prompt, links, time.perf_counter(), everybody, tuple(notes)
        )

    async def answer(self, question: Question) -> Answered:
        """Get candidates, pick and answer.

        Raises:
            ApiError: no candidate came; the upstream's own status where it has one.
        """
        with traced(question.path, question.body.get("model")) as span:
            wish = question.wish
            asked = Asked(question.path, question.body, wish.n, wish.k, wish.deadline, question.id, question.user or "")
            sent = time.perf_counter()
            batch = await self._writer.sample(asked)
            came = time.perf_counter()
            self._count(question, batch)
            if not batch.came:
                raise batch.worst().error()
            competing = batch.scored()
            picked, failure = await self._pick(question, competing, batch)
            done = time.perf_counter()
            answered = self._compose(question, batch, competing, picked, failure)
            span.usage(batch.usage, answered.body.get("model"))
        parts = {"upstream": came - sent, "scoring": done - came}
        parts["own"] = time.perf_counter() - question.begun - sum(parts.values())
        for part, seconds in parts.items():
            self._meters.spent[part].observe(max(0.0, seconds))
        return answered

    async def _pick(
        self, question: Question, competing: tuple[Came, ...], batch: Batch
    ) -> tuple[ServedAnswer | None, str]:
        """Score the distinct texts and pick; where the journal fails, the first candidate is served, and it is said."""
        texts = list(dict.fromkeys(one.text for one in competing))
        user = NOBODY + question.id if question.user is None else question.user
        service = self._services.of(question.caller.tenant)
        options: AnswerOptions = {
            "id": question.id,
            "tokens": _completion_tokens(batch.usage),
            "rule": question.wish.rule,
            "everybody": question.everybody,
        }
        try:
            if self._services.quick:
                picked, stored = service.begin(user, question.prompt, texts, **options)
            else:
                picked, stored = await asyncio.to_thread(service.begin, user, question.prompt, texts, **options)
            await _stored(stored)
        except JournalError:
            self._meters.served.labels("nothing").inc()
            return None, "the journal could not be written: the first candidate was served, unscored, and is not logged"
        except InputError as error:
            if error.where.startswith(("rule", "scores")):
                raise wrong("bestfor.rule", f"found {error.found}; expected {error.expected}") from None
            raise
        self._meters.served.labels(picked.served).inc()
        means = picked.scores.mean.tolist()
        self._meters.margin.observe(max(0.0, means[picked.index] - sum(means) / len(means)))
        return picked, ""

    def _count(self, question: Question, batch: Batch) -> None:
        for outcome, count in (("came", len(batch.came)), ("failed", len(batch.faults)), ("late", batch.late)):
            if count:
                self._meters.became[outcome].inc(count)
        self._limits.tokens(question.caller.tenant, _completion_tokens(batch.usage) or 0)

    def _compose(
        self,
        question: Question,
        batch: Batch,
        competing: tuple[Came, ...],
        picked: ServedAnswer | None,
        failure: str,
    ) -> Answered:
        """Make OpenAI's answer: all that the upstream said of the chosen choice, and our own key."""
        order = _order(competing, picked)
        chosen = order[0]
        self._meters.chosen.observe(_place(batch, chosen))
        body = {name: value for name, value in chosen.answer.items() if name not in ("choices", "usage")}
        known = {id(one) for one in order}
        best = [*order, *(one for one in batch.came if id(one) not in known)][: question.wish.returned]
        body["choices"] = [{**one.choice, "index": place} for place, one in enumerate(best)]
        if batch.usage is not None:
            body["usage"] = dict(batch.usage)
        headers = {} if picked is None else {"X-Bestfor-Answer": picked.id}
        detail = question.wish.detail
        if detail != "off":
            told = self._told(question, batch, picked, failure)
            if detail == "full":
                told |= _full(question, batch, competing, chosen, picked)
            if question.wish.candidates:
                told["candidates"] = _candidates(batch, competing, picked)
            body["bestfor"] = told
        return Answered(body, headers)

    def _told(self, question: Question, batch: Batch, picked: ServedAnswer | None, failure: str) -> dict[str, Any]:
        """Say in short what was done."""
        notes = [*question.notes, *(() if picked is None else picked.notes), *([failure] if failure else [])]
        missing = question.wish.n - len(batch.came)
        if missing > 0:
            reasons = sorted({one.message for one in batch.faults})[:3]
            notes.append(
                f"{missing} of {question.wish.n} candidates did not come: {'; '.join(reasons) or 'not waited for'}"
            )
        return {
            "answer_id": None if picked is None else picked.id,
            "user": question.user,
            "served": "nothing" if picked is None else picked.served,
            "n": question.wish.n,
            "received": len(batch.came),
            "feedback_url": None if picked is None else self.link(question, picked.id),
            "notes": notes,
        }

    def link(self, question: Question, answer: str) -> str:
        """Make the signed link of an answer."""
        expires = int(time.time() + 86_400 * self._config.links.days)
        return question.links + sign(AnswerLink(question.caller.tenant, answer, expires), self._access.seen)


def new_id() -> str:
    """Make an answer's id: the time in milliseconds first, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


async def _stored(stored: Future[None]) -> None:
    """Wait until an answer is in the journal; the writer's thread is not stopped where this task is cancelled."""
    if stored.done():
        stored.result()
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def done(_: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(wake)

    stored.add_done_callback(done)
    await waiter
    stored.result()


def _order(competing: tuple[Came, ...], picked: ServedAnswer | None) -> list[Came]:
    """Order candidates: the chosen one, then the others by their rewards, equal texts behind all that differ."""
    if picked is None:
        return list(competing)
    texts: dict[str, Came] = {}
    for one in competing:
        texts.setdefault(one.text, one)
    distinct = list(texts.values())
    means = picked.scores.mean.tolist()
    ranked = sorted(range(len(distinct)), key=lambda place: (place != picked.index, -_or_last(means[place]), place))
    first = [distinct[place] for place in ranked]
    known = {id(one) for one in first}
    return [*first, *(one for one in competing if id(one) not in known)]


def _or_last(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _full(
    question: Question, batch: Batch, competing: tuple[Came, ...], chosen: Came, picked: ServedAnswer | None
) -> dict[str, Any]:
    """Say all: rewards and chances of every candidate in the order of arrival, null where it did not compete."""
    said: dict[str, Any] = {
        "rule": "none" if picked is None else picked.rule,
        "chosen": _place(batch, chosen),
        "tokens": _completion_tokens(batch.usage),
        "requests": batch.requests,
    }
    if picked is None:
        return said | {"rewards": None, "stds": None, "chances": None, "expected_gain": None}
    columns = _columns(batch, competing, picked)
    means = picked.scores.mean.tolist()
    gain = sum(map(operator.mul, picked.chances.tolist(), means)) - sum(means) / len(means)
    return said | {
        "rewards": [one["reward"] for one in columns],
        "stds": None if picked.scores.std is None else [one["std"] for one in columns],
        "chances": [one["chance"] for one in columns],
        "expected_gain": _number(gain),
    }


def _columns(batch: Batch, competing: tuple[Came, ...], picked: ServedAnswer) -> list[dict[str, float | None]]:
    """List reward, deviation and chance of each candidate that came; equal texts share one chance."""
    copies = Counter(one.text for one in competing)
    means, chances = picked.scores.mean.tolist(), picked.chances.tolist()
    stds = [None] * len(means) if picked.scores.std is None else picked.scores.std.tolist()
    nothing: dict[str, float | None] = {"reward": None, "std": None, "chance": None}
    rows: dict[str, dict[str, float | None]] = {}
    for place, (text, count) in enumerate(copies.items()):
        std = stds[place]
        rows[text] = {
            "reward": _number(means[place]),
            "std": None if std is None else _number(std),
            "chance": _number(chances[place] / count),
        }
    known = {id(one) for one in competing}
    return [rows[one.text] if id(one) in known else nothing for one in batch.came]


def _candidates(batch: Batch, competing: tuple[Came, ...], picked: ServedAnswer | None) -> list[dict[str, Any]]:
    """List all candidates that came, for clients that asked for them."""
    nothing: dict[str, float | None] = {"reward": None, "std": None, "chance": None}
    columns = [nothing] * len(batch.came) if picked is None else _columns(batch, competing, picked)
    return [
        {"index": place, "text": one.text, "finish_reason": one.choice.get("finish_reason"), **row}
        for place, (one, row) in enumerate(zip(batch.came, columns, strict=True))
    ]


def _place(batch: Batch, chosen: Came) -> int:
    return next(place for place, one in enumerate(batch.came) if one is chosen)


def _number(value: float) -> float | None:
    return round(value, 9) if math.isfinite(value) else None


def _completion_tokens(usage: Mapping[str, Any] | None) -> int | None:
    count = None if usage is None else usage.get("completion_tokens")
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 1 << 62 else None


def _chat_prompt(body: Mapping[str, Any]) -> str:
    """Read what the user asked: the text of the last user turn.

    Raises:
        ApiError: no messages.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "expected a list of at least one message")
    for place, one in enumerate(messages):
        if not isinstance(one, Mapping) or not isinstance(one.get("role"), str):
            raise wrong(f"messages[{place}]", "expected an object with a role")
    last = next((one for one in reversed(messages) if one["role"] == "user"), messages[-1])
    return turn_text(last.get("content"))


def _text_prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if not isinstance(prompt, str):
        raise wrong("prompt", "expected one text (several prompts are several requests)")
    return prompt


def _check_stream(body: Mapping[str, Any]) -> None:
    if body.get("stream") not in (None, True, False):
        raise wrong("stream", "expected true or false")
    options = body.get("stream_options")
    if options is None:
        return
    if not body.get("stream"):
        raise ApiError(400, "stream_options: expected only where stream is true", param="stream_options")
    if not isinstance(options, Mapping):
        raise wrong("stream_options", "expected an object")
