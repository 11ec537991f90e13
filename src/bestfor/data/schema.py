"""Arrow schemas of a run's five tables, and the one way they are written and read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.errors import InputError
from bestfor.files import Place, writing


def _schema(*fields: tuple[str, pa.DataType], optional: tuple[str, ...] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in optional) for name, kind in fields])


HISTORIES = _schema(
    ("user_id", pa.string()),
    ("item_id", pa.string()),
    ("input", pa.string()),
    ("output", pa.string()),
    ("timestamp", pa.int64()),
    optional=("timestamp",),
)
QUERIES = _schema(
    ("query_id", pa.string()),
    ("user_id", pa.string()),
    ("input", pa.string()),
    ("reference", pa.string()),
    ("split", pa.string()),
    ("timestamp", pa.int64()),
    optional=("reference", "timestamp"),
)
CANDIDATES = _schema(
    ("query_id", pa.string()),
    ("candidate", pa.int32()),
    ("text_id", pa.string()),
    ("text", pa.string()),
    ("logprob", pa.float64()),
    ("finish_reason", pa.string()),
    ("policy", pa.string()),
    ("seed", pa.int64()),
    optional=("logprob",),
)
UTILITIES = _schema(
    ("query_id", pa.string()),
    ("candidate", pa.int32()),
    ("metric", pa.string()),
    ("utility", pa.float64()),
)
REWARDS = _schema(
    ("query_id", pa.string()),
    ("candidate", pa.int32()),
    ("model", pa.string()),
    ("mean", pa.float64()),
    ("std", pa.float64()),
    optional=("mean", "std"),
)


def write(table: pa.Table, path: Path, metadata: dict[str, str] | None = None, *, place: Place = os.replace) -> None:
    """Write a Parquet file so that it is either whole or absent, with the same bytes for the same rows.

    Args:
        table: the rows.
        path: the final path; its folder is made.
        metadata: strings stored beside the schema, for example a reward model's scale.
        place: gives the complete file its name; by default in the place of one that is there.
    """
    if metadata:
        table = table.replace_schema_metadata(metadata)
    with writing(path, place=place) as partial:
        pq.write_table(table, partial, compression="zstd")


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file that must have exactly this schema.

    Raises:
        InputError: the file is absent, half-written or of another schema.
    """
    if not path.is_file():
        raise InputError(str(path), "no file", "a Parquet file")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(path), f"an unreadable file ({_first_line(error)})", "a whole Parquet file") from error
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise InputError(str(path), f"no column '{missing[0]}'", "columns " + ", ".join(schema.names))
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(str(path), f"a column of another type ({_first_line(error)})", str(schema)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the strings that :func:`write` stored beside a file's schema."""
    stored = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in stored.items() if not key.startswith(b"ARROW")}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
