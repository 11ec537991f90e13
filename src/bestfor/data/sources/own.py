"""Load tables of one's own: ratings that people gave to texts, or histories of what users wrote and their queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from bestfor.data.read.objects import time_of
from bestfor.data.read.tables import Batches, Columns, file_signature, read_table
from bestfor.data.sources.histories import Collector, Entry, Questions
from bestfor.data.split import Dataset, Ratings
from bestfor.errors import InputError, nearest
from bestfor.files import hash_text, labelled

RATING_ROLES = ("user", "query", "text", "rating", "text_id", "timestamp")
HISTORY_ROLES = ("user_id", "item_id", "input", "output", "timestamp")
QUERY_ROLES = ("query_id", "user_id", "input", "reference", "split", "timestamp")


def load_ratings(path: str | Path, columns: Mapping[str, str] | None = None) -> Ratings:
    """Load scores that people gave to texts: user, text, rating, and perhaps query, text_id and timestamp.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, one rating a row. An empty rating means not rated.
        columns: other names for the roles user, query, text, rating, text_id, timestamp.

    Raises:
        InputError: as :func:`~bestfor.data.read.tables.read_table`; also an infinite rating, or two ratings
            by one user of one text for a query.
    """
    names = {role: role for role in RATING_ROLES}
    unknown = set(columns or ()) - names.keys()
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(f"columns of {path}", f"unknown role '{name}'", nearest(name, names))
    names |= dict(columns or {})
    wanted = Columns(
        text={role: names[role] for role in ("user", "query", "text", "text_id")},
        number={role: names[role] for role in ("rating", "timestamp")},
        optional=frozenset({"query", "text_id", "timestamp"}),
        hints={role: f'columns = {{ {role} = "NAME" }} under [data]' for role in names},
    )
    table = read_table(path, wanted)
    rating = table.column("rating")
    infinite = pc.fill_null(pc.is_inf(rating), False)  # pyright: ignore[reportAttributeAccessIssue]
    if pc.any(infinite).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        row = int(np.flatnonzero(infinite.to_numpy())[0]) + 1
        raise InputError(f"{path}, row {row}, column '{names['rating']}'", "an infinite rating", "a finite number")
    return Ratings.build(table, name=Path(path).stem, source=str(path), signature=file_signature(path))


@dataclass(frozen=True)
class _Cells:
    """Cells of a row by role, and where the row stands."""

    values: Mapping[str, str | None]
    where: str

    def get(self, role: str) -> str:
        return self.values.get(role) or ""


def load_histories(
    histories: str | Path, queries: str | Path, *, columns: Mapping[str, str] | None = None, users: int | None = None
) -> Dataset:
    """Load histories and queries from two tables (CSV, TSV, JSONL or Parquet), read in batches.

    Args:
        histories: columns user_id, output, and where there are any item_id, input and timestamp. A text without an
            input was not asked for: it may show in prompts and is never a query. Without times the order of a user's
            rows is that of their making.
        queries: columns query_id, user_id, input, and where there are any reference, split (fit or test) and timestamp.
        columns: other names of these columns, in either table.
        users: keep the first so many users of the queries.

    Returns:
        Histories of the users that have queries, and the queries.

    Raises:
        InputError: a table that cannot be read, a missing column or text, an unknown role, split or time, or a query
            twice; names file, row and column.
    """
    names = _names(columns or {})
    asked = Questions()
    wanted: dict[str, int] = {}
    for row in _rows(Path(queries), QUERY_ROLES, names, optional=("reference", "split", "timestamp")):
        user = row.get("user_id")
        if user not in wanted and users is not None and len(wanted) >= users:
            continue
        wanted.setdefault(user, 0)
        when = _time(row, names)
        asked.add(
            (row.get("query_id"), user, row.get("input"), row.values.get("reference"), _split(row), when), row.where
        )
    items = Collector()
    for number, row in enumerate(_rows(Path(histories), HISTORY_ROLES, names, ("item_id", "input", "timestamp")), 1):
        user = row.get("user_id")
        if user in wanted:
            wanted[user] += 1
            entry = Entry(row.get("item_id") or str(number), row.get("input"), row.get("output"), _time(row, names))
            items.add(user, [entry])
    items.omitted.without = sum(count == 0 for count in wanted.values())
    parts = [repr(sorted(names.items())), str(users), file_signature(histories), file_signature(queries)]
    signature = labelled(hash_text("|".join(parts)))
    table, kept = asked.table(str(queries)), items.table(asked.contents)
    return Dataset(Path(histories).stem, signature, kept, table, notes=items.omitted.notes())


def _names(columns: Mapping[str, str]) -> dict[str, str]:
    roles = dict.fromkeys((*HISTORY_ROLES, *QUERY_ROLES))
    for role in columns:
        if role not in roles:
            raise InputError("columns", f"unknown role '{role}'", nearest(role, roles))
    return {role: role for role in roles} | dict(columns)


def _rows(path: Path, roles: tuple[str, ...], names: Mapping[str, str], optional: tuple[str, ...]) -> Iterator[_Cells]:
    wanted = Columns({role: names[role] for role in roles}, {}, frozenset(optional))
    for first, table in Batches(path, wanted, str(path), block=1 << 22):
        columns = {role: table[role].to_pylist() for role in roles if role in table.schema.names}
        for at in range(table.num_rows):
            where = f"{path}, row {first + at}"
            values = {role: column[at] for role, column in columns.items()}
            for role in ("user_id", "query_id"):
                if values.get(role) == "":
                    raise InputError(f"{where}, column '{names[role]}'", "an empty cell", "an id")
            yield _Cells(values, where)


def _time(row: _Cells, names: Mapping[str, str]) -> int | None:
    return time_of(row.values.get("timestamp"), f"{row.where}, column '{names['timestamp']}'")


def _split(row: _Cells) -> str:
    split = row.get("split") or "test"
    if split not in ("fit", "test"):
        raise InputError(f"{row.where}, column 'split'", f"'{split}'", "fit or test")
    return split
