"""Read the rows of a table of labels: one label a row, its kind in a column; or the lines of an exported journal.

| kind | what a row needs |
|---|---|
| rating | ``text``, ``value``; ``low`` and ``high`` where no scale is declared |
| thumb | ``text``, ``value`` (1 or 0, yes or no) |
| preference | ``text`` and ``over``, the text that it is preferred to; or ``texts``, best first |
| edit | ``text``, what the person finally wrote, ``over``, the text that was shown; perhaps ``texts``, all candidates |
| kept, dismissed | ``text`` |
| comment | the words in ``comment``, perhaps with the ``text`` that they are about; without that column in ``text`` |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.data.read.cells import NOBODY, NULLS, parsed_numbers
from bestfor.data.read.objects import read_rows
from bestfor.data.read.tables import Columns, read_table
from bestfor.data.read.times import times_of
from bestfor.data.text import nfc
from bestfor.errors import InputError, nearest
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.labels.said import KINDS
from bestfor.labels.scale import LabelScale

ROLES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "user_id"),
    "kind": ("kind",),
    "text": ("text",),
    "value": ("value",),
    "query": ("query", "prompt"),
    "over": ("over", "rejected"),
    "texts": ("texts",),
    "candidates": ("candidates",),
    "comment": ("comment",),
    "weight": ("weight",),
    "low": ("low",),
    "high": ("high",),
    "key": ("key",),
    "timestamp": ("timestamp", "time"),
    "withdrawn": ("withdrawn",),
    "hashed": ("hashed",),
}
"""Roles of columns, and the names under which they are found."""

Row = Mapping[str, Any]
Said = tuple[Label, LoggedAnswer | None]


@dataclass
class ReadLabels:
    """Labels of a file.

    Attributes:
        said: each with the answer that it is about, where there is one.
        withdrawn: rows that a journal says were withdrawn.
        unknown: rows of kinds of a later version.
    """

    said: list[Said] = field(default_factory=list)
    withdrawn: int = 0
    unknown: int = 0


def read_labels(path: Path, scale: LabelScale, columns: Mapping[str, str], *, declared: bool) -> ReadLabels:
    """Read a table of labels, or an exported journal.

    A label whose key stands before in the file takes the earlier one's place.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        scale: weights of kinds, and the scale of ratings.
        columns: other names of the roles.
        declared: whether somebody declared that scale; if not, rows of ratings have to say theirs.

    Raises:
        InputError: a row that lacks what its kind needs; names file, row and column.
    """
    unknown = next((role for role in columns if role not in ROLES), None)
    if unknown is not None:
        raise InputError(f"columns of {path}", f"unknown role '{unknown}'", nearest(unknown, ROLES))
    rows = _rows_of(path, columns)
    first = next(rows, None)
    if first is None:
        raise InputError(str(path), "no rows", "one label a row")
    every = _again(first, rows)
    return _read_journal(every, path) if "type" in first[1] else _read_table(every, scale, declared)


def _read_table(rows: Iterator[tuple[str, Row]], scale: LabelScale, declared: bool) -> ReadLabels:
    kept: dict[tuple[str, str], Said] = {}
    withdrawn = 0
    for number, (where, row) in enumerate(rows, 1):
        if "withdrawn" in row:
            withdrawn += 1
            continue
        said = _label(_as_written(row), where, number, (scale, declared))
        kept.pop((said[0].user, said[0].key), None)
        kept[said[0].user, said[0].key] = said
    return ReadLabels(list(kept.values()), withdrawn)


def _as_written(row: Row) -> Row:
    """Turn a row of a journal's table, whose ``texts`` are all that its label names, into one as people write it."""
    kind = row.get("kind")
    if "texts" not in row or "over" in row or "comment" in row:
        return row
    if kind == "preference":
        return {name: value for name, value in row.items() if name != "text"}
    listed = row["texts"]
    with suppress(ValueError):
        listed = json.loads(listed) if isinstance(listed, str) else listed
    if not isinstance(listed, list) or not listed:
        return row
    if kind == "edit" and "text" in row and len(listed) == 1:
        return {**row, "text": listed[0], "over": row["text"], "texts": row.get("candidates", [])}
    if kind == "comment":
        about = {"text": listed[1]} if len(listed) > 1 else {}
        return {**{name: value for name, value in row.items() if name != "text"}, "comment": listed[0], **about}
    return row


def _again(first: tuple[str, Row], rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    yield first
    yield from rows


def _rows_of(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """Yield rows by role; the lines of an exported journal as they are."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        for where, row in read_rows(path):
            of_journal = row.get("type") in ("person", "answer", "label") or ("type" in row and "kind" not in row)
            yield where, row if of_journal else _by_role(row, columns)
        return
    names = {name: name for others in ROLES.values() for name in others} | dict(columns)
    optional = frozenset({*names} - {"kind"})
    table = read_table(path, Columns(names, {}, optional, blank=frozenset(names)))
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}, row {number}", _by_role(row, {role: role for role in columns})


def _by_role(row: Row, columns: Mapping[str, str]) -> Row:
    """Take the cells of the roles; what stands for a missing value is left out."""
    found: dict[str, Any] = {}
    for role, names in ROLES.items():
        for name in (columns[role],) if role in columns else names:
            value = row.get(name)
            empty = value is None or (isinstance(value, float) and np.isnan(value))
            if not empty and not (isinstance(value, str) and not value.strip()) and role not in found:
                found[role] = value
    return found


def _label(row: Row, where: str, number: int, scaled: tuple[LabelScale, bool]) -> Said:
    """Read one row, by its kind."""
    user = nfc(str(row.get("user", "")).strip())
    if user in NOBODY:
        raise InputError(f"{where}, column 'user'", "an empty cell", "a user's id")
    kind = str(row.get("kind", "")).strip()
    if kind not in KINDS:
        raise InputError(f"{where}, column 'kind'", f"'{kind}'" if kind else "an empty cell", nearest(kind, KINDS))
    given = _scale_of(row, where, *scaled) if kind == "rating" else scaled[0]
    answer = _edited(row, where, user) if kind == "edit" else None
    hashed = str(row.get("hashed", "")).strip().lower() in ("true", "1")
    value, texts = _said(kind, row, where, answer, given)
    weight = given.weight(kind) if "weight" not in row else _number(row, "weight", where)
    if not 0 <= weight < np.inf:
        raise InputError(f"{where}, column 'weight'", f"{weight:g}", "a finite number, 0 or more")
    low, high = given.rating if kind == "rating" else (None, None)
    label = Label(
        key=str(row.get("key", f"row {number}")),
        user=user,
        kind=kind,
        answer=None if answer is None else answer.id,
        value=value,
        low=low,
        high=high,
        texts=texts,
        prompt=str(row.get("query", "")),
        weight=weight,
        time=_time(row, where),
        hashed=hashed,
    )
    return label, answer


def _said(
    kind: str, row: Row, where: str, answer: LoggedAnswer | None, scale: LabelScale
) -> tuple[float | None, tuple[str, ...]]:
    """Give what a service would be told, and read it as a service does."""
    if kind == "comment":
        words = str(row["comment"] if "comment" in row else _text(row, "text", where, kind))
        about = str(row["text"]) if "comment" in row and "text" in row else None
        value, text = words, about
    elif kind == "preference" and "texts" in row and "over" not in row:
        value, text = _texts(row, where), None
    elif kind == "preference":
        value = [_text(row, "text", where, kind), _text(row, "over", where, kind)]
        text = None
    elif kind == "edit":
        value, text = _text(row, "text", where, kind), None
    else:
        text = _text(row, "text", where, kind)
        value = True if kind in ("kept", "dismissed") and "value" not in row else _value(kind, row, where)
    try:
        return KINDS[kind].read(value, text, answer, scale)
    except InputError as error:
        raise InputError(f"{where}, {error.where}", error.found, error.expected) from None


def _value(kind: str, row: Row, where: str) -> float | bool:
    if kind == "rating":
        return _number(row, "value", where)
    if "value" not in row:
        raise InputError(f"{where}, column 'value'", "an empty cell", f"1 or 0, which a {kind} needs")
    place = f"{where}, column 'value'"
    number = float(parsed_numbers([str(row["value"])], place, 1)[0])
    if number not in (0.0, 1.0):
        raise InputError(place, f"'{row['value']}'", "1 or 0, yes or no")
    if kind != "thumb" and not number:
        raise InputError(place, "0", f"1, or no row: what was not {kind} says nothing")
    return bool(number)


def _number(row: Row, role: str, where: str) -> float:
    place = f"{where}, column '{role}'"
    if role not in row or (isinstance(row[role], str) and row[role].strip() in NULLS):
        raise InputError(place, "an empty cell", "a number")
    if isinstance(row[role], bool):
        raise InputError(place, str(row[role]), "a number")
    try:
        return float(row[role])
    except (TypeError, ValueError):
        raise InputError(place, f"'{row[role]}'", "a number") from None


def _text(row: Row, role: str, where: str, kind: str) -> str:
    if role not in row:
        wanted = {
            ("preference", "text"): "the text that is preferred, or texts, best first",
            ("preference", "over"): "the text that it is preferred to",
            ("edit", "text"): "what the person finally wrote",
            ("edit", "over"): "the text that was shown, from which the edit started",
        }
        expected = wanted.get((kind, role), "the text that is spoken of")
        raise InputError(f"{where}, column '{role}'", "an empty cell", f"{expected} (kind '{kind}')")
    if not isinstance(row[role], str | int | float):
        raise InputError(f"{where}, column '{role}'", f"a value of type {type(row[role]).__name__}", "a text")
    return str(row[role])


def _texts(row: Row, where: str) -> list[str]:
    """Read a list of texts: as it is, or written as JSON."""
    given, place = row["texts"], f"{where}, column 'texts'"
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InputError(place, f"{str(row['texts'])[:60]!r}", 'a list of texts, such as ["one", "two"]')
    return given


def _edited(row: Row, where: str, user: str) -> LoggedAnswer:
    """Make the answer that was edited: the shown text and, where they are known, the other candidates."""
    shown = _text(row, "over", where, "edit")
    texts = tuple(dict.fromkeys((shown, *(_texts(row, where) if "texts" in row else ()))))
    known = (None,) * len(texts)
    chances = (1.0 / len(texts),) * len(texts)
    prompt = str(row.get("query", ""))
    return LoggedAnswer(where, user, prompt, texts, known, None, chances, 0, "", "", "everybody", None, 0.0)


def _scale_of(row: Row, where: str, scale: LabelScale, declared: bool) -> LabelScale:
    """Find the scale of a rating: what its row says, else what is declared."""
    if ("low" in row) != ("high" in row):
        absent = "high" if "low" in row else "low"
        raise InputError(f"{where}, column '{absent}'", "an empty cell", "both ends of the rating's scale, or neither")
    if "low" in row:
        ends = _number(row, "low", where), _number(row, "high", where)
        if not (np.isfinite(ends).all() and ends[0] < ends[1]):
            raise InputError(f"{where}, column 'low'", f"{ends[0]:g} to {ends[1]:g}", "the lower end first")
        return replace(scale, rating=ends)
    if not declared:
        expected = "rating = [1, 5] or the like under [data], or columns low and high"
        raise InputError(where, "a rating on no declared scale", expected)
    return scale


def _time(row: Row, where: str) -> float:
    """Read a time in seconds since 1970, NaN where there is none."""
    if "timestamp" not in row:
        return float("nan")
    return float(times_of([str(row["timestamp"])], f"{where}, column 'timestamp'", np.ones(1, dtype=np.int64))[0])


def _read_journal(rows: Iterator[tuple[str, Row]], path: Path) -> ReadLabels:
    """Read the lines that ``bestfor journal export`` writes, of one person or of several files put together."""
    found, tenants = ReadLabels(), set[str]()
    answers: dict[str, LoggedAnswer] = {}
    labels: dict[str, Label] = {}
    for where, row in rows:
        sort = row.get("type")
        if sort == "person":
            tenants.add(str(row.get("tenant", "")))
        elif sort == "answer":
            one = _record(LoggedAnswer, row, where)
            answers[one.id] = one
        elif sort == "label":
            label = _record(Label, row, where)
            labels[label.key] = label
        else:
            raise InputError(
                where, f"a line of type '{sort}'", "person, answer or label, as bestfor journal export writes"
            )
    if len(tenants) > 1:
        raise InputError(str(path), f"labels of {len(tenants)} tenants", "those of one, who share no people")
    found.withdrawn = sum(label.withdrawn is not None for label in labels.values())
    found.unknown = sum(label.kind not in KINDS for label in labels.values())
    for label in labels.values():
        if label.withdrawn is None and label.kind in KINDS:
            found.said.append((label, answers.get(label.answer or "")))
    return found


def _record(cls: type[Any], row: Row, where: str) -> Any:  # noqa: ANN401 - a label or an answer
    """Make a record of a line; fields of a later version are left out."""
    known = {one.name for one in fields(cls)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(where, f"an incomplete line ({error})", "one that bestfor journal export wrote") from None
