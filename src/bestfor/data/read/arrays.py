"""Read a JSON array of objects one element at a time: the file may be larger than memory, an element may not.

The text is read in chunks and decoded from where the last element ended; a chunk that ends within an element is
lengthened until the element is whole.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bestfor.errors import InputError

CHUNK = 1 << 20
"""Characters read at a time."""

_TAIL = 16
"""An error this close to the end of what was read may only say that an element goes on."""

_DECODER = json.JSONDecoder()
Element = dict[str, object]


def read_array(path: str | Path, chunk: int = CHUNK) -> Iterator[tuple[int, Element]]:
    """Read a file that holds one array of objects; memory holds a few elements.

    Args:
        path: a .json file in UTF-8, or one packed by gzip (.json.gz).
        chunk: characters read at a time; doubled within an element that is longer.

    Yields:
        Each element's number, from 1, and the element.

    Raises:
        InputError: no file, not JSON, no array, or an element that is no object; names the row.
    """
    path = Path(path)
    try:
        with _open_array(path) as handle:
            yield from _elements(_Text(path, handle, chunk))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(str(path), f"what cannot be read ({reason})", "a JSON file in UTF-8") from error


def _open_array(path: Path) -> IO[str]:
    if not path.is_file():
        raise InputError(str(path), "a folder" if path.is_dir() else "no file", "a JSON file")
    return open_text(path)


def open_text(path: Path) -> IO[str]:
    """Open a text file in UTF-8, with or without a byte order mark, packed by gzip where its name ends in ``.gz``."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


class _Text:
    """Buffer of the text that was read and not decoded yet."""

    def __init__(self, path: Path, handle: IO[str], chunk: int) -> None:
        self.path, self._handle, self._chunk = path, handle, chunk
        self.left, self.at, self.ended = "", 0, False

    def more(self) -> bool:
        """Read as much again as is left, a chunk at least; False at the end."""
        fresh = self._handle.read(max(self._chunk, len(self.left) - self.at))
        self.left, self.at, self.ended = self.left[self.at :] + fresh, 0, not fresh
        return not self.ended

    def peek(self) -> str:
        """Skip white space and show the next character, "" at the end."""
        while True:
            while self.at < len(self.left) and self.left[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.left):
                return self.left[self.at]
            if not self.more():
                return ""

    def value(self, row: int) -> object:
        """Decode the next whole value."""
        while True:
            try:
                found, self.at = _DECODER.raw_decode(self.left, self.at)
            except RecursionError:
                raise self.broken("what is nested too deeply", row) from None
            except json.JSONDecodeError as error:
                goes_on = error.msg.startswith("Unterminated") or error.pos >= len(self.left) - _TAIL
                if not goes_on or not self.more():
                    raise self.broken(f"what is not JSON ({error.msg})", row) from None
            else:
                return found

    def broken(self, found: str, row: int) -> InputError:
        """Build the error for a file that is no array of objects."""
        return InputError(f"{self.path}, row {row}", found, "an array of objects, [{...}, ...]")


def _elements(text: _Text) -> Iterator[tuple[int, Element]]:
    first = text.peek()
    if first != "[":
        found = f"'{first}' at its beginning" if first else "an empty file"
        raise InputError(str(text.path), found, "an array of objects, [{...}, ...]")
    text.at += 1
    row = 0
    if text.peek() != "]":
        while True:
            row += 1
            if text.peek() != "{":
                raise text.broken(f"'{text.peek()}'" if text.peek() else "the end of the file", row)
            yield row, _element(text, row)
            mark = text.peek()
            text.at += 1
            if mark == "]":
                break
            if mark != ",":
                raise text.broken(f"'{mark}' after the object" if mark else "the end of the file", row)
    else:
        text.at += 1
    if text.peek():
        raise text.broken("more after the array", row)


def _element(text: _Text, row: int) -> Element:
    found = text.value(row)
    assert isinstance(found, dict)  # it begins with a brace
    return found
