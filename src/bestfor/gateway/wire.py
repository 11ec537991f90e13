"""Read and write JSON bodies: lone surrogates pass, NaN does not, and nothing too deep or too long is parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from bestfor.errors import InputError
from bestfor.gateway.errors import ApiError, wrong
from bestfor.validation import WrongKey, validated


class Json(Response):
    """A JSON response whose text may hold anything that JSON can."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - JSON
        """Write the body."""
        return dump(content)


def dump(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """Write JSON; half a surrogate pair, as servers cut them, is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def parse(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Read JSON; numbers that are none are null.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(data, parse_constant=lambda name: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def header_text(value: str) -> str:
    """Read a header as UTF-8 where it is, so that an id is the same in a header and in a body."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


async def read_object(request: Request) -> dict[str, Any]:
    """Read a request's body.

    Raises:
        ApiError: another content type (a page of another site can send those), or no JSON object.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        said = f"Content-Type: found '{kind[:60]}'; expected application/json"
        raise ApiError(415, said, param="Content-Type")
    try:
        body = parse(await request.body())
    except ValueError as error:
        raise ApiError(400, f"body: found no JSON ({str(error)[:80]}); expected an object", param="body") from None
    if not isinstance(body, dict):
        raise ApiError(400, "body: found JSON that is no object; expected an object", param="body")
    return body


def read_model(kind: type[BaseModel], body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an object of the kind
    """Check a body.

    Raises:
        ApiError: the first field that is wrong, named.
    """
    try:
        return validated(kind, dict(body), lambda key: InputError(_field(key), key.found, key.expected))
    except InputError as error:
        raise wrong(error.where, f"found {error.found}; expected {error.expected}") from None


def _field(key: WrongKey) -> str:
    """Name the field that is wrong: an unknown or a missing one is named by what was found."""
    named = re.search(r"'([^']+)'", key.found)
    return key.place or (named[1] if named else "body")


def turn_text(content: object) -> str:
    """Read a turn's text, given as text or as parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(one.get("text") or "") for one in parts if isinstance(one, Mapping))
