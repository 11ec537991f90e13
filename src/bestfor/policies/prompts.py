"""From a query and a user's earlier texts to a chat that any model understands.

Earlier items are shown as earlier turns: what was asked, then what this user wrote. The item that matters most stands
closest to the query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bestfor.errors import InputError, nearest
from bestfor.policies.base import Message

Item = tuple[str, str]
"""An earlier input of the user and what the user wrote for it."""

_VOICE = (
    "The turns before show what this author wrote earlier: keep to the author's manner. Answer with the {kind} only."
)

TEMPLATES: dict[str, str] = {
    "title": "You give papers their titles. Read the abstract and write the title its author would choose. "
    + _VOICE.format(kind="title"),
    "headline": "You give articles their headlines. Read the article and write the headline its author would choose. "
    + _VOICE.format(kind="headline"),
    "generic": "You write for one author. Read the request and answer as this author would. "
    + _VOICE.format(kind="text"),
}
"""Task instructions by kind of text."""


@dataclass(frozen=True)
class Fitted:
    """A chat that keeps to its budget.

    Attributes:
        messages: the chat, in order.
        dropped: how many items found no room.
    """

    messages: list[Message]
    dropped: int


def instruction(kind: str) -> str:
    """The task instruction for a kind of text.

    Raises:
        InputError: no template has this name.
    """
    if kind not in TEMPLATES:
        raise InputError("prompt template", f"'{kind}'", nearest(kind, TEMPLATES))
    return TEMPLATES[kind]


def messages(task_instruction: str, items: Sequence[Item], query_input: str) -> list[Message]:
    """The chat for one query.

    Args:
        task_instruction: what to do, the system's turn; left out where it is empty.
        items: the user's earlier items, the one that matters most first.
        query_input: what is asked now.

    Returns:
        The instruction, each item as a pair of turns (the first item last), and the query.
    """
    chat = [_turn("system", task_instruction)] if task_instruction else []
    for asked, wrote in reversed(items):
        chat += [_turn("user", asked), _turn("assistant", wrote)]
    return [*chat, _turn("user", query_input)]


def fit(
    task_instruction: str,
    items: Sequence[Item],
    query_input: str,
    *,
    budget: int,
    count: Callable[[list[Message]], int],
) -> Fitted:
    """The chat for one query with as many items as the budget holds.

    Items are taken whole, best first; one that finds no room is left out and the next is tried.

    Args:
        task_instruction: what to do.
        items: the user's earlier items, the one that matters most first.
        query_input: what is asked now.
        budget: the most tokens of the chat.
        count: tokens of a chat as the model reads it.

    Returns:
        The chat and the number of items left out.

    Raises:
        InputError: the query alone is over the budget.
    """
    alone = count(messages(task_instruction, (), query_input))
    if alone > budget:
        raise InputError(f"query '{query_input[:40]}'", f"{alone} tokens without any item", f"at most {budget}")
    kept: list[Item] = []
    for item in items:
        if count(messages(task_instruction, [*kept, item], query_input)) <= budget:
            kept.append(item)
    return Fitted(messages(task_instruction, kept, query_input), len(items) - len(kept))


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}
