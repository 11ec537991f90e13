"""Sign links that say what a person thinks of one answer: no API key, one answer only, for a while.

token = base64url(JSON [tenant, answer, expires]) + "." + base64url(HMAC-SHA256(secret, that))
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass

from bestfor.gateway.keys import KeyRing

LENGTH = 2048
"""Longest token that is looked at."""


@dataclass(frozen=True)
class AnswerLink:
    """Content of a link.

    Attributes:
        tenant: whose answer it is.
        answer: its id.
        expires: seconds since 1970.
    """

    tenant: str
    answer: str
    expires: int


def sign(link: AnswerLink, ring: KeyRing) -> str:
    """Make the token of a link."""
    payload = _encode(json.dumps([link.tenant, link.answer, link.expires], separators=(",", ":")).encode())
    return f"{payload}.{_encode(_mac(ring.signing[0], payload))}"


def verify(token: str, ring: KeyRing, now: float) -> AnswerLink | None:
    """Read a token; None where nobody here signed it, or where it has expired."""
    payload, _, mac = token.partition(".")
    if len(token) > LENGTH or not mac:
        return None
    try:
        given = base64.urlsafe_b64decode(mac + "=" * (-len(mac) % 4))
        if not any([hmac.compare_digest(_mac(secret, payload), given) for secret in ring.signing]):
            return None
        tenant, answer, expires = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return None
    return AnswerLink(tenant, answer, expires) if now < expires else None


def _mac(secret: bytes, payload: str) -> bytes:
    return hmac.new(secret, b"bestfor link " + payload.encode(errors="replace"), "sha256").digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
