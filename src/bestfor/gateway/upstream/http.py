"""Ask an OpenAI-compatible server for candidates: one request with n where it honours n, several otherwise."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from bestfor.endpoint.address import Address, Secrets
from bestfor.endpoint.choices import Spent, read_choice
from bestfor.endpoint.failures import said_of
from bestfor.gateway.config import UpstreamTable
from bestfor.gateway.upstream.batch import Asked, Batch, Came, Fault, add_usage, failed, late
from bestfor.gateway.upstream.breaker import Breaker
from bestfor.gateway.wire import dump, parse

_WORDS = 300
_LIMITS_N = re.compile(r"(?i)(?<![\w.])['\"`]?n['\"`]?(?![\w.])|\bbest_of\b|multiple (?:choices|completions)")
"""Words of a refusal that is about ``n``."""
_REFUSALS = frozenset((400, 404, 413, 422, 501))
_ANY = 1 << 30
SENT = {"Accept": "application/json", "Content-Type": "application/json"}
_SHORTLY = ClientTimeout(total=5.0)
_RETRIES = 1
"""A connection of the pool that the server had closed is tried again this often."""


@dataclass(frozen=True)
class _Answered:
    """A whole answer and its choices."""

    answer: dict[str, Any]
    came: tuple[Came, ...]
    faults: tuple[Fault, ...]


class HttpUpstream:
    """A server that writes candidates; it learns whether ``n`` is honoured.

    Args:
        table: its address and limits.

    Raises:
        InputError: no address, or no key where one is named.
    """

    def __init__(self, table: UpstreamTable) -> None:
        self._table = table
        self._address = Address.parse(table.base_url)
        self._secrets = Secrets(table.key_env, self._address)
        self.shown = self._address.shown
        # The largest n that was honoured, and the smallest that was not.
        self._works = _ANY if table.n == "yes" else 1
        self._too_many = 2 if table.n == "no" else _ANY
        self._breaker = Breaker(table.failures, table.pause)
        self._session: ClientSession | None = None
        self._urls = {path: self._url(path) for path in ("/chat/completions", "/completions", "/models")}

    def _url(self, path: str) -> URL:
        """Make the whole address of a path once; it holds the address's own query."""
        query = f"?{urlencode(self._address.query)}" if self._address.query else ""
        return URL(self._address.url + path + query, encoded=True)

    def _open(self) -> ClientSession:
        """Give the pool of connections; it belongs to the loop that asks first."""
        if self._session is None:
            key, login = self._secrets.key, self._secrets.headers
            self._session = ClientSession(
                connector=TCPConnector(limit=self._table.connections),
                headers={**SENT, **({} if key == "none" else {"Authorization": f"Bearer {key}"}), **login},
                timeout=ClientTimeout(total=None, sock_connect=min(10.0, self._table.timeout)),
                cookie_jar=DummyCookieJar(),
                # Looked up for every request: only where there is one.
                trust_env=bool(getproxies()),
            )
        return self._session

    async def sample(self, asked: Asked) -> Batch:
        """Get the candidates of one request.

        Where some are enough or a deadline is set, each has a request of its own, since stragglers can only be left
        behind so.
        """
        wait = self._breaker.wait()
        if wait is not None:
            said = f"the upstream was lost {self._table.failures} times in a row and is left alone for now"
            return Batch((), (Fault(503, said, "upstream_unavailable", after=f"{wait:.0f}"),), 0)
        partial = (asked.enough is not None and asked.enough < asked.n) or asked.deadline is not None
        try:
            if asked.n == 1 or (asked.n < self._too_many and not partial):
                return await self._together(asked)
            return await self._apart(asked, asked.n)
        except asyncio.CancelledError:
            self._breaker.left()
            raise

    async def models(self) -> list[dict[str, Any]]:
        """List its models as OpenAI does; empty where it cannot say."""
        try:
            async with self._open().get(self._urls["/models"], timeout=_SHORTLY, allow_redirects=False) as answer:
                listed = parse(await answer.read()).get("data") if answer.status == 200 else None
        except (ClientError, TimeoutError, ValueError, AttributeError):
            return []
        return [dict(one) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []

    async def ready(self) -> str:
        """Say why no candidates are to be had; any answer at all says that it is there."""
        if self._breaker.open:
            return "the upstream was lost several times in a row"
        try:
            async with self._open().get(self._urls["/models"], timeout=_SHORTLY, allow_redirects=False):
                return ""
        except (ClientError, TimeoutError) as error:
            return f"the upstream does not answer ({type(error).__name__})"

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def _together(self, asked: Asked) -> Batch:
        """Ask for all candidates at once, and for those that are missing one by one."""
        first = await self._limited(self._body(asked, asked.n, 0), asked)
        if isinstance(first, Fault):
            if asked.n > self._works and (first.status in _REFUSALS or _about_n(first)):
                return await self._without_n(asked, first)
            return Batch((), (first,))
        found = len(first.came) + len(first.faults)
        if asked.n > 1 and found > 1:
            self._works = max(self._works, asked.n)
        if asked.n == 1 or found > 1:
            return Batch(first.came, first.faults, 1, 0, add_usage([first.answer]))
        self._too_many = 2
        return _joined(first, await self._apart(asked, asked.n - 1, begun=1))

    async def _without_n(self, asked: Asked, refusal: Fault) -> Batch:
        """Try whether a refusal was about ``n``: where one candidate is to be had, so may be the others."""
        one = await self._apart(asked, 1)
        if not one.came:
            return Batch((), (refusal,), 2)
        self._too_many = min(self._too_many, asked.n)
        rest = await self._apart(asked, asked.n - 1, begun=1)
        usages = [{"usage": each.usage} for each in (one, rest) if each.usage is not None]
        requests = one.requests + rest.requests + 1
        return Batch((*one.came, *rest.came), rest.faults, requests, rest.late, add_usage(usages))

    async def _apart(self, asked: Asked, count: int, begun: int = 0) -> Batch:
        """Ask for each candidate by itself; as soon as enough are there, or time is up, the rest is cancelled."""
        clock = asyncio.get_running_loop().time
        until = None if asked.deadline is None else clock() + asked.deadline
        enough = count if asked.enough is None else min(count, asked.enough)
        tasks = [asyncio.create_task(self._post(self._body(asked, 1, begun + place))) for place in range(count)]
        waiting = set(tasks)
        good = 0
        try:
            while waiting and good < enough:
                left = None if until is None else max(0.0, until - clock())
                done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                good += sum(_has_candidates(one.result()) for one in done)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return _gathered([task.result() for task in tasks if task not in waiting], count, len(waiting))

    async def _limited(self, body: dict[str, Any], asked: Asked) -> _Answered | Fault:
        if asked.deadline is None:
            return await self._post(body)
        try:
            async with asyncio.timeout(asked.deadline):
                return await self._post(body)
        except TimeoutError:
            self._breaker.left()
            return late()

    def _body(self, asked: Asked, n: int, place: int) -> dict[str, Any]:
        """Make the body of one request; those of several candidates differ in their seed, where there is one."""
        body = dict(asked.body)
        if self._table.model:
            body["model"] = self._table.model
        if n > 1:
            body["n"] = n
        if place and isinstance(body.get("seed"), int):
            body["seed"] += place
        return {"path": asked.path, **body}

    async def _post(self, body: dict[str, Any]) -> _Answered | Fault:
        path = body.pop("path")
        try:
            async with asyncio.timeout(self._table.timeout):
                found = await self._sent(path, body)
        except TimeoutError:
            found = Fault(
                504, f"no answer from the upstream within {self._table.timeout:g} s", "upstream_timeout", lost=True
            )
        if isinstance(found, Fault) and found.lost:
            self._breaker.lost()
        else:
            self._breaker.good()
        return found

    async def _sent(self, path: str, body: dict[str, Any], tries: int = 0) -> _Answered | Fault:
        try:
            async with self._open().post(self._urls[path], data=dump(body), allow_redirects=False) as answer:
                data = await self._read(answer)
        except ClientConnectorError as error:
            return _unreachable(error)
        except (ServerDisconnectedError, ClientOSError) as error:
            if tries < _RETRIES and not isinstance(error, TimeoutError):
                return await self._sent(path, body, tries + 1)
            return _unreachable(error)
        except ClientError as error:
            return _unreachable(error)
        if data is None:
            return Fault(502, "the upstream's answer is too long to be read", "upstream_too_long", lost=True)
        if answer.status != 200:
            return self._refused(answer, data)
        return self._checked(data)

    async def _read(self, answer: ClientResponse) -> bytes | None:
        """Read an answer; None where it is too long."""
        parts, size = [], 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > self._table.answer_bytes:
                return None
            parts.append(part)
        return b"".join(parts)

    def _refused(self, answer: ClientResponse, data: bytes) -> Fault:
        """Describe an HTTP error by the server's own words, without secrets."""
        status = answer.status
        said = said_of(data.decode(errors="replace"))
        inner = _inner(data)
        line = self._secrets.scrub(" ".join(said.text.split()))[:_WORDS]
        after = answer.headers.get("retry-after")
        if not 400 <= status < 600:
            return Fault(502, f"the upstream answered with HTTP {status}", "upstream_status", lost=True)
        return Fault(
            status,
            f"upstream: {line}" if line else f"upstream: HTTP {status}",
            None if inner.get("code") is None else self._secrets.scrub(str(inner["code"]))[:100],
            self._secrets.scrub(said.parameter)[:100] or None,
            str(inner.get("type") or "")[:100] if isinstance(inner.get("type"), str) else "",
            after,
            lost=status >= 500,
        )

    def _checked(self, data: bytes) -> _Answered | Fault:
        """Check an answer: its choices, and errors that came as answers."""
        try:
            answer = parse(data)
        except ValueError:
            return Fault(502, "the upstream's answer is no whole JSON object", "upstream_torn", lost=True)
        if isinstance(answer, dict) and answer.get("error"):
            return self._error_within(answer)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not all(isinstance(one, Mapping) for one in choices):
            return Fault(502, "the upstream's answer has no choices", "upstream_empty", lost=True)
        spent = Spent.of(answer)
        each = [Came(choice, answer, read_choice(choice, spent)) for choice in choices]
        faults = [(one, failed(one.read)) for one in each]
        scrubbed = tuple(replace(one, message=self._secrets.scrub(one.message)) for _, one in faults if one is not None)
        return _Answered(answer, tuple(one for one, fault in faults if fault is None), scrubbed)

    def _error_within(self, answer: Mapping[str, Any]) -> Fault:
        """Describe an error that came with HTTP 200, by the status that it names itself."""
        error = answer["error"]
        code = error.get("code") if isinstance(error, Mapping) else None
        status = int(str(code)) if str(code).isdecimal() and 400 <= int(str(code)) < 600 else 502
        line = self._secrets.scrub(" ".join(said_of(answer).text.split()))[:_WORDS]
        return Fault(status, f"upstream: {line}", None if code is None else str(code)[:100], lost=status >= 500)


def _has_candidates(found: _Answered | Fault) -> bool:
    return isinstance(found, _Answered) and bool(found.came)


def _gathered(results: Sequence[_Answered | Fault], requests: int, late: int) -> Batch:
    answered = [one for one in results if isinstance(one, _Answered)]
    faults = [one for one in results if isinstance(one, Fault)] + [fault for one in answered for fault in one.faults]
    came = tuple(one for each in answered for one in each.came)
    return Batch(came, tuple(faults), requests, late, add_usage([one.answer for one in answered]))


def _joined(first: _Answered, rest: Batch) -> Batch:
    usages = [{"usage": one} for one in (first.answer.get("usage"), rest.usage) if one is not None]
    faults = (*first.faults, *rest.faults)
    return Batch((*first.came, *rest.came), faults, rest.requests + 1, rest.late, add_usage(usages))


def _about_n(fault: Fault) -> bool:
    """Tell whether a refusal is about asking for several choices at once."""
    return fault.param == "n" or _LIMITS_N.search(fault.message) is not None


def _unreachable(error: ClientError) -> Fault:
    return Fault(502, f"no connection to the upstream ({type(error).__name__})", "upstream_unreachable", lost=True)


def _inner(data: bytes) -> Mapping[str, Any]:
    """Find the object that OpenAI's errors hold; empty where there is none."""
    try:
        body = parse(data)
    except ValueError:
        return {}
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}
