"""Read the cells of a table's columns alike in every format: ids, numbers and what stands for a missing value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from bestfor.data.text import UNSEEN
from bestfor.errors import InputError
from bestfor.types import BoolArray, IntArray

_MADE_BY_TOOLS = (
    *(
        "nan",
        "NaN",
        "-nan",
        "None",
        "<NA>",
        "NaT",
        "null",
        "NULL",
        "<null>",
        "\\N",
        "#N/A",
        "N/A",
        "n/a",
        "Null",
        "(null)",
    ),
    *("undefined", "nil", "#NULL!"),
)
"""What pandas, Python, JavaScript, spreadsheets and databases write where there is no value."""

NULLS = frozenset({*pacsv.ConvertOptions().null_values, *_MADE_BY_TOOLS})
"""Cells that stand for a missing number: empty, NA, nan, None, null and the like."""

NOBODY = frozenset({"", *_MADE_BY_TOOLS, "#VALUE!", "#REF!", "#NAME?", "[object Object]"})
"""Cells that are nobody's id. (NA may be one: initials, or a country.)"""

_TRUE = frozenset(
    {"true", "t", "yes", "y", "wahr", "ja", "vrai", "oui", "verdadero", "vero", "up", "thumbs_up", "👍"}
) | {
    *(
        "thumbs up",
        "like",
        "liked",
        "accept",
        "accepted",
        "pass",
        "passed",
        "correct",
        "right",
        "win",
        "won",
        "success",
    ),
}
_FALSE = frozenset({"false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso", "down", "thumbs_down", "👎"}) | {
    *(
        "thumbs down",
        "dislike",
        "disliked",
        "reject",
        "rejected",
        "fail",
        "failed",
        "incorrect",
        "wrong",
        "loss",
        "lost",
    ),
    *("failure", "lose"),
}
_SURE = frozenset({"true", "false"})
"""Words that are read as 1 and 0 in any column; the others only where no other kind of number stands in it."""

_WHOLE = r"^(-?(?:0|[1-9][0-9]{0,14}))\.0$"
"""A whole number that a tool wrote as a float, because some cell of its column was empty."""


def identifiers(column: pa.ChunkedArray, where: str, role: str, rows: int | IntArray = 1) -> pa.ChunkedArray:
    """Bring ids to one spelling: no outer white space, Unicode's NFC, and ``3.0`` is the ``3`` that a tool wrote so.

    Characters of no width, which nobody sees, are cut, too.

    Args:
        column: strings.
        where: file and column, ``"<path>, column '<name>'"``.
        role: what the id is of, such as ``user`` or ``user_id``.
        rows: number of the first row, or the number of every row, shape (rows,).

    Raises:
        InputError: a cell is empty, or holds a word that stands for a missing value; names the row.
    """
    plain = pc.utf8_trim_whitespace(column)  # pyright: ignore[reportAttributeAccessIssue]
    if not pc.all(pc.string_is_ascii(plain)).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        plain = pc.replace_substring_regex(plain, f"[{UNSEEN}]", "")  # pyright: ignore[reportAttributeAccessIssue]
        plain = pc.utf8_trim_whitespace(plain)  # pyright: ignore[reportAttributeAccessIssue]
        plain = pc.utf8_normalize(plain, form="NFC")  # pyright: ignore[reportAttributeAccessIssue]
    if pc.any(pc.match_substring_regex(plain, _WHOLE)).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        plain = pc.replace_substring_regex(plain, _WHOLE, r"\1")  # pyright: ignore[reportAttributeAccessIssue]
    nobody = pc.is_in(plain, value_set=pa.array(sorted(NOBODY)))  # pyright: ignore[reportAttributeAccessIssue]
    nobody = pc.or_(nobody, pc.is_null(plain)).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    if nobody.any():
        first = int(np.argmax(nobody))
        cell = plain[first].as_py()
        found = f"'{cell}', which stands for a missing value" if cell else "an empty cell"
        raise InputError(at_row(where, row_number(rows, first)), found, f"a {role.removesuffix('_id')}'s id")
    return plain


def filled(column: pa.ChunkedArray, where: str, expected: str, rows: int | IntArray = 1) -> pa.ChunkedArray:
    """Refuse a column of texts with an empty cell; arguments as for :func:`identifiers`."""
    blank = empty_cells(column)
    if blank.any():
        raise InputError(at_row(where, row_number(rows, int(np.argmax(blank)))), "an empty cell", expected)
    return column


def empty_cells(column: pa.ChunkedArray) -> BoolArray:
    """Find cells that hold nothing but white space, or no value; shape (rows,)."""
    trimmed = pc.utf8_trim_whitespace(column)  # pyright: ignore[reportAttributeAccessIssue]
    return pc.fill_null(pc.equal(trimmed, ""), True).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]


def parsed_numbers(cells: Sequence[str | None], where: str, first: int) -> np.ndarray:
    """Read numbers from texts, NaN where there is none; true and false are 1 and 0.

    ``yes``, ``no``, ``y``, ``n``, ``t``, ``f``, ``up``, ``down``, ``liked``, ``rejected`` and the like are, too, where
    all other cells are such words, 0, 1 or empty.

    Args:
        cells: of a column.
        where: file and column, for errors.
        first: number of the first row.

    Raises:
        InputError: a cell is not a number; names the row.
    """
    plain = ["" if cell is None else cell.strip() for cell in cells]
    words = _words_of(plain)
    values = np.empty(len(plain))
    for row, cell in enumerate(plain):
        try:
            values[row] = np.nan if cell in NULLS else words[cell.lower()] if cell.lower() in words else _number(cell)
        except ValueError:
            raise InputError(at_row(where, row + first), f"'{cell[:40]}'", "a number") from None
    return values


def _words_of(cells: Sequence[str]) -> dict[str, float]:
    """Choose the words that are read as 1 and 0 in a column."""
    found = {cell.lower() for cell in cells if cell not in NULLS}
    known = (_TRUE | _FALSE) if found <= _TRUE | _FALSE | {"0", "1", "0.0", "1.0"} else _SURE
    return {word: float(word in _TRUE) for word in known}


def word_value(word: str) -> float | None:
    """Read one of the words that mean 1 or 0; None for any other."""
    lower = word.strip().lower()
    return 1.0 if lower in _TRUE else 0.0 if lower in _FALSE else None


def _number(cell: str) -> float:
    cell = cell.replace("\u2212", "-")  # the minus sign of typography
    if "_" in cell or not cell.isascii():  # Python reads 1_000 and digits of other scripts, Arrow does not
        raise ValueError(cell)
    return float(cell)


def at_row(where: str, row: int) -> str:
    """Put a row's number between the file and the column of a place."""
    return where.replace(", column", f", row {row}, column")


def row_number(rows: int | IntArray, at: int) -> int:
    """Find the number of the row at an index."""
    return rows + at if isinstance(rows, int) else int(rows[at])
