"""Read tables of labels that a journal was written to by ``bestfor journal export --to csv``, jsonl or parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bestfor.data.read.objects import Row
from bestfor.errors import InputError, nearest
from bestfor.labels.said import KINDS
from bestfor.serving.imports.feedback import GivenScore, ShownAnswer, is_missing
from bestfor.serving.imports.fields import name_or_none

EXPECTED = "labels with key, user, kind, value and text"


def answer(where: str, row: Row) -> ShownAnswer | None:
    """Read the answer that a label is about."""
    if is_missing(row.get("kind")) or is_missing(row.get("text")) or _is_hashed(row):
        return None
    text = str(row["text"])
    texts = (text, *[one for one in _texts(where, row, "candidates") if one != text])
    prompt = "" if is_missing(row.get("prompt")) else str(row["prompt"])
    time = None if is_missing(row.get("time")) else _number(where, row, "time")
    return ShownAnswer(_id(where, row), name_or_none(row.get("user")), prompt, texts, time)


def scores(where: str, row: Row) -> Iterator[GivenScore]:
    """Read a label; withdrawn ones and hashes of texts are none."""
    if is_missing(row.get("kind")) or _is_hashed(row) or not is_missing(row.get("withdrawn")):
        return
    kind = str(row["kind"])
    if kind not in KINDS:
        raise InputError(f"{where}, column 'kind'", f"'{kind}'", nearest(kind, KINDS))
    value = None if is_missing(row.get("value")) else _number(where, row, "value")
    texts = _texts(where, row, "texts")
    scaled = kind == "rating" and not is_missing(row.get("low")) and not is_missing(row.get("high"))
    yield GivenScore(
        about=(_id(where, row),),
        key=str(row.get("key")),
        score=value if kind in ("rating", "thumb") else None,
        scale=(_number(where, row, "low"), _number(where, row, "high")) if scaled else None,
        signal=kind if kind in ("kept", "dismissed") else "",
        rankings=(texts,) if kind == "preference" else (),
        edit=texts[0] if kind == "edit" and texts else None,
        comment=texts[0] if kind == "comment" and texts else None,
        time=None if is_missing(row.get("time")) else _number(where, row, "time"),
        where=where,
    )


def _id(where: str, row: Row) -> str:
    """Name the answer: by its own id, or by the label's where there is none."""
    found = name_or_none(row.get("answer")) or name_or_none(row.get("key"))
    if found is None:
        raise InputError(f"{where}, column 'key'", "nothing", "the label's key")
    return found


def _is_hashed(row: Row) -> bool:
    return str(row.get("hashed")).lower() in ("true", "1")


def _number(where: str, row: Row, name: str) -> float:
    try:
        return float(str(row[name]))
    except ValueError:
        raise InputError(f"{where}, column '{name}'", f"'{row[name]}'", "a number") from None


def _texts(where: str, row: Row, name: str) -> tuple[str, ...]:
    found = row.get(name)
    if isinstance(found, str) and found:
        try:
            found = json.loads(found)
        except ValueError:
            raise InputError(f"{where}, column '{name}'", f"'{found[:40]}'", "a list of texts as JSON") from None
    return tuple(str(one) for one in found) if isinstance(found, list) else ()
