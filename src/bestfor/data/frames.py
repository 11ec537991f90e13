"""Take rows of a table as candidates, and give them back: DataFrames, Arrow tables, files, plain columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.data.coded import CandidateRows
from bestfor.data.read.tables import (
    UNREADABLE,
    Columns,
    arrow_table,
    format_of,
    header_of,
    read_table,
    roles_of,
    unreadable,
)
from bestfor.errors import InputError, MissingExtraError, nearest
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "user": ("user", "user_id"),
    "text": ("text",),
    "query": ("query", "query_id"),
    "prompt": ("prompt", "input"),
    "candidate": ("candidate",),
    "utility": ("utility",),
    "logprob": ("logprob",),
}
"""Names that a column may have by its role, the usual one first."""
NUMBERS = frozenset({"candidate", "utility", "logprob"})
"""Roles of numbers."""
_NEEDED = frozenset({"user", "text"})


@dataclass(frozen=True)
class Roles:
    """Columns that are looked for in a table.

    Attributes:
        names: names that a column may have, by its role, the usual one first.
        numbers: roles of numbers; the others are strings.
        needed: roles that must be there.
    """

    names: Mapping[str, tuple[str, ...]]
    numbers: frozenset[str]
    needed: frozenset[str]

    def find(self, rows: object, columns: Mapping[str, str] | None = None) -> tuple[pa.Table, str]:
        """Read the columns of a DataFrame, an Arrow table, a mapping of columns or a file, and name it for errors.

        Raises:
            InputError: a column is missing, or a cell is of another kind.
        """
        given, where = _given(rows)
        wanted = self._wanted(_names_in(given), columns or {})
        return (read_table(given, wanted) if isinstance(given, Path) else roles_of(given, wanted, where)), where

    def _wanted(self, there: Sequence[str], columns: Mapping[str, str]) -> Columns:
        unknown = next((role for role in columns if role not in self.names), None)
        if unknown is not None:
            raise InputError("columns", f"unknown role '{unknown}'", nearest(unknown, self.names))
        names = {role: next((one for one in usual if one in there), usual[0]) for role, usual in self.names.items()}
        names |= dict(columns)
        return Columns(
            text={role: name for role, name in names.items() if role not in self.numbers},
            number={role: name for role, name in names.items() if role in self.numbers},
            optional=frozenset(self.names) - self.needed - set(columns),
            hints={role: f'columns={{"{role}": "NAME"}}' for role in self.names},
        )


def code_rows(rows: object, columns: Mapping[str, str] | None = None) -> CandidateRows:
    """Code the rows of a table in their order; see :meth:`bestfor.data.candidates.Candidates.of_rows`."""
    table, where = Roles(NAMES, NUMBERS, _NEEDED).find(rows, columns)
    users, user = encode(table["user"])
    texts, text = encode(table["text"])
    prompts, prompt = encode(table["prompt"]) if "prompt" in table.schema.names else (("",), np.zeros_like(user))
    if "query" in table.schema.names:
        queries, query = encode(table["query"])
    else:
        queries, query = _queries(users, user, prompt)
    first = np.unique(query, return_index=True)[1]
    for name, codes, words in (("user", user, users), ("prompt", prompt, prompts)):
        other = np.flatnonzero(codes != codes[first][query])
        if len(other):
            row = int(other[0])
            found = f"the {name} '{words[codes[row]][:40]}' in a query of '{words[codes[first[query[row]]]][:40]}'"
            raise InputError(f"{where}, row {row + 1}, query '{queries[query[row]]}'", found, f"one {name} a query")
    return CandidateRows(
        users=users,
        queries=queries,
        inputs=tuple(prompts[code] for code in prompt[first].tolist()),
        texts=texts,
        user=user,
        query=query,
        text=text,
        candidate=_candidates(table, query, queries, where),
        utility=_numbers(table, "utility"),
        logprob=_numbers(table, "logprob"),
    )


def encode(column: pa.ChunkedArray) -> tuple[tuple[str, ...], IntArray]:
    """Code strings: the distinct ones by first appearance, and each row's code."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int64)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert a table to a pandas DataFrame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas  # noqa: F401 - arrow needs it
    except ModuleNotFoundError as error:
        message = "'pandas' is not installed; install it with: pip install pandas (to_arrow() needs nothing)"
        raise MissingExtraError(message) from error
    return table.to_pandas()


def _given(rows: object) -> tuple[Path | pa.Table, str]:
    """Take what was given as a file or as a table, and name it for errors."""
    if isinstance(rows, str | Path):
        return Path(rows), str(rows)
    if isinstance(rows, Mapping):
        try:
            return pa.table(dict(rows)), "the columns"
        except (pa.ArrowException, TypeError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise InputError("the columns", line, "arrays of one length, each of one kind") from error
    return arrow_table(rows), "the table"


def _names_in(given: Path | pa.Table) -> Sequence[str]:
    """Look for the names of a table's columns; none where only reading it would tell."""
    if not isinstance(given, Path):
        return given.schema.names
    kind = format_of(given)
    if kind == "jsonl":
        return ()
    try:
        return pq.read_schema(given).names if kind == "parquet" else header_of(given, kind)
    except UNREADABLE as error:
        raise unreadable(given, kind, error) from error


def _queries(users: tuple[str, ...], user: IntArray, prompt: IntArray) -> tuple[tuple[str, ...], IntArray]:
    """Make a query of what each user is asked: named by the user, and from the second on by a number too."""
    pairs, first, inverse = np.unique(np.stack([user, prompt], axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    seen: dict[int, int] = {}
    names: list[str] = []
    for code in pairs[order, 0].tolist():
        seen[code] = seen.get(code, -1) + 1
        names.append(f"{users[code]}/{seen[code]}" if seen[code] else users[code])
    if len(set(names)) < len(names):
        names = [f"{name} ({place})" for place, name in enumerate(names)]
    return tuple(names), number[inverse.reshape(-1)]


def _candidates(table: pa.Table, query: IntArray, queries: tuple[str, ...], where: str) -> IntArray:
    """Read the candidates' numbers, or number each query's rows."""
    order = np.argsort(query, kind="stable")
    start = np.flatnonzero(np.diff(query[order], prepend=-1))
    if "candidate" not in table.schema.names:
        number = np.empty(len(query), dtype=np.int64)
        number[order] = np.arange(len(query)) - np.repeat(start, np.diff(start, append=len(query)))
        return number
    values = _numbers(table, "candidate")
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0) | (values != np.floor(values)))
    if len(wrong):
        raise InputError(f"{where}, row {wrong[0] + 1}, candidate", f"{values[wrong[0]]:g}", "0, 1, 2, ...")
    number = values.astype(np.int64)
    order = np.lexsort((number, query))
    twice = np.flatnonzero((np.diff(query[order]) == 0) & (np.diff(number[order]) == 0))
    if len(twice):
        row = int(order[twice[0] + 1])
        found = f"candidate {number[row]} of query '{queries[query[row]]}' twice"
        raise InputError(f"{where}, row {row + 1}", found, "each candidate of a query once")
    return number


def _numbers(table: pa.Table, role: str) -> FloatArray:
    if role not in table.schema.names:
        return np.full(table.num_rows, np.nan)
    values: Any = table[role].to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)
