"""Find out who the user of a request is.

In this order: a verified claim of a signed token, a header of a trusted proxy, ``X-Bestfor-User``, ``user``,
``safety_identifier``, ``metadata.user_id``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.gateway.config import UsersTable
from bestfor.gateway.errors import ApiError, wrong
from bestfor.gateway.wire import header_text
from bestfor.serving.names import NOBODY as NOBODY

LONGEST = 512
"""Characters of an id at most."""
IDENTIFYING = ("user", "safety_identifier", "metadata")


class Identity:
    """Reads the user's id off a request.

    Args:
        table: what is trusted.

    Raises:
        InputError: the secret or the key of tokens is not there.
        MissingExtraError: tokens without pyjwt.
    """

    def __init__(self, table: UsersTable) -> None:
        self._table = table
        self._key: str | None = None
        if table.jwt_key_env or table.jwt_key_file:
            self._jwt = require("jwt", "serve")
            self._key = _key_of(table)

    def user(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
        """Find the user; None where nobody says who it is.

        Args:
            headers: of the request, found whatever their case.
            body: of the request.

        Raises:
            ApiError: a token that is not valid (401), or an id that cannot be one (400, the field named).
        """
        claimed = self._claimed(headers)
        if claimed is not None:
            return check_user(self._table.jwt_header, claimed)
        for name in (self._table.header, "X-Bestfor-User"):
            if name and headers.get(name):
                return check_user(name, header_text(headers[name]))
        for name in ("user", "safety_identifier"):
            if body.get(name) not in (None, ""):
                return check_user(name, body[name])
        metadata = body.get("metadata")
        found = metadata.get("user_id") if isinstance(metadata, Mapping) else None
        return None if found in (None, "") else check_user("metadata.user_id", found)

    def _claimed(self, headers: Mapping[str, str]) -> object:
        table, token = self._table, headers.get(self._table.jwt_header, "")
        if self._key is None or not token:
            return None
        token = token.removeprefix("Bearer ").strip()
        required = ["exp", table.jwt_claim]
        try:
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=list(table.jwt_algorithms),
                audience=table.jwt_audience or None,
                issuer=table.jwt_issuer or None,
                options={"require": required, "verify_aud": bool(table.jwt_audience)},
            )
        except self._jwt.PyJWTError as error:
            said = f"{table.jwt_header}: a token that is not valid ({type(error).__name__})"
            raise ApiError(401, said, param=table.jwt_header, code="invalid_token") from None
        return claims[table.jwt_claim]


def check_user(where: str, value: object) -> str:
    """Check a user's id.

    Raises:
        ApiError: no text, too long, or with characters that no id may hold.
    """
    if not isinstance(value, str) or not value:
        raise wrong(where, "expected the user's id, a text that is not empty")
    if len(value) > LONGEST:
        raise wrong(where, f"an id of {len(value)} characters; expected {LONGEST} at most")
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) <= 0xDFFF or ord(sign) == 127 for sign in value):
        raise wrong(where, "an id with a control character or a lone surrogate; expected a text without")
    return value


def _key_of(table: UsersTable) -> str:
    if table.jwt_key_file:
        try:
            return Path(table.jwt_key_file).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError("users.jwt_key_file", f"no file '{table.jwt_key_file}'", "a public key") from error
    key = os.environ.get(table.jwt_key_env, "")
    if not key:
        raise InputError(f"environment variable {table.jwt_key_env}", "nothing", "the secret of users.jwt_key_env")
    return key
