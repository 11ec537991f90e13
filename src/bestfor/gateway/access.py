"""Admit requests: API keys and their tenants, and the loopback that needs none."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from bestfor.endpoint.address import is_loopback
from bestfor.gateway.config import GatewayConfig
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
        config: the address that is listened on.
        keys: API keys.
    """

    def __init__(self, config: GatewayConfig, keys: KeyFile) -> None:
        self._loopback, self._keys = config.loopback, keys

    @property
    def ring(self) -> KeyRing:
        """API keys and signing secrets as they are now."""
        return self._keys.ring()

    @property
    def seen(self) -> KeyRing:
        """API keys and signing secrets as they were at the last look."""
        return self._keys.seen

    def admit(self, request: Request, *, admin: bool = False) -> Caller:
        """Say who a request is from.

        Args:
            request: of anybody.
            admin: whether only an admin key will do.

        Raises:
            ApiError: no key or a wrong one (401), or one that may not do this (403).
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
        return caller


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
