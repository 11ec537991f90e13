"""Parse the options of a reward model; a wrong one is one line that names the nearest key and shows no secret."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from bestfor.errors import InputError
from bestfor.validation import WrongKey, validated


def parse_options(config: type[BaseModel], where: str, options: dict[str, Any]) -> BaseModel:
    """Build a configuration; errors are one line and name the nearest key.

    Raises:
        InputError: an unknown key or a value that the field does not take.
    """

    def worded(wrong: WrongKey) -> InputError:
        table = f", {wrong.place}" if wrong.tables else ""
        place = f", key '{wrong.place}'" if wrong.key else table
        return InputError(f"reward '{where}'{place}", wrong.found, wrong.expected)

    return validated(config, options, worded)


class NoOptions(BaseModel):
    """The configuration of a kind that has nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)
