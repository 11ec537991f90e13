"""Parse the options of a reward model; a wrong one is one line that names the nearest key and shows no secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from bestfor.errors import InputError, nearest

_ADDRESSES = ("endpoint", "base_url")
"""Keys whose value may hold a password."""


def parse_options(config: type[BaseModel], where: str, options: dict[str, Any]) -> BaseModel:
    """Build a configuration; errors are one line and name the nearest key.

    Raises:
        InputError: an unknown key or a value that the field does not take.
    """
    try:
        return config(**options)
    except ValidationError as error:
        wrong = wrong_option(error, config)
        table = f", {wrong.table}" if wrong.table else ""
        place = f", key '{wrong.place}'" if wrong.key else table
        expected = wrong.expected[0].lower() + wrong.expected[1:]
        # What pydantic says repeats its input, which may hold a password.
        raise InputError(f"reward '{where}'{place}", wrong.found, expected) from None


@dataclass(frozen=True)
class WrongOption:
    """The first option that is wrong.

    Attributes:
        table: the table within the options that holds the key, such as ``endpoint``; "" for the options themselves.
        key: the key, "" where the key itself is what is wrong.
        found: what was found.
        expected: what would have been right.
    """

    table: str
    key: str
    found: str
    expected: str

    @property
    def place(self) -> str:
        """Table and key, joined by a dot."""
        return ".".join(part for part in (self.table, self.key) if part)


def wrong_option(error: ValidationError, model: type[BaseModel]) -> WrongOption:
    """Choose one error out of several: a misspelt key explains the one that is missing.

    Args:
        error: what pydantic says.
        model: the configuration that was to be built.
    """
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    table, key = ".".join(path[:-1]), path[-1] if path else ""
    if first["type"] == "extra_forbidden":
        return WrongOption(table, "", f"unknown key '{key}'", nearest(key, _table_at(model, path[:-1]).model_fields))
    if first["type"] == "missing":
        return WrongOption(table, "", f"no '{key}'", "it to be given")
    shown = "another kind of value" if key in _ADDRESSES else repr(first.get("input"))
    return WrongOption(table, key, shown, first["msg"].removeprefix("Value error, ").removeprefix("Input should be "))


def _table_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The configuration of the table at a path of keys."""
    for key in path:
        field = model.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return model
