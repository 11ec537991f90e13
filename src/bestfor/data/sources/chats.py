"""Read the turns of chats that data sets hold as lists of messages or as transcripts, and write them as one text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bestfor.data.read.objects import objects_of
from bestfor.errors import InputError

ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}
"""Who speaks, by the words that data sets have for it."""

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):\s*")
"""Begins a turn of a transcript such as those of HH-RLHF."""


class ChatTurn(NamedTuple):
    """Turn of a chat: who speaks (a value of :data:`ROLES`), and the words."""

    role: str
    text: str


def turns_of(row: Mapping[str, object], name: str, where: str) -> list[ChatTurn]:
    """Read a field that holds messages (``role`` and ``content``, or ``from`` and ``value``).

    Raises:
        InputError: the field is no list of messages; names it.
    """
    found: list[ChatTurn] = []
    for at, message in enumerate(objects_of(row, name, where)):
        place = f"{where}, field '{name}[{at}]'"
        said = message.get("role", message.get("from"))
        role = ROLES.get(str(said).lower())
        if role is None:
            raise InputError(place, f"role '{said}'", "a message with a role: user, assistant or system")
        content = message["content"] if "content" in message else message.get("value")
        found.append(ChatTurn(role, content_of(content, place)))
    return found


def content_of(content: object, where: str) -> str:
    """Read what a message says: a text, or a list of parts of which the texts count.

    Raises:
        InputError: it is something else.
    """
    if content is None:
        return ""
    if isinstance(content, list):
        texts = [one if isinstance(one, str) else one.get("text") for one in content if isinstance(one, str | dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        raise InputError(where, f"content of type {type(content).__name__}", "a text, or a list of parts")
    return content


def transcript_turns(text: str) -> list[ChatTurn] | None:
    """Take a transcript ("Human: ...", "Assistant: ...") apart; None where it is none."""
    parts = _SPEAKER.split(text)
    if len(parts) < 5 or parts[0].strip():
        return None
    return [ChatTurn(ROLES[who.lower()], said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def common_prompt(one: Sequence[ChatTurn], other: Sequence[ChatTurn]) -> int:
    """Count the turns that two chats share before the assistant's first turn in which they differ."""
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        shared += 1
    # Equal chats share their answer, too: the last turn of the assistant is the answer all the same.
    while shared and shared == min(len(one), len(other)) and one[shared - 1].role == "assistant":
        shared -= 1
    return shared


def written(turns: Sequence[ChatTurn], alone: str) -> str:
    """Write turns as one text: a single turn of ``alone`` as its words, others each under who speaks."""
    if len(turns) == 1 and turns[0].role == alone:
        return turns[0].text
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in turns)
