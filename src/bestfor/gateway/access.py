"""Admit requests: API keys and their tenants, the loopback that needs none, and limits of each tenant."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from bestfor.gateway.config import GatewayConfig, LimitsTable, is_loopback
from bestfor.gateway.errors import ApiError
from bestfor.gateway.keys import KeyFile, KeyRing

WHERE = "Authorization"
"""The field of a request that its key stands in."""


@dataclass(frozen=True)
class Caller:
    """Sender of a request.

    Attributes:
        tenant: whose users it reaches.
        admin: whether it may read and remove users.
    """

    tenant: str
    admin: bool


class Access:
    """Admits requests.

    Args:
        config: the address that is listened on, and limits.
        keys: API keys.
    """

    def __init__(self, config: GatewayConfig, keys: KeyFile) -> None:
        self._loopback, self._keys = config.loopback, keys
        self.limits = Limits(config.limits, config.tenants)

    @property
    def ring(self) -> KeyRing:
        """API keys and signing secrets as they are now."""
        return self._keys.ring()

    @property
    def seen(self) -> KeyRing:
        """API keys and signing secrets as they were at the last look."""
        return self._keys.seen

    def admit(self, request: Request, *, admin: bool = False, counted: bool = False) -> Caller:
        """Say who a request is from.

        Args:
            request: of anybody.
            admin: whether only an admin key will do.
            counted: whether it counts towards the tenant's limits.

        Raises:
            ApiError: no key or a wrong one (401), one that may not do this (403), or too many requests (429).
        """
        ring = self.ring
        if not ring.keys and self._loopback:
            _check_host(request)
            caller = Caller("", True)
        else:
            caller = _known(request, ring)
        if admin and not caller.admin:
            raise ApiError(
                403, "this needs an admin key (bestfor keys add --admin)", param=WHERE, code="admin_required"
            )
        if counted:
            self.limits.request(caller.tenant)
        return caller


class Limits:
    """Requests and tokens of each tenant by the minute, as buckets that fill at a constant rate.

    Args:
        usual: limits of tenants that have none of their own.
        own: limits of single tenants.
    """

    def __init__(self, usual: LimitsTable, own: Mapping[str, LimitsTable]) -> None:
        self._usual, self._own = usual, own
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def request(self, tenant: str) -> None:
        """Count a request.

        Raises:
            ApiError: there were too many (429, with ``Retry-After``).
        """
        table = self._own.get(tenant, self._usual)
        if table.tokens_per_minute is not None:
            self._take((tenant, "tokens"), table.tokens_per_minute, 0.0)
        if table.requests_per_minute is not None:
            self._take((tenant, "requests"), table.requests_per_minute, 1.0)

    def tokens(self, tenant: str, count: int) -> None:
        """Count the tokens of an answer; where they are more than are left, later requests wait."""
        table = self._own.get(tenant, self._usual)
        if table.tokens_per_minute is not None and count:
            with self._lock:
                level = self._level((tenant, "tokens"), table.tokens_per_minute)
                self._buckets[tenant, "tokens"] = (level - count, time.monotonic())

    def _level(self, name: tuple[str, str], most: int) -> float:
        level, then = self._buckets.get(name, (float(most), time.monotonic()))
        return min(float(most), level + (time.monotonic() - then) * most / 60)

    def _take(self, name: tuple[str, str], most: int, count: float) -> None:
        with self._lock:
            level = self._level(name, most)
            if level < max(count, 1.0):
                wait = math.ceil((max(count, 1.0) - level) * 60 / most)
                said = f"more than {most} {name[1]} a minute; try again in {wait} s"
                raise ApiError(429, said, code="rate_limit_exceeded", headers={"Retry-After": str(wait)})
            self._buckets[name] = (level - count, time.monotonic())


def _known(request: Request, ring: KeyRing) -> Caller:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise _refused(401, "no API key: expected 'Authorization: Bearer KEY'", "missing_api_key")
    key = ring.find(given.strip())
    if key is None:
        raise _refused(401, "an API key that is not known here", "invalid_api_key")
    return Caller(key.tenant, key.role == "admin")


def _refused(status: int, said: str, code: str) -> ApiError:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return ApiError(status, said, param=WHERE, code=code, headers=headers)


def _check_host(request: Request) -> None:
    """Refuse a page of another site that had its name lead here: without keys only this machine's names are taken."""
    host = request.headers.get("host", "").rsplit("@", 1)[-1]
    name = host[: host.rindex(":")] if host.rpartition(":")[2].isdecimal() and ":" in host else host
    if not is_loopback(name):
        said = "Host: found a name that is not this machine's; without API keys only 127.0.0.1 and localhost are served"
        raise ApiError(403, said, param="Host", code="host_not_allowed")
