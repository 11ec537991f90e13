"""Read a plain table of what people said: a row for each answer, with a column for each kind of label.

Columns: ``user`` and ``text`` (or ``response``, ``answer``, ``output``), and at least one of ``rating``, ``thumb``
(or ``score``), ``over`` (a text that was liked less), ``kept``, ``dismissed``, ``edit`` and ``comment``; ``prompt``,
``time`` and ``key`` where they are there. JSON lines and Parquet with these fields are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from bestfor.data.read.cells import word_value
from bestfor.data.read.objects import Row
from bestfor.files import hash_parts
from bestfor.serving.imports.feedback import GivenScore, Score, ShownAnswer, is_missing
from bestfor.serving.imports.fields import name_or_none, time_or_none

EXPECTED = "rows with user, text, and one of rating, thumb, score, over, kept, dismissed, edit or comment"

TEXTS = ("text", "response", "answer", "output")
PROMPTS = ("prompt", "input", "question")
USERS = ("user", "user_id")
SCORES = ("rating", "thumb", "score")
SIGNALS = ("kept", "dismissed")
SAID = frozenset((*SCORES, *SIGNALS, "over", "edit", "comment"))


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer of a row."""
    text = _first(row, TEXTS)
    if text is None:
        return None
    prompt = _first(row, PROMPTS) or ""
    time = time_or_none(row.get("time"), f"{where}, column 'time'")
    return ShownAnswer(_id(row), name_or_none(_first(row, USERS)), prompt, (text,), time)


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read what a row says."""
    given = {name: value for name, value in row.items() if name in SAID and not is_missing(value)}
    text = _first(row, TEXTS) if given else None
    if text is None:
        return
    id = _id(row)
    signal = next((name for name in SIGNALS if name in given and yes_or_no(given[name])), "")
    values = [given[name] for name in SCORES if name in given]
    yield GivenScore(
        about=(id,),
        key=id,
        score=_score(values[0]) if values else None,
        signal=signal,
        rankings=((text, str(given["over"])),) if "over" in given else (),
        edit=None if "edit" not in given else str(given["edit"]),
        comment=None if "comment" not in given else str(given["comment"]),
        time=time_or_none(row.get("time"), f"{where}, column 'time'"),
        where=where,
    )


def yes_or_no(value: object) -> bool:
    """Tell whether a cell says yes."""
    return str(value).strip().lower() in ("1", "1.0") or word_value(str(value)) == 1.0


def _score(value: object) -> Score | None:
    return value if isinstance(value, bool | int | float | str) else None


def _id(row: Row) -> str:
    """Name a row: by its key, or by all that it holds, so that a table may be read twice."""
    key = name_or_none(row.get("key"))
    if key is not None:
        return key
    return hash_parts(f"{name}\0{value}\0".encode("utf-8", "surrogatepass") for name, value in sorted(row.items()))[:32]


def _first(row: Row, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = row.get(name)
        if value is not None and not is_missing(value):
            return str(value)
    return None
