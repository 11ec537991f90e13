"""Histories of one's own: a table of what users wrote, and a table of what is asked now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bestfor.data.batches import Batches
from bestfor.data.fields import time_of
from bestfor.data.histories import Collector, Entry, Questions
from bestfor.data.read.tables import Columns, file_signature
from bestfor.data.split import Dataset
from bestfor.errors import InputError, nearest

HISTORY_ROLES = ("user_id", "item_id", "input", "output", "timestamp")
QUERY_ROLES = ("query_id", "user_id", "input", "reference", "split", "timestamp")


@dataclass(frozen=True)
class _Cells:
    """A row of a table by role, and where it stands."""

    values: Mapping[str, str | None]
    where: str

    def get(self, role: str) -> str:
        return self.values.get(role) or ""


def load_histories(
    histories: str | Path, queries: str | Path, *, columns: Mapping[str, str] | None = None, users: int | None = None
) -> Dataset:
    """Read two tables; CSV, TSV, JSONL or Parquet, read in batches.

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
    items.left.without = sum(count == 0 for count in wanted.values())
    parts = [repr(sorted(names.items())), str(users), file_signature(histories), file_signature(queries)]
    signature = "sha256:" + hashlib.sha256("|".join(parts).encode()).hexdigest()
    table, kept = asked.table(str(queries)), items.table(asked.contents)
    return Dataset(Path(histories).stem, signature, kept, table, notes=items.left.notes())


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
