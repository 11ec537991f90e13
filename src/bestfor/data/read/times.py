"""Read moments in time as people and databases write them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from bestfor.data.read.cells import NULLS, at_row
from bestfor.errors import InputError

EXPECTED = "a year, a date such as 2017-05-30, or seconds since 1970"
YEARS = 10_000
MILLISECONDS = 100_000_000_000
_SLASHES = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})(?=$|[ T])")
_ZONE = re.compile(r" ?(UTC|GMT|Z)$")


@lru_cache(maxsize=1 << 14)
def moment(text: str) -> float | None:
    """Convert a year, a date, a moment, seconds or milliseconds to seconds since 1970; None where it is none of these.

    Dates and moments are those of ISO 8601, also with a blank between date and time, with slashes (2017/05/30) or with
    ``UTC`` behind, as databases write them, and those of RFC 2822 (Tue, 30 May 2017 10:00:00 GMT). Without a zone a
    moment is UTC.
    """
    text = text.strip()
    with suppress(ValueError, OverflowError):
        if text.lstrip("-").replace(".", "", 1).isdigit():
            return _of_number(float(text))
        parts = text.split("-")
        if len(parts) in (2, 3) and all(part.isdigit() for part in parts):
            year, month, day = (*(int(part) for part in parts), 1)[:3]
            return datetime(year, month, day, tzinfo=UTC).timestamp()
        return _seconds(_iso(text))
    from email.utils import parsedate_to_datetime

    with suppress(ValueError, OverflowError, TypeError, IndexError):
        return _seconds(parsedate_to_datetime(text))
    return None


def _iso(text: str) -> datetime:
    slashed = _SLASHES.match(text)
    if slashed is not None:
        date = "-".join(part.zfill(2) for part in slashed.groups())
        text = date + text[slashed.end() :]
    return datetime.fromisoformat(_ZONE.sub("+00:00", text))


def _seconds(found: datetime) -> float:
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _of_number(number: float) -> float:
    # A column of years in which some are missing is one of floats.
    if 0 < number < YEARS and number.is_integer():
        return datetime(int(number), 1, 1, tzinfo=UTC).timestamp()
    return number // 1000 if abs(number) >= MILLISECONDS else number


def times_of(cells: list[str | None], where: str, rows: np.ndarray) -> np.ndarray:
    """Read a column of times: numbers as they are where all are numbers, else seconds since 1970.

    Args:
        cells: of the column.
        where: file and column, for errors.
        rows: shape (rows,), the rows' numbers.

    Raises:
        InputError: a cell is empty or no time; names the row.
    """
    plain = ["" if cell is None or cell.strip() in NULLS else cell.strip() for cell in cells]
    with suppress(ValueError):
        return np.array([float(cell) for cell in plain])
    found = np.empty(len(plain))
    for at, cell in enumerate(plain):
        seconds = moment(cell)
        if seconds is None:
            what = f"'{cell[:40]}'" if cell else "an empty cell"
            raise InputError(at_row(where, int(rows[at])), what, EXPECTED)
        found[at] = seconds
    return found
