"""Read the ratings of PRISM: people who rated, from 1 to 100, several models' answers to their own prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from bestfor.data.ratings import Ratings
from bestfor.data.read.objects import Row, objects_of, read_rows, text_of
from bestfor.data.read.tables import file_signature
from bestfor.data.sources.chats import ChatTurn, content_of, written
from bestfor.errors import InputError

FILES = tuple(f"{name}{ending}" for name in ("conversations", "utterances") for ending in (".jsonl", ".parquet"))
"""Files of the data set that hold ratings, in the order in which a folder is searched for them."""

Turns = Literal["all", "first"]


@dataclass
class _Round:
    """One turn of a conversation: what the user said, and the answers with their scores."""

    asked: str = ""
    answers: list[tuple[str, float | None, bool]] = field(default_factory=list)

    def chosen(self) -> str | None:
        """Give the answer with which the conversation went on: the chosen one, else the best rated."""
        rated = [one for one in self.answers if one[1] is not None]
        first = next((text for text, _, chosen in self.answers if chosen), None)
        return first if first is not None or not rated else max(rated, key=lambda one: one[1] or 0.0)[0]


Conversation = dict[int, _Round]


def load_prism(path: str | Path, turns: Turns = "all") -> Ratings:
    """Load PRISM's ratings from ``conversations.jsonl`` or ``utterances.jsonl``; both hold the same.

    A query is what the user said, after what was said before in the conversation (of earlier turns the chosen answers).

    Args:
        path: one of :data:`FILES`, or a folder that holds one.
        turns: all rated turns, or the first alone: answers of four models, later ones two of one model.

    Returns:
        Ratings from 1 to 100.

    Raises:
        InputError: no such file, or a field that is missing or holds something else; names row and field.
    """
    place = _file(Path(path))
    rows: dict[str, list[object]] = {name: [] for name in ("user", "query", "text", "rating")}
    unrated = 0
    for user, conversation in _conversations(place):
        before: list[ChatTurn] = []
        for number in sorted(conversation):
            one = conversation[number]
            before.append(ChatTurn("user", one.asked))
            query = written(before, "user")
            for text, score, _ in one.answers if turns == "all" or number == min(conversation) else []:
                unrated += score is None or not text.strip()
                if score is not None and text.strip():
                    for name, value in zip(rows, (user, query, text, score), strict=True):
                        rows[name].append(value)
            said = one.chosen()
            if said is not None:
                before.append(ChatTurn("assistant", said))
    table = pa.table(
        {name: pa.array(column, pa.float64() if name == "rating" else pa.string()) for name, column in rows.items()}
    )
    if not table.num_rows:
        raise InputError(str(place), "no rated answer", "at least one answer with a score")
    signature = f"{file_signature(place)}|prism|{turns}"
    found = Ratings.build(table, name="prism", source=str(place), signature=signature, duplicates="mean")
    if not unrated:
        return found
    note = f"{unrated} answers without a score or without a text were left out"
    return Ratings(**{**found.__dict__, "notes": (note, *found.notes)})


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    there = next((path / name for name in FILES if (path / name).is_file()), None)
    if there is None:
        raise InputError(str(path), "none of them", ", ".join(FILES[::2]))
    return there


def _conversations(path: Path) -> Iterator[tuple[str, Conversation]]:
    """Read whose each conversation is, and its turns."""
    found: dict[tuple[str, str], Conversation] = {}
    for number, (where, row) in enumerate(read_rows(path)):
        user = text_of(row, "user_id", where)
        if "conversation_history" in row:
            yield user, _history(row, where)
            continue
        if not number and "user_prompt" not in row:
            raise InputError(where, "neither 'conversation_history' nor 'user_prompt'", "a row of PRISM's files")
        talk = found.setdefault((user, text_of(row, "conversation_id", where)), defaultdict(_Round))
        one = talk[_turn(row, where)]
        one.asked = text_of(row, "user_prompt", where)
        one.answers.append(_answer(row, "model_response", where))
    for (user, _), talk in found.items():
        yield user, talk


def _history(row: Row, where: str) -> Conversation:
    talk: Conversation = defaultdict(_Round)
    for at, said in enumerate(objects_of(row, "conversation_history", where)):
        place = f"{where}, field 'conversation_history[{at}]'"
        one = talk[_turn(said, place)]
        if said.get("role") == "user":
            one.asked = content_of(said.get("content"), place)
        else:
            one.answers.append(_answer(said, "content", place))
    return talk


def _answer(row: Row, name: str, where: str) -> tuple[str, float | None, bool]:
    score = row.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise InputError(f"{where}, field 'score'", f"'{score}'", "a number")
    rated = None if score is None or score != score else float(score)
    return content_of(row.get(name), f"{where}, field '{name}'"), rated, bool(row.get("if_chosen"))


def _turn(row: Row, where: str) -> int:
    value = row.get("turn")
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise InputError(f"{where}, field 'turn'", "nothing" if value is None else f"'{value}'", "a whole number")
    return int(value)
