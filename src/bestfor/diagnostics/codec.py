"""Write records as JSON values and read them back, both by one table of fields a record.

A table lists rows; a row joins attributes of a record with keys of a JSON object. What is absent or null is read as
NaN, None or empty; what is of another kind is refused with its place; unknown keys are ignored.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np

from bestfor.diagnostics.result import Curve
from bestfor.errors import InputError
from bestfor.types import Estimate, FloatArray, IntArray

Json = dict[str, Any]
EXPECTED = "an object as docs/diagnosis.md describes it"


@dataclass(frozen=True)
class JsonObject:
    """A JSON object that is read.

    Attributes:
        values: by key.
        where: its place, empty for the diagnosis itself.
        n: shape (K,), values of N of its curves.
        level: nominal coverage of its intervals.
        mean: pool mean, NaN where unknown.
        make: the class of the outermost record.
    """

    values: Mapping[str, Any]
    where: str = ""
    n: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    level: float = 0.95
    mean: float = math.nan
    make: type[Any] = object

    def place(self, key: str) -> str:
        """Name the place of one of its keys."""
        return f"{self.where}.{key}" if self.where else key

    def inner(self, key: str, values: object) -> JsonObject:
        """Enter an object that lies in this one."""
        return replace(self, values=json_object(values, self.place(key)), where=self.place(key))

    def series(self, key: str) -> FloatArray:
        """Read one value for each N; all NaN where the list is absent or empty."""
        values = _list(self.values.get(key), self.place(key))
        if not values:
            return np.full(len(self.n), np.nan)
        if len(values) != len(self.n):
            expected = f"one for each of the {len(self.n)} values of n"
            raise InputError(self.place(key), f"{len(values)} values", expected)
        return _numbers(values, self.place(key))


@dataclass(frozen=True)
class ValueKind:
    """Ways of a value into JSON and out of it; both may leave arrays and NaN to :func:`plain`."""

    write: Callable[[Any], Any]
    read: Callable[[Any, JsonObject, str], Any]


def unchanged(value: Any) -> Any:  # noqa: ANN401 (any value)
    """Leave a value as it is."""
    return value


def leaf(read: Callable[[Any, str], Any], write: Callable[[Any], Any] = unchanged) -> ValueKind:
    """Make the kind of a value that its place alone says how to read."""
    return ValueKind(write, lambda value, entry, key: read(value, entry.place(key)))


def number(value: object, where: str) -> float:
    """Read a number: NaN where it is absent or not finite."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(where, _shown(value), "a number")
    return float(value) if math.isfinite(value) else math.nan


def _maybe(value: object, where: str) -> float | None:
    known = number(value, where)
    return None if math.isnan(known) else known


def _maybe_whole(value: object, where: str) -> int | None:
    known = number(value, where)
    if math.isnan(known):
        return None
    if known != int(known):
        raise InputError(where, _shown(value), "a whole number")
    return int(known)


def whole(value: object, where: str) -> int:
    """Read a whole number, 0 where it is absent."""
    return _maybe_whole(value, where) or 0


def _required(value: object, where: str) -> int:
    known = _maybe_whole(value, where)
    if known is None:
        raise InputError(where, "nothing", "a whole number")
    return known


def _required_number(value: object, where: str) -> float:
    known = number(value, where)
    if math.isnan(known):
        raise InputError(where, "nothing", "a number")
    return known


def _text(value: object, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise InputError(where, _shown(value), "a text")
    return value or ""


def _flag(value: object, where: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InputError(where, _shown(value), "true or false")
    return bool(value)


def _list(value: object, where: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InputError(where, _shown(value), "a list")
    return cast("Sequence[Any]", value)


def json_object(value: object, where: str) -> Mapping[str, Any]:
    """Read an object, empty where it is absent."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(where or "diagnosis", type(value).__name__, EXPECTED)
    return cast("Mapping[str, Any]", value)


def json_records(value: object, where: str) -> list[Mapping[str, Any]]:
    """Read a list of objects."""
    found = _list(value, where)
    if not all(isinstance(one, Mapping) for one in found):
        raise InputError(where, "something else than objects", "a list of objects")
    return list(found)


def texts(value: object, where: str) -> tuple[str, ...]:
    """Read a list of texts."""
    return tuple(_text(one, where) for one in _list(value, where))


def _numbers(value: object, where: str) -> FloatArray:
    return np.array([number(one, where) for one in _list(value, where)], dtype=np.float64)


def _wholes(value: object, where: str) -> IntArray:
    return np.array([whole(one, where) for one in _list(value, where)], dtype=np.int64)


def _reasons(value: object, where: str) -> dict[str, str]:
    return {str(key): _text(why, where) for key, why in json_object(value, where).items()}


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float) else type(value).__name__


def _grid(value: object, where: str) -> IntArray:
    if not isinstance(value, list | tuple):
        raise InputError(where, type(value).__name__, "a list of whole numbers")
    sizes = _wholes(cast("object", value), where)
    if any(after <= before for before, after in pairwise((0, *sizes.tolist()))):
        found = str(list(cast("Sequence[object]", value)))
        raise InputError(where, found, "whole numbers from 1 upwards, each larger than the one before")
    return sizes


NUMBER, MAYBE, REQUIRED_NUMBER = leaf(number), leaf(_maybe), leaf(_required_number)
WHOLE, MAYBE_WHOLE, REQUIRED = leaf(whole), leaf(_maybe_whole), leaf(_required)
TEXT, TEXTS, FLAG = leaf(_text), leaf(texts), leaf(_flag)
TEXT_OR_NULL = leaf(_text, lambda value: value or None)
NUMBERS, WHOLES = leaf(_numbers), leaf(_wholes)
REASONS, ANYTHING = leaf(_reasons), leaf(lambda value, where: dict(json_object(value, where)), dict)
VALUE = ValueKind(
    lambda estimate: estimate.value,
    lambda value, entry, key: Estimate(number(value, entry.place(key)), None, None, entry.level),
)
"""An estimate of which the value alone is written."""

SERIES = ValueKind(lambda value: value, lambda value, entry, key: entry.series(key))


class FieldRow(ABC):
    """A row of a table: some attributes of a record, and the keys that hold them."""

    def write(self, record: object) -> Json:
        """Collect the row's keys."""
        return self._write(record)

    def read(self, entry: JsonObject) -> Json:
        """Collect the row's attributes."""
        return self._read(entry)

    @abstractmethod
    def _write(self, record: Any) -> Json: ...  # noqa: ANN401 (any record)

    @abstractmethod
    def _read(self, entry: JsonObject) -> Json: ...


@dataclass(frozen=True)
class Key(FieldRow):
    """One attribute under one key, of the same name where ``key`` is empty; ``omit``: not written where it is empty."""

    name: str
    kind: ValueKind
    key: str = ""
    omit: bool = False

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        if self.omit and not getattr(record, self.name):
            return {}
        return {self.key or self.name: self.kind.write(getattr(record, self.name))}

    def _read(self, entry: JsonObject) -> Json:
        key = self.key or self.name
        return {self.name: self.kind.read(entry.values.get(key), entry, key)}


@dataclass(frozen=True)
class GridKey(FieldRow):
    """The values of N of a record's curves, under ``n``; of one curve, or an attribute of the record itself."""

    curve: str = ""
    required: bool = False

    def enter(self, entry: JsonObject) -> JsonObject:
        """Take the object's own values of N in place of those of the object around it."""
        given, where = entry.values.get("n"), entry.place("n")
        return replace(entry, n=_grid(given, where)) if self.required or given is not None else entry

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        return {"n": (getattr(record, self.curve) if self.curve else record).n}

    def _read(self, entry: JsonObject) -> Json:
        return {} if self.curve else {"n": entry.n}


@dataclass(frozen=True)
class EstimateKeys(FieldRow):
    """An estimate under three keys: its value, and the ends of its interval; ``omit``: not written where unknown."""

    name: str
    key: str = ""
    low: str = ""
    high: str = ""
    omit: bool = False

    @property
    def keys(self) -> tuple[str, str, str]:
        """Keys of value, lower and upper end."""
        key = self.key or self.name
        return key, self.low or f"{key}_low", self.high or f"{key}_high"

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        estimate: Estimate = getattr(record, self.name)
        if self.omit and math.isnan(estimate.value):
            return {}
        return dict(zip(self.keys, (estimate.value, estimate.low, estimate.high), strict=True))

    def _read(self, entry: JsonObject) -> Json:
        value = number(entry.values.get(self.keys[0]), entry.place(self.keys[0]))
        low, high = (_maybe(entry.values.get(key), entry.place(key)) for key in self.keys[1:])
        return {self.name: Estimate(value, low, high, entry.level)}


@dataclass(frozen=True)
class EndKeys(FieldRow):
    """The two ends of an interval, whose value has a row of its own; not written where neither is known."""

    name: str
    key: str

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        low, high = getattr(record, self.name)
        if math.isnan(low) and math.isnan(high):
            return {}
        return {f"{self.key}_low": low, f"{self.key}_high": high}

    def _read(self, entry: JsonObject) -> Json:
        keys = (f"{self.key}_low", f"{self.key}_high")
        return {self.name: tuple(number(entry.values.get(key), entry.place(key)) for key in keys)}


@dataclass(frozen=True)
class CurveKeys(FieldRow):
    """A curve under three keys: its values, and the ends of their intervals; ``omit``: it may be absent."""

    name: str
    prefix: str = ""
    key: str = ""
    omit: bool = False

    @property
    def keys(self) -> tuple[str, str, str]:
        """Keys of values, lower and upper ends."""
        return self.key or self.name, f"{self.prefix}low", f"{self.prefix}high"

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        curve: Curve | None = getattr(record, self.name)
        if curve is None:
            return {}
        return dict(zip(self.keys, (curve.value, curve.low, curve.high), strict=True))

    def _read(self, entry: JsonObject) -> Json:
        if self.omit and entry.values.get(self.keys[0]) is None:
            return {self.name: None}
        return {self.name: Curve(entry.n, *(entry.series(key) for key in self.keys))}


@dataclass(frozen=True)
class Written(FieldRow):
    """A key that follows from the record, so it is written and never read."""

    key: str
    value: Callable[[Any], Any]

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        return {self.key: self.value(record)}

    def _read(self, entry: JsonObject) -> Json:
        return {}


@dataclass(frozen=True)
class Within(FieldRow):
    """Several rows in an object of their own; one that is required must be there."""

    key: str
    rows: tuple[FieldRow, ...]
    required: bool = False

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        return {self.key: _written(self.rows, record)}

    def _read(self, entry: JsonObject) -> Json:
        values = entry.values.get(self.key)
        if self.required and values is None:
            raise InputError(entry.where or "diagnosis", f"no '{self.key}'", EXPECTED)
        return _attributes(self.rows, entry.inner(self.key, values))


@dataclass(frozen=True)
class Among(FieldRow):
    """A record whose keys stand among those of the one that has it; all null where there is none."""

    name: str
    table: Table

    def _write(self, record: Any) -> Json:  # noqa: ANN401
        inner = getattr(record, self.name)
        return dict.fromkeys(self._keys()) if inner is None else self.table.write(inner)

    def _read(self, entry: JsonObject) -> Json:
        known = any(entry.values.get(key) for key in self._keys())
        return {self.name: self.table.read(entry) if known else None}

    def _keys(self) -> list[str]:
        return [row.key or row.name for row in self.table.rows if isinstance(row, Key)]


def _written(rows: Sequence[FieldRow], record: object) -> Json:
    values: Json = {}
    for row in rows:
        values |= row.write(record)
    return values


def _attributes(rows: Sequence[FieldRow], entry: JsonObject) -> Json:
    found: Json = {}
    for row in rows:
        if isinstance(row, GridKey):
            entry = row.enter(entry)
        found |= row.read(entry)
    return found


@dataclass(frozen=True)
class Table:
    """Fields of a record, in the order in which they are written.

    Attributes:
        make: the record's class.
        rows: of which each has some attributes and the keys that hold them.
        finish: completes the attributes that were read with what JSON does not hold.
    """

    make: type[Any]
    rows: tuple[FieldRow, ...]
    finish: Callable[[Json, JsonObject], Json] = lambda found, entry: found

    def write(self, record: object) -> Json:
        """Collect the keys of a record."""
        return _written(self.rows, record)

    def attributes(self, entry: JsonObject) -> Json:
        """Collect the attributes that an object holds."""
        return self.finish(_attributes(self.rows, entry), entry)

    def read(self, entry: JsonObject) -> Any:  # noqa: ANN401 (the record's class)
        """Make the record that an object holds."""
        return self.make(**self.attributes(entry))


def record(table: Table, *, none: bool = False) -> ValueKind:
    """Make the kind of one record; with ``none`` null is None, else null is a record of which nothing is known."""

    def read(value: object, entry: JsonObject, key: str) -> object:
        return None if none and value is None else table.read(entry.inner(key, value))

    return ValueKind(lambda record: None if record is None else table.write(record), read)


def records(table: Table) -> ValueKind:
    """Make the kind of a tuple of records."""

    def read(value: object, entry: JsonObject, key: str) -> tuple[Any, ...]:
        found = json_records(value, entry.place(key))
        return tuple(table.read(entry.inner(f"{key}.{place}", one)) for place, one in enumerate(found))

    return ValueKind(lambda records: [table.write(record) for record in records], read)


def by_name(table: Table) -> ValueKind:
    """Make the kind of records by name, which must be there."""

    def read(value: object, entry: JsonObject, key: str) -> dict[str, Any]:
        if value is None:
            raise InputError(entry.where or "diagnosis", f"no '{key}'", EXPECTED)
        inner = entry.inner(key, value)
        return {str(name): table.read(inner.inner(str(name), one)) for name, one in inner.values.items()}

    return ValueKind(lambda records: {name: table.write(record) for name, record in records.items()}, read)


def or_reason(table: Table, *keys: str) -> ValueKind:
    """Make the kind of a record of which only some keys are written where its ``reason`` says why there is nothing."""

    def write(record: Any) -> Json:  # noqa: ANN401
        values = table.write(record)
        return {key: values[key] for key in (*keys, "reason", *_constants(table))} if record.reason else values

    return ValueKind(write, record(table).read)


def _constants(table: Table) -> list[str]:
    return [row.key for row in table.rows if isinstance(row, Written)]


class Ready:
    """Values that are plain already: large tables are walked through once."""

    def __init__(self, values: list[Json]) -> None:
        self.values = values


def plain(value: object) -> Any:  # noqa: ANN401
    """Convert arrays and tuples to lists and what is not finite to None, all the way down."""
    if isinstance(value, Ready):
        return value.values
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {str(key): plain(inner) for key, inner in items.items()}
    if isinstance(value, np.ndarray):
        return plain(cast("object", value.tolist()))
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in cast("Sequence[object]", value)]
    if isinstance(value, np.generic):
        return plain(cast("object", value.item()))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
