"""Find fields and texts in the nested objects of other tools, however they were flattened on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bestfor.data.read.times import MILLISECONDS, YEARS, moment
from bestfor.data.sources.chats import ROLES, content_of
from bestfor.errors import InputError
from bestfor.serving.imports.feedback import ShownAnswer

ASKED = ("messages", "prompt", "input", "inputs", "question", "query", "text", "content", "value", "kwargs")
"""Names under which tools keep what was asked."""
ANSWERED = (
    *("messages", "choices", "generations", "message", "output", "outputs", "answer", "response", "completion"),
    *("generated_text", "result", "text", "content", "value", "kwargs"),
)
"""Names under which tools keep what was answered."""


def find_field(row: object, name: str) -> Any:  # noqa: ANN401 - what an export holds
    """Find a field by its dotted name, nested or flattened at any of its dots; None where it is not there.

    An object that was written as JSON into a cell is read.
    """
    row = _parsed(row)
    if not isinstance(row, Mapping):
        return None
    if row.get(name) not in (None, ""):
        return row[name]
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        inner = row.get(".".join(parts[:cut]))
        if inner not in (None, ""):
            found = find_field(inner, ".".join(parts[cut:]))
            if found is not None:
                return found
    return None


def first_of(row: object, *names: str) -> Any:  # noqa: ANN401 - what an export holds
    """Find the first of some fields that is there."""
    return next((found for name in names if (found := find_field(row, name)) is not None), None)


def answer_of(
    where: str,
    row: Mapping[str, Any],
    *,
    ids: Sequence[str],
    outputs: Sequence[str],
    inputs: Sequence[str],
    users: Sequence[str],
    times: Sequence[str],
) -> ShownAnswer | None:
    """Read the answer of a row whose fields go by these names, of which the first that is there counts.

    Args:
        where: place of the row, for errors.
        row: of an export.
        ids: fields that name the answer.
        outputs: fields that hold what was answered.
        inputs: fields that hold what was asked.
        users: fields that name who asked.
        times: fields that say when.

    Returns:
        The answer; None where the row has no id or no text that was answered.

    Raises:
        InputError: a time that is none.
    """
    id, text = name_or_none(first_of(row, *ids)), words_of(first_of(row, *outputs), "assistant")
    if id is None or text is None:
        return None
    prompt = words_of(first_of(row, *inputs), "user") or ""
    time = time_or_none(first_of(row, *times), f"{where}, field '{times[0]}'")
    return ShownAnswer(id, name_or_none(first_of(row, *users)), prompt, (text,), time)


def words_of(value: object, role: str, depth: int = 6) -> str | None:
    """Find what was asked (``role`` is ``user``) or answered (``assistant``) in an input or an output of any shape.

    Of messages, the last one of that role counts, as in the gateway's own journal.

    Returns:
        The text; None where there is none that can be told from the rest.
    """
    value = _parsed(value)
    if isinstance(value, str):
        return value if value.strip() else None
    if depth == 0 or not value:
        return None
    if isinstance(value, Sequence):
        return _last(value, role, depth)
    if not isinstance(value, Mapping):
        return None
    for name in ASKED if role == "user" else ANSWERED:
        if name in value and (found := words_of(value[name], role, depth - 1)) is not None:
            return found
    texts = [one for one in value.values() if isinstance(one, str) and one.strip()]
    return texts[0] if len(texts) == 1 and len(value) == 1 else None


def time_or_none(value: object, where: str) -> float | None:
    """Read a moment as seconds since 1970; None where there is none.

    Raises:
        InputError: something else stands there.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float | int) and YEARS <= value < MILLISECONDS:
        return float(value)
    found = moment(str(value))
    if found is None:
        raise InputError(where, f"'{str(value)[:40]}'", "a moment in time")
    return found


def name_or_none(value: object) -> str | None:
    """Read an id; None where there is none."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or None


def _last(value: Sequence[Any], role: str, depth: int) -> str | None:
    """Read the last message of a role, or the last thing of a list without roles."""
    messages = [one for one in value if isinstance(one, Mapping) and _role(one) is not None]
    if messages:
        said = [one for one in messages if _role(one) == role]
        texts = [text for one in said if (text := _content(one)).strip()]
        return texts[-1] if texts else None
    return next((text for one in reversed(value) if (text := words_of(one, role, depth - 1)) is not None), None)


def _role(message: Mapping[str, Any]) -> str | None:
    """Tell who speaks; ``type`` says so in messages of LangChain."""
    said = next((message[name] for name in ("role", "from", "type") if isinstance(message.get(name), str)), "")
    return {"ai": "assistant"}.get(said.lower(), ROLES.get(said.lower()))


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("value", message.get("data")))
    if isinstance(content, Mapping):
        content = content.get("content")
    return content_of(content, "message") if isinstance(content, str | list) or content is None else ""


def _parsed(value: object) -> object:
    """Read JSON where a cell holds an object or a list of them."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
