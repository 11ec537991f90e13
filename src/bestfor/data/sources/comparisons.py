"""Read the comparisons of answers that arenas and reward benchmarks publish: nested rows, lists of messages, winners.

| layout | fields |
|---|---|
| arena | conversation_a, conversation_b (lists of messages), winner, and who judged |
| arena, flat | prompt, response_a, response_b, winner, or winner_model_a, winner_model_b, winner_tie |
| preferences | chosen, rejected: texts, lists of texts, lists of messages or transcripts; perhaps prompt or question |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bestfor.data.read.cells import NOBODY
from bestfor.data.read.objects import KINDS, Row, read_rows, text_of, time_of
from bestfor.data.read.tables import Columns, columns_of, read_table
from bestfor.data.sources.chats import ChatTurn, common_prompt, content_of, transcript_turns, turns_of, written
from bestfor.errors import InputError
from bestfor.files import hash_text

PROMPTS = ("query", "prompt", "question", "instruction", "input")
"""Fields that hold what was asked, the first that is there."""

PEOPLE = ("user", "user_id", "annotator_id", "annotator", "worker_id", "judge", "evaluation_session_id", "profile")
"""Fields that say whose comparison it is, the first that is there."""

PROFILE = "profile"
"""Field with what a user wrote before."""

_ITEM_TEXTS = ("text", "content", "output", "body", "post")
"""Fields of a profile's item that hold what was written, the first that is there."""

_ITEM_TIMES = ("date", "timestamp", "year")

_FIRST = {"model_a", "a", "left", "response_a", "answer_a", "assistant_a"}
_SECOND = {"model_b", "b", "right", "response_b", "answer_b", "assistant_b"}
_TIES = {"tie", "tie (bothbad)", "tie(bothbad)", "bothbad", "both_bad", "both bad", "both", "neither", "equal", "draw"}


@dataclass
class Comparisons:
    """Pairs of answers, one a row.

    Attributes:
        user: whose.
        query: what was asked.
        chosen: the better answer, or either of two equals.
        rejected: the other one.
        tie: whether neither was better.
        omitted: why rows were left out, and how many.
        written: what users wrote before, by the profiles of their rows, oldest first.
    """

    user: list[str] = field(default_factory=list)
    query: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    tie: list[float] = field(default_factory=list)
    omitted: Counter[str] = field(default_factory=Counter)
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, user: str, query: str, pair: tuple[str, str], *, tie: bool = False) -> None:
        """Append a pair, the better answer first."""
        self.user.append(user)
        self.query.append(query)
        self.chosen.append(pair[0])
        self.rejected.append(pair[1])
        self.tie.append(float(tie))

    def table(self) -> pa.Table:
        """Lay them out by role."""
        texts = {name: pa.array(getattr(self, name), pa.string()) for name in ("user", "query", "chosen", "rejected")}
        return pa.table(texts | {"tie": pa.array(self.tie, pa.float64())})

    def notes(self) -> tuple[str, ...]:
        """Say what was left out."""
        return tuple(f"{count} rows were left out: {why}" for why, count in self.omitted.items())


def nested_layout(path: Path, names: Mapping[str, str]) -> str | None:
    """Tell which published layout a file has by its first row; None where it is a plain table.

    Args:
        path: the file.
        names: role -> field.

    Raises:
        InputError: the file cannot be read.
    """
    first = _first(path)
    if first is None:
        return None
    if {"conversation_a", "conversation_b"} <= set(first):
        return "arena"
    if {"response_a", "response_b"} <= set(first):
        return "arena, flat"
    pair = [first.get(names[role]) for role in ("chosen", "rejected")]
    if None in pair:
        return None
    plain = all(isinstance(one, str) for one in pair) and names["user"] in first and names["query"] in first
    return None if plain and not isinstance(first[names["query"]], list) else "preferences"


def read_comparisons(path: Path, layout: str, names: Mapping[str, str], given: Sequence[str] = ()) -> Comparisons:
    """Read comparisons of a published layout.

    Args:
        path: JSON, JSON lines (both also as .gz) or Parquet.
        layout: from :func:`nested_layout`.
        names: role -> field.
        given: roles whose field a person named; these are not guessed.

    Raises:
        InputError: a field is missing or holds something else; names row and field.
    """
    found = Comparisons()
    fields: dict[str, str] | None = None
    for where, row in _rows(path):
        if fields is None:
            fields = {role: _field(row, names[role], role in given, known) for role, known in _GUESSED.items()}
        if row.get(fields["user"]) == []:
            found.omitted["their profile is empty, which tells nobody from another"] += 1
            continue
        user = _user(row, fields["user"], where)
        if user not in found.written and (earlier := _written(row.get(PROFILE), where)):
            found.written[user] = earlier
        if layout == "preferences":
            for query, pair in _preferences(row, names, fields["query"], where):
                found.add(user, query, pair)
            continue
        winner = _winner(row, where)
        if winner is None:
            found.omitted["nobody won and no tie is told"] += 1
            continue
        query, (first, second) = _arena(row, fields["query"], where, nested=layout == "arena")
        found.add(user, query, (second, first) if winner == "b" else (first, second), tie=winner == "tie")
    return found


def _first(path: Path) -> Row | None:
    """Read the first row, or the names of a plain table's columns; None where the file is of another kind."""
    if not path.is_file():
        return None
    if path.suffix in _PLAIN:
        return dict.fromkeys(columns_of(path), "")
    return next((row for _, row in read_rows(path)), None) if path.name.endswith(KINDS) else None


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Read rows of nested files, and of CSV with the columns that a layout may have."""
    if path.suffix not in _PLAIN:
        yield from read_rows(path)
        return
    names = columns_of(path)
    table = read_table(path, Columns({name: name for name in names}, {}, frozenset(names)))
    number = 0
    for batch in table.to_batches(1024):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}, row {number}", row


_PLAIN = (".csv", ".tsv")
_GUESSED = {"user": PEOPLE, "query": PROMPTS}


def _field(row: Row, name: str, given: bool, known: Sequence[str]) -> str:
    """Choose the field of a role: the one that was named, else the first known one that the row has."""
    return name if given or name in row else next((one for one in known if one in row), name)


def _user(row: Row, name: str, where: str) -> str:
    """Read whose a comparison is; a profile's items (their ids, else all of them) name its user."""
    value = row.get(name)
    if isinstance(value, list):
        items = [one.get("id", one) if isinstance(one, dict) else one for one in value]
        return hash_text(json.dumps(sorted(map(str, items))))[:16]
    if value is None and name not in row:
        fields = ", ".join(list(row)[:12])
        expected = (
            f'columns = {{ user = "NAME" }} under [data]; the row has {fields} (a subset or a category does, too)'
        )
        raise InputError(where, f"no field '{name}' that says whose comparison it is", expected)
    user = text_of(row, name, where).strip()
    if user in NOBODY:
        raise InputError(f"{where}, field '{name}'", f"'{user}'", "a user's id")
    return user


def _written(profile: object, where: str) -> tuple[str, ...]:
    """Read what the items of a profile say, oldest first where all have a time, else in their order."""
    if not isinstance(profile, list):
        return ()
    found: list[tuple[int | None, str]] = []
    for at, item in enumerate(profile):
        place = f"{where}, field '{PROFILE}[{at}]'"
        row: Row = item if isinstance(item, dict) else {_ITEM_TEXTS[0]: item}
        name = next((one for one in _ITEM_TEXTS if isinstance(row.get(one), str)), None)
        text = "" if name is None else text_of(row, name, place).strip()
        if text:
            when = next((row[one] for one in _ITEM_TIMES if row.get(one) not in (None, "")), None)
            found.append((time_of(when, place), text))
    if all(when is not None for when, _ in found):
        found.sort(key=lambda one: one[0] or 0)
    return tuple(dict.fromkeys(text for _, text in found))


def _winner(row: Row, where: str) -> str | None:
    """Read who won: a, b or tie; None where nothing is told.

    Raises:
        InputError: another word.
    """
    if "winner" not in row:
        flags = {"a": "winner_model_a", "b": "winner_model_b", "tie": "winner_tie"}
        told = [side for side, name in flags.items() if str(row.get(name)).lower() in ("1", "1.0", "true")]
        return told[0] if len(told) == 1 else None
    said = row["winner"]
    if said is None or str(said).strip() == "":
        return None
    word = str(said).strip().lower()
    if word in _FIRST or said == row.get("model_a"):
        return "a"
    if word in _SECOND or said == row.get("model_b"):
        return "b"
    if word in _TIES:
        return "tie"
    raise InputError(f"{where}, field 'winner'", f"'{said}'", "model_a, model_b, tie or both_bad")


def _arena(row: Row, prompt: str, where: str, *, nested: bool) -> tuple[str, tuple[str, str]]:
    """Read what was asked and the two answers."""
    if nested:
        one, other = (turns_of(row, f"conversation_{side}", where) for side in "ab")
        return _split(one, other, where)
    texts = [_listed(row, f"response_{side}", where) for side in "ab"]
    asked = _listed(row, prompt, where)
    if len(asked) == 1 and len(texts[0]) == len(texts[1]) == 1:
        return asked[0], (texts[0][0], texts[1][0])
    one, other = (_interleaved(asked, answers) for answers in texts)
    return _split(one, other, where)


def _split(one: Sequence[ChatTurn], other: Sequence[ChatTurn], where: str) -> tuple[str, tuple[str, str]]:
    """Take two chats apart: what both begin with, and how each goes on."""
    shared = common_prompt(one, other)
    rest = one[shared:], other[shared:]
    if not shared or not rest[0] or not rest[1]:
        raise InputError(where, "two chats that do not begin alike", "the same first turn, and an answer in each")
    return written(one[:shared], "user"), (written(rest[0], "assistant"), written(rest[1], "assistant"))


def _interleaved(asked: Sequence[str], answers: Sequence[str]) -> list[ChatTurn]:
    turns: list[ChatTurn] = []
    for place, text in enumerate(asked):
        turns.append(ChatTurn("user", text))
        if place < len(answers):
            turns.append(ChatTurn("assistant", answers[place]))
    return turns


def _listed(row: Row, name: str, where: str) -> list[str]:
    """Read a text, a list of texts, or a list of texts that is written as JSON."""
    value = row.get(name)
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if isinstance(value, list) and value and all(one is None or isinstance(one, str) for one in value):
        return [one or "" for one in value]
    return [text_of(row, name, where)]


def _preferences(row: Row, names: Mapping[str, str], prompt: str, where: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Read the pairs of a row: each better answer with each worse one."""
    better, worse = (_answers(row, names[role], where) for role in ("chosen", "rejected"))
    asked = _asked(row, prompt, where)
    for one in better:
        for other in worse:
            shared = common_prompt(one, other)
            query = written(one[:shared], "user") if shared else asked
            if query is None:
                expected = 'columns = { query = "NAME" } under [data], or chats that begin alike'
                raise InputError(where, f"no field '{prompt}' that says what was asked", expected)
            if asked is not None and shared and len(one[:shared]) == 1:
                query = asked
            yield query, (written(one[shared:], "assistant"), written(other[shared:], "assistant"))


def _asked(row: Row, name: str, where: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, list | dict):
        return written(turns_of(row, name, where), "user")
    return text_of(row, name, where)


def _answers(row: Row, name: str, where: str) -> list[list[ChatTurn]]:
    """Read one answer or several, each as turns."""
    value = row.get(name)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return [[ChatTurn("assistant", content_of(one, where))] for one in value]
    if isinstance(value, list | dict):
        turns = turns_of(row, name, where)
        if not turns:
            raise InputError(f"{where}, field '{name}'", "an empty list", "an answer")
        return [turns]
    text = text_of(row, name, where)
    return [transcript_turns(text) or [ChatTurn("assistant", text)]]
