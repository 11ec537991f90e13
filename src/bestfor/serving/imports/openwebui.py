"""Read exports of feedback of Open WebUI: thumbs with the chat as it was, and choices between answers side by side.

A record has ``user_id``, ``data`` (``rating`` 1 or -1, ``details.rating`` 1 to 10, ``comment``, ``sibling_model_ids``),
``meta`` (``message_id``, ``chat_id``) and ``snapshot`` with the chat's messages as a tree. Where other models answered
the same message, a thumb says that the answer is better or worse than theirs, as in its own leaderboard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bestfor.data.read.objects import Row
from bestfor.data.sources.chats import content_of
from bestfor.serving.imports.feedback import GivenScore, ShownAnswer
from bestfor.serving.imports.fields import find_field, first_of, name_or_none, time_or_none

EXPECTED = "records of feedback with data.rating, meta.message_id and a snapshot of the chat"

DETAILS = (1.0, 10.0)
"""Lowest and highest number of a detailed rating."""

Messages = Mapping[str, Mapping[str, Any]]


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer that a record is about, and what else was answered to the same message."""
    id, messages = name_or_none(row.get("id")), _messages(row)
    shown = messages.get(str(find_field(row, "meta.message_id")))
    if id is None or shown is None or not _content(shown).strip():
        return None
    asked = messages.get(str(shown.get("parentId")), {})
    others = [
        _content(one)
        for key, one in messages.items()
        if one is not shown and key != id and one.get("parentId") == shown.get("parentId") is not None
    ]
    user = name_or_none(first_of(row, "user_id", "snapshot.chat.user_id"))
    time = time_or_none(first_of(row, "created_at", "updated_at"), f"{where}, field 'created_at'")
    texts = (_content(shown), *[one for one in others if one.strip()])
    return ShownAnswer(id, user, _content(asked), texts, time)


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read what a record says."""
    rating, id = find_field(row, "data.rating"), name_or_none(row.get("id"))
    comment = find_field(row, "data.comment")
    if id is None or (rating is None and not comment):
        return
    detail = first_of(row, "data.details.rating", "details.rating")
    shown = answer(where, row)
    others = () if shown is None or not find_field(row, "data.sibling_model_ids") else shown.texts[1:]
    liked = isinstance(rating, int | float) and rating > 0
    number = detail if isinstance(detail, int | float) else rating
    yield GivenScore(
        about=(id,),
        key=id,
        name=str(row.get("type") or "rating"),
        score=None if others or not isinstance(number, int | float) else number,
        scale=DETAILS if number is detail else None,
        rankings=tuple((shown.texts[0], one) if liked else (one, shown.texts[0]) for one in others) if shown else (),
        comment=str(comment) if comment else None,
        time=time_or_none(first_of(row, "updated_at", "created_at"), f"{where}, field 'updated_at'"),
        where=where,
    )


def _messages(row: Row) -> Messages:
    """Find the messages of the chat by their ids."""
    chat = "snapshot.chat.chat.history.messages"
    found = first_of(row, chat, "snapshot.chat.history.messages", "snapshot.history.messages", "snapshot.chat.messages")
    if isinstance(found, list):
        found = {str(one.get("id")): one for one in found if isinstance(one, Mapping)}
    if not isinstance(found, Mapping):
        return {}
    return {str(id): one for id, one in found.items() if isinstance(one, Mapping)}


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content_of(content, "message") if isinstance(content, str | list) else ""
