"""Keep what tasks of a fit made, so that the same fit goes on where it was after it was killed.

A value is JSON and arrays in one safetensors file that is written whole or not at all. What it holds of dataclasses is
made again by those of the module that made it; nothing else is, and a file that cannot be read is as good as none.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bestfor.artifacts import Arrays
from bestfor.files import hash_parts, writing
from bestfor.shards import ShardEntry, file_of

TREE = "value"
"""Array with the JSON of a value."""
HIDDEN = ".rounds"
"""Folder of a model in which rounds are kept until it is made."""


@dataclass(frozen=True)
class KeptRounds:
    """Values of one fit's rounds.

    Attributes:
        folder: of the model.
        key: hash of all that the values depend on.
    """

    folder: Path
    key: str

    @property
    def place(self) -> Path:
        """Folder of the values."""
        return self.folder / HIDDEN / self.key[:16]

    def keyed(self, *arrays: npt.NDArray[Any]) -> KeptRounds:
        """Let values depend on some arrays, too."""
        return KeptRounds(self.folder, hash_parts([self.key.encode(), *(one.tobytes() for one in arrays)]))

    def file(self, round_name: str, name: str) -> Path:
        """Name the file of a value."""
        return self.place / round_name.replace(" ", "-").replace("'", "") / f"{name}.safetensors"

    def has_shard(self, number: int, entry: ShardEntry) -> bool:
        """Check that the shard of an entry that was kept is still there."""
        del number
        return not entry.users or (self.folder / file_of(entry.digest)).is_file()

    def clear(self) -> None:
        """Remove the values of this fit, and of others that were not finished, from the model's folder."""
        shutil.rmtree(self.folder / HIDDEN, ignore_errors=True)


def write_value(path: Path, value: object) -> None:
    """Store a value: None, numbers, strings, arrays, and lists, tuples, dictionaries and dataclasses of them.

    Raises:
        TypeError: something else.
    """
    arrays: Arrays = {}
    tree = json.dumps(_packed(value, arrays)).encode()
    arrays[TREE] = np.frombuffer(tree, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, sync=False) as partial:
        save_file(arrays, partial)


def read_value(path: Path, made_by: Callable[..., Any]) -> Any:  # noqa: ANN401 - whatever was stored
    """Read a value.

    Args:
        path: that :func:`write_value` wrote.
        made_by: a function in whose module the value's dataclasses are.

    Raises:
        FileNotFoundError: no file.
        ValueError: a file that cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="np") as handle:
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
        return _unpacked(json.loads(arrays[TREE].tobytes()), arrays, vars(sys.modules[made_by.__module__]))
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def _packed(value: object, arrays: Arrays) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, np.ndarray):
        arrays[f"a{len(arrays)}"] = np.ascontiguousarray(value)
        return {"array": f"a{len(arrays) - 1}", "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: _packed(getattr(value, one.name), arrays) for one in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, dict):
        return {"pairs": [[_packed(key, arrays), _packed(one, arrays)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(one, arrays) for one in value]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} is not kept")


def _unpacked(tree: Any, arrays: Arrays, known: dict[str, Any]) -> Any:  # noqa: ANN401 - as stored
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]].reshape(tree["shape"])
    if "class" in tree:
        kind = known[tree["class"]]
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise TypeError(f"'{tree['class']}' is no dataclass")
        return kind(**{name: _unpacked(one, arrays, known) for name, one in tree["fields"].items()})
    if "pairs" in tree:
        return {_unpacked(key, arrays, known): _unpacked(one, arrays, known) for key, one in tree["pairs"]}
    kind, values = ("list", tree["list"]) if "list" in tree else ("tuple", tree["tuple"])
    found = [_unpacked(one, arrays, known) for one in values]
    return found if kind == "list" else tuple(found)
