"""Execute one statement for many rows: SQLite's driver takes them as they are, PostgreSQL gets many in one message.

SQLAlchemy converts each value of each row, which takes longer than SQLite does to store it. What a journal's rows hold
(bytes, texts, numbers, booleans and nothing) SQLite's driver takes without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects import sqlite


def compile_for_sqlite(statement: Executable) -> tuple[str, tuple[str, ...]]:
    """Write a statement as SQLite's driver takes it, and name its parameters in their order."""
    made: Any = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))  # pyright: ignore[reportAttributeAccessIssue]
    return str(made), tuple(made.positiontup)


def execute_many(connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute a statement for each row.

    Args:
        connection: within a transaction.
        statement: an insertion that names its columns, or a change with named parameters; it returns nothing.
        rows: values by parameter, the same parameters in each.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(statement, rows)
        return
    sql, names = compile_for_sqlite(statement)
    connection.exec_driver_sql(sql, [tuple([row[name] for name in names]) for row in rows])
