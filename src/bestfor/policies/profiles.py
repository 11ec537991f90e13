"""Describe a user in words: ask a model to summarise what the user wrote, and put the summary into a chat.

Summaries of a user's history in the prompt, with or without retrieved items beside them, are those of Richardson et al.
2023 (Integrating summarization and retrieval for enhanced personalization via large language models); the words are our
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bestfor.data.text import collapse_spaces
from bestfor.lm.chat import Item, Message, turn
from bestfor.policies.prompts import Template

INSTRUCTION = (
    "You describe how one author writes. Read the author's texts and say in a few sentences what they are about and "
    "how they are written: tone, length, form, and words that come back. Write the description only."
)
"""What a policy is asked for where nothing else is said."""
_REQUEST = "Describe this author in a few sentences."
_INTRODUCTION = "About this author: "


@dataclass(frozen=True)
class Profiles:
    """Summaries of users.

    Attributes:
        texts: each user's; users without one are not in it.
        notes: for a reader of the results.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def summary_request(instruction: str, *, inputs: bool = True) -> Template:
    """Make the chat that asks for a summary: the instruction, and a turn with the user's items, the latest last.

    Args:
        instruction: what is asked for.
        inputs: whether what was asked stands beside what the user wrote.

    Returns:
        A template; items come as elsewhere, the one that matters most (the latest) first. The query's input plays no
        part.
    """

    def made(items: Sequence[Item], _: str) -> list[Message]:
        shown = [
            f"Text {number}\nAsked: {given}\nWritten: {wrote}" if given and inputs else f"Text {number}\n{wrote}"
            for number, (given, wrote) in enumerate(reversed(items), start=1)
        ]
        return [turn("system", instruction), turn("user", "\n\n".join([*shown, _REQUEST]))]

    return made


def with_profile(template: Template, profile: str) -> Template:
    """Put a summary into a chat: at the end of the instruction, or before the query where there is no instruction.

    Args:
        template: makes the chat without it.
        profile: the summary; "" gives the template back.
    """
    if not profile:
        return template
    told = _INTRODUCTION + profile

    def made(items: Sequence[Item], query_input: str) -> list[Message]:
        chat = template(items, query_input)
        if chat[0]["role"] == "system":
            return [turn("system", f"{chat[0]['content']}\n\n{told}"), *chat[1:]]
        return [*chat[:-1], turn(chat[-1]["role"], f"{told}\n\n{chat[-1]['content']}")]

    return made


def cleaned(text: str) -> str:
    """Bring a summary to one line; "" where it holds nothing."""
    return collapse_spaces(text)
