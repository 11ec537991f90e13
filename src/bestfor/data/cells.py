"""Columns of a table as strings or numbers, with errors that name the row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from bestfor.errors import InputError

NULLS = frozenset(pacsv.ConvertOptions().null_values)
"""Cells that stand for a missing number: empty, NA, nan, null and the like."""


def strings(column: pa.ChunkedArray, where: str, optional: bool, first: int) -> pa.ChunkedArray:
    """A column as strings, numbers in decimal.

    Args:
        column: of any type.
        where: file and column, for errors.
        optional: whether cells may be empty.
        first: number of the first row, for errors.

    Raises:
        InputError: the type has no text, or a cell is empty that must not be.
    """
    column = _plain(column)
    if pa.types.is_floating(column.type):
        column = _identifiers(column.cast(pa.float64()))
    try:
        column = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(where, f"values of type {column.type}", "texts in UTF-8 or whole numbers") from error
    if column.null_count and not optional:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + first
        raise InputError(where.replace(", column", f", row {row}, column"), "an empty cell", "a text")
    return column


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without a dictionary; Arrow cannot cast one of string views, as polars' categories are."""
    if not pa.types.is_dictionary(column.type):
        return column
    kind = pa.string() if pa.types.is_string_view(column.type.value_type) else column.type.value_type
    return pa.chunked_array([part.dictionary.cast(kind).take(part.indices) for part in column.chunks], kind)


def _identifiers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floats as identifiers: NaN is none, and 3.0 is the 3 that a tool wrote as a float."""
    values = column.to_numpy()
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    texts = pa.array(values, mask=np.isnan(values)).cast(pa.string())
    numbers = pa.array(np.where(whole, values, 0.0).astype(np.int64)).cast(pa.string())
    return pa.chunked_array([pc.if_else(pa.array(whole), numbers, texts)])  # pyright: ignore[reportAttributeAccessIssue]


def numbers(column: pa.ChunkedArray, where: str, first: int) -> pa.ChunkedArray:
    """A column as float64, null where a cell is empty; arguments as in :func:`strings`.

    Raises:
        InputError: a cell is not a number; the message names its row.
    """
    column = _plain(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return _parse_numbers(column, where, first)
    try:
        return column.cast(pa.float64(), safe=False)  # integers beyond 2^53 are rounded, not refused
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(where, f"values of type {column.type}", "numbers") from error


def _parse_numbers(column: pa.ChunkedArray, where: str, first: int) -> pa.ChunkedArray:
    values = np.empty(len(column))
    for row, cell in enumerate(column.to_pylist()):
        try:
            values[row] = np.nan if cell is None or cell in NULLS else _number(cell)
        except ValueError:
            where = where.replace(", column", f", row {row + first}, column")
            raise InputError(where, f"'{str(cell)[:40]}'", "a number") from None
    return pa.chunked_array([pa.array(values, from_pandas=True)])


def _number(cell: str) -> float:
    if "_" in cell or not cell.isascii():  # Python reads 1_000 and digits of other scripts, Arrow does not
        raise ValueError(cell)
    return float(cell)
