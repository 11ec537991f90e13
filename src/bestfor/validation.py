"""Translate pydantic's validation errors into one line that names the nearest known key and shows no secret.

Addresses of servers may hold passwords, so no text at or below a key ``endpoint`` or ``base_url`` is repeated, no value
of a table, and no text that looks like an address wherever it stands.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from bestfor.errors import InputError, closest, nearest

ADDRESSES = ("endpoint", "base_url")
"""Keys at or below which a password may stand."""

HIDDEN = "another kind of value"
"""Stands for a value that is not repeated."""

_ADDRESS = re.compile(r"\S*://\S*")
_CHOICE = re.compile(r"[a-z]{1,16}")
_OWN = ("value_error", "assertion_error")
_TABLE = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_LIST = ("tuple_type", "list_type", "set_type")
_TAG = ("union_tag_invalid", "union_tag_not_found")


@dataclass(frozen=True)
class WrongKey:
    """First key that is wrong in a table of options, with what was found and expected.

    Attributes:
        tables: keys and positions that lead to the table that holds the key; empty for the outermost table.
        key: the key whose value is wrong; "" where a key is unknown or missing, or the table as a whole is wrong.
        found: what was found.
        expected: what would have been right.
    """

    tables: tuple[str | int, ...]
    key: str
    found: str
    expected: str

    @property
    def place(self) -> str:
        """Tables and key, joined by dots."""
        return ".".join(str(part) for part in (*self.tables, self.key) if part != "")


def validated(kind: Any, values: Any, error: Callable[[WrongKey], InputError]) -> Any:  # noqa: ANN401 - an object of the kind
    """Check values and build what they describe.

    Args:
        kind: a pydantic model, or any type that pydantic validates.
        values: a mapping of keys to values.
        error: words what is wrong, with its place.

    Raises:
        InputError: what ``error`` makes of the first wrong key.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as found:
        # What pydantic says repeats its input, which may hold a password: it is not chained either.
        raise error(wrong_key(found, kind)) from None


def wrong_key(error: ValidationError, kind: Any) -> WrongKey:  # noqa: ANN401 - a type
    """Choose one error out of several and word it: a misspelt key explains the one that is missing.

    Args:
        error: what pydantic says.
        kind: the type that was to be built.
    """
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    problem, value = first["type"], first.get("input")
    if problem in _TAG:
        path, union, _ = _walk(kind, first["loc"])
        tag = str((first.get("ctx") or {}).get("discriminator", "")).strip("'")
        given = value.get(tag) if isinstance(value, Mapping) else None
        return WrongKey(path, tag, shown(given) if given is not None else "nothing", _tags(union, tag))
    if problem in ("extra_forbidden", "missing"):
        path, table, tag = _walk(kind, first["loc"][:-1])
        key = str(first["loc"][-1])
        if problem == "missing":
            return WrongKey(path, "", f"no '{key}'", "it to be given")
        known = [name for name in _fields(table) if name != tag]
        return WrongKey(path, "", _unknown(key, known, path), nearest(key, known))
    path, _, _ = _walk(kind, first["loc"])
    expected = _expected(problem, first["msg"])
    if problem in _OWN and isinstance(value, Mapping | BaseModel):
        return WrongKey(path, "", "keys that do not fit together", expected)
    tables, key = path[:-1], path[-1] if path else ""
    return WrongKey(tables, str(key), HIDDEN if _hides(tables, key, value, problem) else shown(value), expected)


def shown(value: Any) -> str:  # noqa: ANN401 - whatever was found
    """Show a value in an error, unless it may hold a secret: plain values as they are, others by their kind."""
    if isinstance(value, str):
        return HIDDEN if _ADDRESS.search(value) else repr(value)
    if isinstance(value, Mapping | BaseModel):
        return "a table"
    if isinstance(value, list | tuple | set | frozenset):
        plain = all(isinstance(one, bool | int | float | str) and shown(one) != HIDDEN for one in value)
        return repr(value) if plain else "a list"
    if isinstance(value, date | time):
        return value.isoformat()
    return repr(value) if value is None or isinstance(value, bool | int | float) else HIDDEN


def _secret(path: tuple[str | int, ...]) -> bool:
    return any(part in ADDRESSES for part in path)


def _hides(tables: tuple[str | int, ...], key: str | int, value: Any, problem: str) -> bool:  # noqa: ANN401
    """Decide whether a value is kept out: at an address everything, below it all but numbers and plain words.

    A plain word is repeated only where one of a few was to be chosen: there it is a slip.
    """
    if key in ADDRESSES or "base_url" in tables:
        return True
    number = isinstance(value, bool | int | float)
    word = problem == "literal_error" and isinstance(value, str) and _CHOICE.fullmatch(value)
    return _secret(tables) and not (number or word)


def _unknown(key: str, known: list[str], path: tuple[str | int, ...]) -> str:
    """Name an unknown key; where secrets may stand only one that is nearly a known one."""
    hidden = _ADDRESS.search(key) or (_secret(path) and closest(key, known) is None)
    return "an unknown key" if hidden else f"unknown key '{' '.join(key.split())}'"


def _expected(problem: str, message: str) -> str:
    """Shorten what pydantic expects: its own messages without their beginning, those of validators as they are."""
    if problem in _TABLE:
        return "a table"
    if problem in _OWN:
        own = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return " ".join(_ADDRESS.sub("an address", own).split()) or "another value"
    if problem in _LIST:
        return "a list"
    if problem == "too_short" and message.startswith("Tuple should have "):
        message = message.removeprefix("Tuple should have ").partition(" after")[0]
    message = message.removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _walk(kind: Any, location: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], Any, str]:  # noqa: ANN401 - types
    """Follow a location of pydantic's, in which tags of unions stand too, through the types.

    Returns:
        The location as keys and positions alone, the type that is there, and the key that told the last union's
        members apart, "" where it is no member of such a union.
    """
    path: list[str | int] = []
    tag = ""
    for part in location:
        members = _members(kind)
        if len(members) > 1 and isinstance(part, str):
            kind, tag = _tagged(members, part)
            continue
        # Keys below an address that no table knows are the user's own words.
        known = isinstance(part, int) or part in _fields(kind) or not _secret(tuple(path))
        path.append(part if known else "***")
        kind, tag = _inner(members[0], part), ""
    return tuple(path), kind, tag


def _members(kind: Any) -> list[Any]:  # noqa: ANN401 - a type
    """List a union's members but for None, or the type alone."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for one in get_args(kind) if one is not type(None) for member in _members(one)]
    return [kind]


def _tagged(members: list[Any], tag: str) -> tuple[Any, str]:
    """Find a union's member by its tag, and the field that holds the tag."""
    for member in members:
        for name, field in _fields(member).items():
            if tag in get_args(field.annotation):
                return member, name
    return next((member for member in members if getattr(member, "__name__", "") == tag), Any), ""


def _tags(union: Any, field: str) -> str:  # noqa: ANN401 - a type
    """List the tags of a union in words."""
    tags = [
        str(tag) for one in _members(union) if field in _fields(one) for tag in get_args(_fields(one)[field].annotation)
    ]
    return "one of " + ", ".join(tags)


def _inner(kind: Any, part: str | int) -> Any:  # noqa: ANN401 - types
    """Give the type of a field, a mapping's value or an element of a sequence; Any where nothing is known of it."""
    if part in _fields(kind):
        return _fields(kind)[str(part)].annotation
    inner = [one for one in get_args(kind) if one is not ...]
    if not inner:
        return Any
    return inner[min(part, len(inner) - 1)] if isinstance(part, int) else inner[-1]


def _fields(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type
    members = _members(kind)
    only = members[0] if len(members) == 1 else None
    return only.model_fields if isinstance(only, type) and issubclass(only, BaseModel) else {}
