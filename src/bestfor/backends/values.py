"""Write what tasks made as plain values and arrays, and read it again; a file names no code but this package's tables.

Values are numbers, texts, lists, mappings, numpy arrays and dataclasses of this package that are loaded where they are
read: their fields are set, nothing of theirs is called.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from bestfor.errors import BestforError

_PACKAGE = __name__.partition(".")[0]


def pack(value: object) -> bytes:
    """Write a value.

    Raises:
        TypeError: it holds something else.
    """
    arrays: list[np.ndarray] = []
    tree = json.dumps(_packed(value, arrays)).encode()
    sink = io.BytesIO()
    named = {f"a{number}": array for number, array in enumerate(arrays)}
    np.savez(sink, allow_pickle=False, tree=np.frombuffer(tree, dtype=np.uint8), **named)
    return sink.getvalue()


def unpack(payload: bytes) -> Any:  # noqa: ANN401 - whatever was packed
    """Read a value.

    Raises:
        BestforError: the bytes are no packed value, or of another version.
    """
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as held:
            tree = json.loads(held["tree"].tobytes())
            return _unpacked(tree, held)
    except Exception as error:  # a torn archive fails in many ways
        raise BestforError(f"what a task made cannot be read ({type(error).__name__})") from error


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:  # noqa: ANN401 - any value
    if value is None or isinstance(value, bool | str) or type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        arrays.append(np.asarray(value))
        return ["array" if isinstance(value, np.ndarray) else "number", len(arrays) - 1]
    for kind in (list, tuple):
        if type(value) is kind:
            return [kind.__name__, [_packed(one, arrays) for one in value]]
    if type(value) is dict:
        return ["dict", [[_packed(key, arrays), _packed(one, arrays)] for key, one in value.items()]]
    if is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith(f"{_PACKAGE}."):
        named = {field.name: _packed(getattr(value, field.name), arrays) for field in fields(value)}
        return ["table", type(value).__module__, type(value).__qualname__, named]
    raise TypeError(f"a {type(value).__name__} cannot be written as plain values")


def _unpacked(tree: Any, arrays: Any) -> Any:  # noqa: ANN401 - any value
    if not isinstance(tree, list):
        return tree
    kind, *rest = tree
    if kind == "table":
        module, name, named = rest
        return _table(module, name, named, arrays)
    (held,) = rest
    if kind in ("array", "number"):
        found = arrays[f"a{held:d}"]
        return found if kind == "array" else found[()]
    if kind == "dict":
        return {_unpacked(key, arrays): _unpacked(one, arrays) for key, one in held}
    return {"list": list, "tuple": tuple}[kind](_unpacked(one, arrays) for one in held)


def _table(module: str, name: str, named: dict[str, Any], arrays: Any) -> Any:  # noqa: ANN401 - a dataclass
    cls = getattr(sys.modules[module], name) if module.startswith(f"{_PACKAGE}.") else None
    if not isinstance(cls, type) or not is_dataclass(cls) or {field.name for field in fields(cls)} != named.keys():
        raise ValueError(name)
    made = object.__new__(cls)
    for key, one in named.items():
        object.__setattr__(made, key, _unpacked(one, arrays))
    return made
