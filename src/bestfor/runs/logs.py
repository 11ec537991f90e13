"""Diagnose a log of shown answers that lies in a table: one row a candidate, the outcome on the shown row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.read.tables import Columns, arrow_table, read_table, roles_of
from bestfor.diagnostics.diagnose import Settings
from bestfor.diagnostics.logs import LogDiagnosis, LoggedPools, diagnose_logs, logged_pools
from bestfor.diagnostics.table.rows import encode
from bestfor.errors import InputError
from bestfor.runs.table import floats
from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class LogColumns:
    """Names of a log's columns; one row is a candidate.

    Attributes:
        user: user ids.
        query: ids of requests; one answer of each was shown.
        rewards: one column for each reward model.
        shown: 1 on the row of the shown answer, 0 elsewhere.
        chance: with which the logger showed the candidate; the chances of a request sum to 1.
        utility: the outcome; only the shown row's is looked at.
        answered: the chance that a shown answer gets an outcome, where silence is modelled; only the shown row's.
    """

    user: str = "user"
    query: str = "query"
    rewards: tuple[str, ...] = ("reward",)
    shown: str = "shown"
    chance: str = "chance"
    utility: str = "utility"
    answered: str | None = None


def diagnose_log_table(
    source: str | Path | object, columns: LogColumns | None = None, settings: Settings | None = None
) -> LogDiagnosis:
    """Estimate Best-of-N curves from a log.

    Args:
        source: a file, an Arrow table, or anything with the Arrow stream interface.
        columns: its columns.
        settings: values of N, averaging and level; a log averages over its requests unless told otherwise.

    Raises:
        InputError: bad cells (file, row and column are named), a request without exactly one shown answer, chances that
            do not sum to 1, a logger that took the best, or too few outcomes.
    """
    columns, settings = columns or LogColumns(), settings or Settings(averaging="query")
    is_file = isinstance(source, str | Path)
    where = str(source) if is_file else "the table"
    wanted = _wanted(columns)
    table = read_table(where, wanted) if is_file else roles_of(arrow_table(source), wanted, where)
    if table.num_rows == 0:
        raise InputError(where, "no rows", "one row a candidate")
    requests = _LoggedRequests.of(table, where)
    shown = requests.shown_rows(_marks(table, where, columns.shown), (where, columns.shown))
    pools, kept = _pools(table, requests, shown, (where, columns))
    rewards = {
        name: requests.padded(_finite(table, f"reward {name}", f"{where}, column '{name}'"))[kept]
        for name in columns.rewards
    }
    return diagnose_logs(
        pools,
        rewards,
        None if settings.n is None else np.array(sorted(settings.n), dtype=np.int64),
        shown=len(kept),
        averaging=settings.averaging,
        level=settings.level,
        name=settings.name or (Path(where).stem if is_file else "log"),
    )


@dataclass(frozen=True)
class _LoggedRequests:
    """Rows by request; R rows, Q requests.

    Attributes:
        row: shape (R,), the rows by request, in the order of the table within each.
        request: shape (R,), the request of each of them.
        place: shape (R,), its place within the request.
        user: shape (Q,), codes.
        size: shape (Q,).
        names: shape (Q,), the request's id, for errors.
    """

    row: IntArray
    request: IntArray
    place: IntArray
    user: IntArray
    size: IntArray
    names: list[str]

    @classmethod
    def of(cls, table: pa.Table, where: str) -> _LoggedRequests:
        """Group rows by user and request."""
        user, users = encode(f"{where}, users", table["user"])
        query, queries = encode(f"{where}, queries", table["query"])
        key = user * len(queries) + query
        found, request = np.unique(key, return_inverse=True)
        row = np.argsort(request, kind="stable")
        size = np.bincount(request).astype(np.int64)
        start = np.cumsum(size) - size
        names = [f"'{queries[one % len(queries)]}' of user '{users[one // len(queries)]}'" for one in found.tolist()]
        place = np.arange(len(row)) - np.repeat(start, size)
        return cls(row, request[row], place, found // len(queries), size, names)

    def padded(self, values: FloatArray) -> FloatArray:
        """Lay a column out by request, shape (Q, M), 0 past the size."""
        result = np.zeros((len(self.size), int(self.size.max())))
        result[self.request, self.place] = values[self.row]
        return result

    def shown_rows(self, marks: FloatArray, place: tuple[str, str]) -> IntArray:
        """Find the shown row of each request, shape (Q,).

        Raises:
            InputError: a request with none, or with several.
        """
        count = np.bincount(self.request, marks[self.row], minlength=len(self.size)).astype(np.int64)
        wrong = np.flatnonzero(count != 1)
        if len(wrong):
            found = f"{count[wrong[0]]} shown answers for query {self.names[wrong[0]]} ({len(wrong)} such queries)"
            raise InputError(f"{place[0]}, column '{place[1]}'", found, "exactly one in each query")
        at = np.flatnonzero(marks[self.row] == 1)
        return self.row[at]


def _pools(
    table: pa.Table, requests: _LoggedRequests, shown: IntArray, place: tuple[str, LogColumns]
) -> tuple[LoggedPools, np.ndarray]:
    """Make pools of the requests whose shown answer has an outcome; returns them and which those are, shape (Q,)."""
    where, columns = place
    chance = requests.padded(_finite(table, "chance", f"{where}, column '{columns.chance}'"))
    outcome = floats(table, "utility")[shown]
    kept = np.isfinite(outcome)
    place_of_row = np.empty(table.num_rows, dtype=np.int64)
    place_of_row[requests.row] = requests.place
    answered = None
    if columns.answered is not None:
        answered = floats(table, "answered")[shown][kept]
        bad = np.flatnonzero(~((answered > 0) & (answered <= 1)))
        if len(bad):
            row = int(shown[kept][bad[0]]) + 1
            found = f"{answered[bad[0]]:g}"
            raise InputError(f"{where}, row {row}, column '{columns.answered}'", found, "a chance above 0, up to 1")
    _, user = np.unique(requests.user[kept], return_inverse=True)
    try:
        pools = logged_pools(
            user.astype(np.int64),
            chance[kept],
            requests.size[kept],
            place_of_row[shown][kept],
            outcome[kept],
            answered,
        )
    except InputError as error:
        raise InputError(where, error.found, error.expected) from None
    return pools, kept


def _marks(table: pa.Table, where: str, column: str) -> FloatArray:
    values = floats(table, "shown")
    values = np.where(np.isnan(values), 0.0, values)
    bad = np.flatnonzero((values != 0) & (values != 1))
    if len(bad):
        at = f"{where}, row {int(bad[0]) + 1}, column '{column}'"
        raise InputError(at, f"{values[bad[0]]:g}", "1 (true) where the answer was shown, 0 (false) elsewhere")
    return values


def _finite(table: pa.Table, role: str, at: str) -> FloatArray:
    values = floats(table, role)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0]) + 1
        raise InputError(at.replace(", column", f", row {row}, column"), "no number", "one for every candidate")
    return values


def _wanted(columns: LogColumns) -> Columns:
    numbers = {"shown": columns.shown, "chance": columns.chance, "utility": columns.utility}
    numbers |= {f"reward {name}": name for name in _once(columns.rewards)}
    if columns.answered is not None:
        numbers["answered"] = columns.answered
    options = {"user": "--user", "query": "--query", "shown": "--shown", "chance": "--chance", "utility": "--utility"}
    hints = {role: f"{option} NAME" for role, option in options.items()}
    hints |= {role: "--reward NAME" for role in numbers if role.startswith("reward ")}
    texts = {"user": columns.user, "query": columns.query}
    return Columns(text=texts, number=numbers, hints=hints, ids=frozenset(texts))


def _once(names: Sequence[str]) -> Sequence[str]:
    if not names or len(set(names)) < len(names):
        raise InputError("reward columns", ", ".join(names) or "none", "each of them once")
    return names
