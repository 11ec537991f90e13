"""Read what a request wishes: from a key ``bestfor`` of its body, headers ``X-Bestfor-...``, or defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from bestfor.errors import InputError, nearest
from bestfor.gateway.config import DefaultsTable, Detail
from bestfor.gateway.errors import wrong
from bestfor.selection import named_rule

NAMES = ("n", "rule", "k", "deadline", "candidates", "detail")
HEADERS = {f"X-Bestfor-{name.capitalize()}": name for name in NAMES}


@dataclass(frozen=True)
class Wish:
    """Wishes of a request.

    Attributes:
        n: candidates.
        rule: a rule's name, None for the server's.
        k: so many are enough, None for all.
        deadline: seconds, None for none.
        candidates: whether all candidates are returned.
        detail: how much is said of the pick.
        returned: choices that the client asked for by its own ``n``.
    """

    n: int
    rule: str | None
    k: int | None
    deadline: float | None
    candidates: bool
    detail: Detail
    returned: int = 1


def read_wish(headers: Mapping[str, str], body: Mapping[str, Any], defaults: DefaultsTable) -> Wish:
    """Read a request's wishes; the body goes before headers, both before the defaults.

    Raises:
        ApiError: an unknown key or a value out of range, the field named.
    """
    own = body.get("bestfor")
    if own is not None and not isinstance(own, Mapping):
        raise wrong("bestfor", "expected an object")
    given: dict[str, tuple[str, Any]] = {}
    for header, name in HEADERS.items():
        if header in headers:
            given[name] = (header, _plain(name, headers[header]))
    for name, value in (own or {}).items():
        if name not in NAMES:
            raise wrong(f"bestfor.{name}", f"an unknown key; expected {nearest(str(name), NAMES)}")
        given[name] = (f"bestfor.{name}", value)
    returned = _returned(body.get("n"), defaults.most)
    n = _count(given, "n", max(defaults.n, returned), defaults.most) or 1
    if n < returned:
        raise wrong(given["n"][0], f"{n} candidates for n = {returned} choices; expected {returned} or more")
    k = _count(given, "k", defaults.k, defaults.most)
    return Wish(
        n,
        _rule(given),
        None if k is None else max(min(k, n), returned),
        _deadline(given, defaults.deadline),
        _flag(given, defaults.candidates),
        _detail(given, defaults.detail),
        returned,
    )


def _plain(name: str, text: str) -> Any:  # noqa: ANN401 - a number, a flag or a text
    """Read a header's value as the JSON that it would be."""
    if name in ("n", "k") and text.strip().isdecimal():
        return int(text)
    if name == "candidates":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    if name == "deadline":
        try:
            return float(text)
        except ValueError:
            return text
    return text.strip()


def _returned(value: object, most: int) -> int:
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise wrong("n", f"expected a whole number from 1 to {most}")
    return value


def _count(given: Mapping[str, tuple[str, Any]], name: str, usual: int | None, most: int) -> int | None:
    where, value = given.get(name, ("", None))
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise wrong(where, f"expected a whole number from 1 to {most}")
    return value


def _deadline(given: Mapping[str, tuple[str, Any]], usual: float | None) -> float | None:
    where, value = given.get("deadline", ("", None))
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        raise wrong(where, "expected seconds, above 0 and at most 3600")
    return float(value)


def _rule(given: Mapping[str, tuple[str, Any]]) -> str | None:
    where, value = given.get("rule", ("", None))
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise wrong(where, "expected a rule's name")
        return named_rule(value).name
    except InputError as error:
        raise wrong(where, f"found {error.found}; expected {error.expected}") from None


def _flag(given: Mapping[str, tuple[str, Any]], usual: bool) -> bool:
    where, value = given.get("candidates", ("", None))
    if value is None:
        return usual
    if not isinstance(value, bool):
        raise wrong(where, "expected true or false")
    return value


def _detail(given: Mapping[str, tuple[str, Any]], usual: Detail) -> Detail:
    where, value = given.get("detail", ("", None))
    if value is None:
        return usual
    if value not in get_args(Detail):
        raise wrong(where, f"expected {nearest(str(value), get_args(Detail))}")
    return value
