"""Parse a server's address, keep its secrets out of texts, and read the key from the environment."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from bestfor.errors import InputError

OPENAI = "https://api.openai.com/v1"
LOCAL = "local:"
"""Stands before the name of a model on this machine, in the place of an address."""
HIDDEN = "***"
_OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Address:
    """Address of a server, its secrets apart.

    Attributes:
        url: scheme, host, port and path: what is asked.
        shown: the same with a hint at credentials and query values, which are replaced: what may be written anywhere.
        query: query parameters of the address, sent with every request.
        login: ``user:password`` of the address, "" where it has none.
    """

    url: str
    shown: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: str = field(default="", repr=False)

    @property
    def local(self) -> bool:
        """True where it stands for a server that is started here."""
        return self.url.startswith(LOCAL)

    @property
    def here(self) -> bool:
        """True where the server is this machine: asking it costs nothing but time."""
        return self.local or is_loopback(urlsplit(self.url).hostname or "")

    @property
    def server(self) -> tuple[object, ...]:
        """Parts of the address that tell servers apart: two ways to write one address are one server."""
        parts = urlsplit(self.url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port, parts.path, tuple(sorted(self.query.items())), self.login

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """Parse an address.

        Raises:
            InputError: no http address, or one whose credentials were replaced when it was written down.
        """
        if base_url.startswith(LOCAL):
            if not base_url.removeprefix(LOCAL).partition("?")[0]:
                raise InputError("base_url", f"'{base_url}'", "a model's name, as in 'local:smollm2'")
            return cls(base_url, base_url)
        expected = "an address such as 'http://127.0.0.1:8000/v1', or a model on this machine, 'local:NAME'"
        try:
            parts = urlsplit(base_url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise InputError("base_url", "what is no address", expected) from None
        if not fine:
            raise InputError("base_url", repr(redact(base_url)), expected)
        if HIDDEN in parts.netloc or HIDDEN in unquote(parts.query):
            raise InputError("base_url", f"'{redact(base_url)}', whose secrets were left out", "them in its place")
        host = parts.netloc.rpartition("@")[2]
        login = ":".join((unquote(parts.username or ""), unquote(parts.password or ""))) if "@" in parts.netloc else ""
        url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        return cls(url, redact(base_url), dict(parse_qsl(parts.query)), login)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by name or number."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def redact(base_url: str) -> str:
    """Redact an address: credentials and query values are replaced, a fragment is dropped; a local one has none."""
    if base_url.startswith(LOCAL):
        return base_url
    try:
        parts = urlsplit(base_url)
    except ValueError:
        return HIDDEN
    before, at, host = parts.netloc.rpartition("@")
    if not parts.netloc and "@" in base_url:
        return HIDDEN
    query = "&".join(f"{quote(name)}={HIDDEN}" for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    netloc = f"{HIDDEN if before else ''}{at}{host}"
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path.rstrip("/"), query, ""))


class Secrets:
    """Credentials of a client, read from the environment, and the means to keep them out of texts.

    Without a variable's name only OpenAI's own address is sent ``OPENAI_API_KEY``: a key belongs to one server, and no
    other gets it by accident.

    Args:
        key_env: the environment variable that holds the key; "" for the above.
        address: whose key it is.

    Raises:
        InputError: the variable is not set, or holds what cannot be a key; the value is not shown.
    """

    def __init__(self, key_env: str, address: Address) -> None:
        name = key_env or (_OPENAI_KEY if address.url == OPENAI else "")
        self._key = os.environ.get(name, "").strip() if name else ""
        where = f"environment variable {name}"
        if name and not self._key:
            raise InputError(where, "no key", f"the key of {address.shown}")
        if not re.fullmatch(r"[!-~]*", self._key):
            raise InputError(where, "a key with a blank or an unprintable character", f"the key of {address.shown}")
        self._login = address.login
        self._hidden = _spellings(self._key, self._login, address.query)

    def __repr__(self) -> str:
        return f"Secrets({'a key' if self._key else 'no key'})"

    @property
    def key(self) -> str:
        """Key that the client sends as bearer token; servers that ask for none ignore it."""
        return self._key or "none"

    @property
    def headers(self) -> dict[str, str]:
        """Headers beyond the bearer token: credentials of the address take its place."""
        if not self._login:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(self._login.encode()).decode()}

    def scrub(self, text: str) -> str:
        """Remove every spelling of the secrets from a text."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return text


def _spellings(key: str, login: str, query: Mapping[str, str]) -> list[str]:
    """List secrets as servers and libraries may repeat them, longest first; words under 4 letters are left alone."""
    password = login.partition(":")[2]
    plain = {key, login, password, *query.values()} - {""}
    encoded = {quote(word, safe="") for word in plain} | {urlencode({"": word})[1:] for word in plain}
    coded = {base64.b64encode(word.encode()).decode() for word in (key, login) if word}
    return sorted((word for word in plain | encoded | coded if len(word) >= 4), key=len, reverse=True)
