"""Send requests to several servers of one model: a user's stay together, a sick server is left out until it is well.

The server of a request is chosen by rendezvous hashing of the user (Thaler and Ravishankar, 1998), so that servers
which keep the prefixes of prompts meet a user's prompts again, whichever servers come or go. No server gets more than
1.25 times its share of what is under way (bounded loads; Mirrokni, Thorup and Zadimoghaddam, 2018).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bestfor.endpoint.budget import Usage
from bestfor.endpoint.client import Endpoint, EndpointConfig
from bestfor.endpoint.failures import BudgetSpentError, EndpointError, RefusedError
from bestfor.errors import InputError
from bestfor.files import hash_json

T = TypeVar("T")
_SHARE = 1.25
_LONGEST = 30.0
_LOST = 3


@dataclass
class Server:
    """One server of a group, and how it fares.

    Attributes:
        endpoint: asks it, once a request.
        busy: requests under way.
        until: time of the loop before which it is left out.
        lost: requests without an answer since the last answer.
        aside: how often it was left out.
        answered: whether it ever answered.
    """

    endpoint: Endpoint
    busy: int = 0
    until: float = 0.0
    lost: int = 0
    aside: int = 0
    answered: bool = False

    @property
    def shown(self) -> str:
        """Its address without secrets."""
        return self.endpoint.address.shown

    @property
    def hopeless(self) -> bool:
        """True where it never answered, or not for three requests."""
        return self.lost >= _LOST or (self.lost > 0 and not self.answered)

    def answer(self) -> None:
        """Note an answer."""
        self.lost, self.until, self.answered = 0, 0.0, True

    def fail(self, now: float, error: EndpointError) -> None:
        """Leave it out for a while: as long as it asks for, and longer with each failure."""
        self.lost, self.aside = self.lost + 1, self.aside + 1
        wait = self.endpoint.config.backoff * 2.0 ** (self.lost - 1)
        # A wrong key or an unknown model does not mend by itself.
        wait = _LONGEST if error.status in (401, 402, 404, 405) else min(wait, _LONGEST)
        self.until = max(now + wait, self.endpoint.held_until)


class EndpointGroup(Endpoint):
    """Connection to several servers that serve the same model; used as one :class:`Endpoint`.

    Limits of the configuration hold for all servers together: concurrency, budget, patience and retries, where a retry
    goes to another server at once if one is well.

    Args:
        config: the servers, ``base_url`` and ``also``.
        earlier: what has been spent of the budget before.

    Raises:
        InputError: one server alone, or the key's variable is named and not set.
        MissingExtraError: openai is not installed.
    """

    def __init__(self, config: EndpointConfig, earlier: Usage | None = None) -> None:
        super().__init__(config, earlier)
        urls = [config.base_url, *config.also]
        if len(urls) < 2:
            raise InputError("endpoint, also", "one server alone", "addresses of other servers")
        single = replace(config, also=(), retries=0)
        self.servers = [Server(Endpoint(replace(single, base_url=url), account=self._account)) for url in urls]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on servers that were left out, for a reader of the results."""
        return tuple(
            f"server {one.shown} was left out {one.aside} times, its requests went to others"
            for one in self.servers
            if one.aside
        )

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do asynchronous work on the connection's own thread, as :meth:`Endpoint.run`."""
        with self._opening:
            for one in self.servers:
                one.endpoint.join(self._thread)
        return super().run(work)

    def close(self) -> None:
        """Close the connections and end the thread; a later request opens them again."""
        for one in self.servers:
            one.endpoint.leave()
        super().close()

    async def post(self, path: str, body: Mapping[str, Any], *, most: int, near: str = "") -> dict[str, Any]:
        """Send one request to one server, and to another where that one fails.

        Args:
            path: as for :meth:`Endpoint.post`; likewise what is returned and raised.
            body: likewise.
            most: likewise.
            near: requests of one name go to one server, as long as it is well and not too busy; "" to the least busy.
        """
        clock = asyncio.get_running_loop().time
        began, attempt = clock(), 0
        while True:
            async with self._slots:
                server = choose(self.servers, near, clock())
                server.busy += 1
                try:
                    answer = await server.endpoint.post(path, body, most=most)
                    server.answer()
                    return answer
                except (RefusedError, BudgetSpentError):
                    raise
                except EndpointError as error:
                    server.fail(clock(), error)
                    failed = error
                finally:
                    server.busy -= 1
            attempt += 1
            wait = max(min(one.until for one in self.servers) - clock(), 0.0)
            if attempt > self.config.retries or clock() + wait - began > self.config.patience:
                raise self._final_error(failed, attempt)
            await asyncio.sleep(wait)

    def _final_error(self, error: EndpointError, attempts: int) -> EndpointError:
        sick = [one for one in self.servers if one.hopeless]
        said = f"{error} ({attempts} attempts, {len(sick)} of {len(self.servers)} servers do not answer)"
        return EndpointError(said, hopeless=len(sick) == len(self.servers), status=error.status)


def choose(servers: Sequence[Server], near: str, now: float) -> Server:
    """Choose the server of a request.

    Args:
        servers: all of them.
        near: name of what stays together, "" for nothing.
        now: servers whose ``until`` is later are left out; where all are, the first that comes back is taken.
    """
    well = [one for one in servers if one.until <= now]
    if not well:
        return min(servers, key=lambda one: one.until)
    most = math.ceil(_SHARE * (sum(one.busy for one in well) + 1) / len(well))
    if near:
        for one in sorted(well, key=lambda one: hash_json([near, one.endpoint.address.url])):
            if one.busy < most:
                return one
    return min(well, key=lambda one: one.busy)


def connect(config: EndpointConfig, earlier: Usage | None = None) -> Endpoint:
    """Open the connection that a configuration describes: to one server, or to several.

    Raises:
        InputError: as :class:`Endpoint` and :class:`EndpointGroup`.
        MissingExtraError: openai is not installed.
    """
    return EndpointGroup(config, earlier) if config.also else Endpoint(config, earlier)
