"""Arrange the turns of a chat for models that know fewer kinds of turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

INSTRUCTING = ("system", "developer")


def instructs(messages: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a chat has a system turn."""
    return any(message.get("role") in INSTRUCTING for message in messages)


def without_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Put what system turns say before the first user turn, with an empty line between them."""
    said = [message["content"] for message in messages if message.get("role") in INSTRUCTING]
    rest = [dict(message) for message in messages if message.get("role") not in INSTRUCTING]
    if not said:
        return rest
    first = next((place for place, message in enumerate(rest) if message.get("role") == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(said)}, *rest]
    rest[first] = {**rest[first], "content": "\n\n".join([*said, rest[first]["content"]])}
    return rest
