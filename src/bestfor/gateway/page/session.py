"""Let an admin's browser in: a signed cookie after the key was given once, and a token for each form.

cookie = base64url(JSON [key id, expires, nonce]) + "." + base64url(HMAC-SHA256(secret, that)); the token of forms is
the HMAC of the cookie. A key that was revoked lets nobody in any more, whatever cookies are left. On loopback without
any key the cookie serves the forms' token alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from bestfor.gateway.access import Access, Caller
from bestfor.gateway.errors import ApiError
from bestfor.gateway.keys import KeyRing

COOKIE = "bestfor_session"
LIFE = 12 * 3600
"""Seconds that a browser is let in for."""
LONGEST = 1024


@dataclass(frozen=True)
class Session:
    """A browser that was let in.

    Attributes:
        caller: whose users it sees.
        cookie: as the browser holds it.
        token: stands in each form of its pages.
        fresh: whether the browser does not have the cookie yet.
    """

    caller: Caller
    cookie: str
    token: str
    fresh: bool

    def put(self, response: Response, *, secure: bool) -> None:
        """Give the cookie to a browser that does not have it."""
        if self.fresh:
            response.set_cookie(
                COOKIE, self.cookie, max_age=LIFE, httponly=True, samesite="strict", secure=secure, path="/"
            )


def open_session(access: Access, request: Request) -> Session | None:
    """Find a browser's session; None where it has to give a key first.

    Raises:
        ApiError: a page of another site (403).
    """
    ring, cookie = access.ring, request.cookies.get(COOKIE, "")
    known = _read(cookie, ring)
    if not ring.keys:
        # Without keys this is a loopback; `admit` refuses names that are not this machine's.
        caller = access.admit(request, admin=True)
        made = cookie if known == "" else _make("", ring)
        return Session(caller, made, _token(made, ring), made != cookie)
    key = ring.keys.get(known or "")
    if key is None or key.role != "admin":
        return None
    return Session(Caller(key.tenant, True), cookie, _token(cookie, ring), False)


def begin_session(access: Access, given: str) -> Session | None:
    """Let a browser in whose form held an admin key; None for any other."""
    ring = access.ring
    key = ring.find(given.strip())
    if key is None or key.role != "admin":
        return None
    cookie = _make(key.id, ring)
    return Session(Caller(key.tenant, True), cookie, _token(cookie, ring), True)


def check_token(session: Session, given: str) -> None:
    """Refuse a form that no page of this session held.

    Raises:
        ApiError: another token (403).
    """
    if not hmac.compare_digest(session.token.encode(), given.encode(errors="replace")):
        raise ApiError(403, "csrf: found a form of another page; expected one of this page", param="csrf")


def _make(key: str, ring: KeyRing) -> str:
    payload = _encode(json.dumps([key, int(time.time()) + LIFE, secrets.token_hex(8)]).encode())
    return f"{payload}.{_encode(_mac(ring.signing[0], 'session', payload))}"


def _read(cookie: str, ring: KeyRing) -> str | None:
    """Read the key's id of a cookie; None where nobody here signed it, or where it has expired."""
    payload, _, mac = cookie.partition(".")
    if len(cookie) > LONGEST or not mac:
        return None
    try:
        given = base64.urlsafe_b64decode(mac + "=" * (-len(mac) % 4))
        if not any([hmac.compare_digest(_mac(secret, "session", payload), given) for secret in ring.signing]):
            return None
        key, expires, _ = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return None
    return str(key) if time.time() < expires else None


def _token(cookie: str, ring: KeyRing) -> str:
    return _encode(_mac(ring.signing[0], "form", cookie))


def _mac(secret: bytes, purpose: str, text: str) -> bytes:
    return hmac.new(secret, f"bestfor {purpose} {text}".encode(errors="replace"), "sha256").digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
