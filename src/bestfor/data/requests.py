"""Read requests: a user, a prompt, the candidates for it, and perhaps what the user wrote before.

JSON lines and Parquet hold one request a row, ``{"user", "prompt", "texts", "history"?, "query"?}``. CSV, TSV, and JSON
lines or Parquet with a column ``text``, hold one candidate a row: ``user``, ``prompt``, ``text`` and perhaps ``query``;
rows of one request stand together. Errors name the line or row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.candidates import History
from bestfor.data.read.jsonl import first_row
from bestfor.data.read.objects import read_rows
from bestfor.data.read.tables import FORMATS, Batches, Columns, format_of
from bestfor.errors import InputError

AT_ONCE = 64
"""Requests of a batch at most."""

_CHUNK = 1 << 20
_EXPECTED = "a user, a prompt and a list of texts"


@dataclass(frozen=True)
class AnswerRequest:
    """Candidates for one prompt of one user.

    Attributes:
        query: names the request; its line or its number among the requests of a table where it has no name.
        user: who asks.
        prompt: what is asked, empty where people rate bare texts.
        texts: the candidates, at least one.
        history: what the user wrote before, oldest first; None where nobody knows.
        candidate: the candidates' indices in a pool; their numbers from 0 where it is empty.
    """

    query: str
    user: str
    prompt: str
    texts: tuple[str, ...]
    history: tuple[str, ...] | None = None
    candidate: tuple[int, ...] = field(default=())

    def first(self, n: int | None) -> AnswerRequest:
        """Keep the first n candidates, all where there are no more or n is None."""
        if n is None or n >= len(self.texts):
            return self
        return AnswerRequest(self.query, self.user, self.prompt, self.texts[:n], self.history, self.candidate[:n])

    def number(self, place: int) -> int:
        """Index in its pool of the candidate at a place."""
        return self.candidate[place] if self.candidate else place


@dataclass(frozen=True)
class RequestBatch:
    """Requests that are scored at once.

    Attributes:
        requests: at least one.
        history: what their users wrote, with how much of it each request sees, by its place in the batch.
    """

    requests: tuple[AnswerRequest, ...]
    history: History | None = None


def parse_request(row: object, where: str, number: int) -> AnswerRequest:
    """Check one request.

    Args:
        row: a mapping; keys beside the known ones are passed over.
        where: names it in errors.
        number: its line, which names it where it has no ``query``.

    Raises:
        InputError: something is missing or of another type.
    """
    if not isinstance(row, Mapping):
        raise InputError(where, f"a value of type {type(row).__name__}", f"an object with {_EXPECTED}")
    user, query = _identity(row, "user", where), str(number)
    if row.get("query") is not None:
        query = _identity(row, "query", where)
    prompt = "" if row.get("prompt") is None else _text(row["prompt"], f"{where}, 'prompt'")
    if row.get("texts") is None:
        raise InputError(where, "no 'texts'", f"an object with {_EXPECTED}")
    texts = _texts(row["texts"], f"{where}, 'texts'")
    if not texts:
        raise InputError(f"{where}, 'texts'", "an empty list", "at least one candidate")
    history = None if row.get("history") is None else _texts(row["history"], f"{where}, 'history'")
    return AnswerRequest(query, user, prompt, texts, history)


def requests_of_lines(stream: IO[bytes], where: str) -> Iterator[RequestBatch]:
    """Read JSON lines as they come: a batch holds the whole lines that are there, so that no answer waits for more.

    Args:
        stream: bytes in UTF-8; standard input, say.
        where: names it in errors.

    Raises:
        InputError: a line that is no request; what came before it was given.
    """
    rest, number = b"", 0
    read = stream.read1 if hasattr(stream, "read1") else stream.read  # pyright: ignore[reportAttributeAccessIssue]
    while chunk := read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from _batches(_parsed(lines, where, number))
        number += len(lines)
    yield from _batches(_parsed([rest], where, number))


def requests_of_file(path: str | Path) -> Iterator[RequestBatch]:
    """Read the requests of a file; memory holds a part of it.

    Raises:
        InputError: no such file, another format, a missing column, or a row that is no request.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "jsonl" and "texts" in first_row(path):
        with path.open("rb") as handle:
            yield from requests_of_lines(handle, str(path))
    elif kind == "parquet" and "texts" in _names(path):
        rows = ((where, row) for where, row in read_rows(path))
        yield from _batches(parse_request(row, where, number) for number, (where, row) in enumerate(rows, start=1))
    else:
        yield from _batches(_of_candidates(path))


def count_requests(path: str | Path) -> int:
    """Estimate how many requests a file holds: its lines, or the rows of a Parquet file."""
    path = Path(path)
    if FORMATS.get(path.suffix) == "parquet":
        return pq.read_metadata(path).num_rows
    with path.open("rb") as handle:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(_CHUNK), b""))


def in_batches(requests: Iterable[AnswerRequest], history: History | None = None) -> Iterator[RequestBatch]:
    """Batch requests that see the same history of their users, up to a number for each query by its id."""
    kept: list[AnswerRequest] = []
    for one in requests:
        kept.append(one)
        if len(kept) == AT_ONCE:
            yield RequestBatch(tuple(kept), _renamed(history, kept))
            kept = []
    if kept:
        yield RequestBatch(tuple(kept), _renamed(history, kept))


def _renamed(history: History | None, requests: Sequence[AnswerRequest]) -> History | None:
    if history is None:
        return None
    seen = {str(place): history.seen[one.query] for place, one in enumerate(requests) if one.query in history.seen}
    return History(history.texts, seen, history.tested)


def _batches(requests: Iterable[AnswerRequest]) -> Iterator[RequestBatch]:
    """Batch requests with histories of their own: a user has one in a batch. What came before an error is given."""
    kept: list[AnswerRequest] = []
    histories: dict[str, tuple[str, ...] | None] = {}
    try:
        for one in requests:
            known = not kept or (kept[0].history is None) == (one.history is None)
            if len(kept) == AT_ONCE or not known or histories.get(one.user, one.history) != one.history:
                yield _batch(kept)
                kept, histories = [], {}
            kept.append(one)
            histories[one.user] = one.history
    except InputError:
        if kept:
            yield _batch(kept)
        raise
    if kept:
        yield _batch(kept)


def _batch(requests: Sequence[AnswerRequest]) -> RequestBatch:
    wrote = {one.user: one.history for one in requests if one.history is not None}
    return RequestBatch(tuple(requests), History(wrote) if wrote else None)


def _parsed(lines: Sequence[bytes], where: str, done: int) -> Iterator[AnswerRequest]:
    for number, line in enumerate(lines, start=done + 1):
        if not line.strip():
            continue
        place = f"{where}, line {number}"
        try:
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(place, f"what is not JSON ({error})", "one JSON object a line") from None
        yield parse_request(row, place, number)


def _names(path: Path) -> list[str]:
    try:
        return pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise InputError(str(path), f"an unreadable file ({error})", "a whole Parquet file") from error


def _of_candidates(path: Path) -> Iterator[AnswerRequest]:
    """Read a table of one row a candidate; rows of one request stand together."""
    columns = Columns(
        text={"user": "user", "prompt": "prompt", "text": "text", "query": "query"},
        number={},
        optional=frozenset(["query", "prompt"]),
    )
    done: set[int] = set()
    groups = groupby(_candidate_rows(Batches(path, columns, str(path))), key=lambda row: row[:3])
    for number, (key, rows) in enumerate(groups, start=1):
        together = list(rows)
        mark = hash(key)
        if mark in done:
            found = f"query '{key[2]}' again" if key[2] else f"another part of a request of user '{key[0]}'"
            raise InputError(f"{path}, row {together[0][4]}", found, "the rows of one request together")
        done.add(mark)
        yield AnswerRequest(key[2] or str(number), key[0], key[1], tuple(row[3] for row in together))


def _candidate_rows(batches: Batches) -> Iterator[tuple[str, str, str, str, int]]:
    for first, table in batches:
        empty: list[Any] = [""] * table.num_rows
        given = [table[name].to_pylist() if name in table.schema.names else empty for name in ("prompt", "query")]
        rows = zip(table["user"].to_pylist(), *given, table["text"].to_pylist(), strict=True)
        for number, (user, prompt, query, text) in enumerate(rows, start=first):
            if not user:
                raise InputError(f"{batches.where}, row {number}, column 'user'", "an empty cell", "a user's id")
            yield user, prompt or "", query or "", text, number


def _identity(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        found = f"no '{name}'" if value is None else f"{json.dumps(value, default=str)} as '{name}'"
        raise InputError(where, found, f"an object with {_EXPECTED}")
    return _text(value, f"{where}, '{name}'")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(where, f"a value of type {type(value).__name__}", "a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(where, "half of a surrogate pair", "characters that UTF-8 can hold") from None
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(where, f"a value of type {type(value).__name__}", "a list of strings")
    return tuple(_text(one, f"{where}, number {place + 1}") for place, one in enumerate(value))
