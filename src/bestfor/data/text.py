"""Normalise strings (Unicode's NFC, single spaces) and hash them to 64-bit numbers, the same on every machine."""

from __future__ import annotations

import html
import re
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bestfor.moved import renamed

Hashes = npt.NDArray[np.uint64]

_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FEW = 16
"""Below so many strings longer than a position, their remaining bytes are hashed string by string."""

__getattr__ = renamed(__name__, {"composed": "nfc", "plain": "collapse_spaces"})


def nfc(text: str) -> str:
    """Compose a text's characters (Unicode's NFC, UAX #15), so that equal characters have equal codes."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def collapse_spaces(text: str) -> str:
    """Compose a text's characters and put single spaces between its words: texts that differ in neither are equal."""
    return " ".join(nfc(text).split())


UNSEEN = "\u200b\u2060\ufeff\u00ad"
"""Zero-width spaces, word joiners, byte order marks and soft hyphens: spreadsheets and web pages leave them behind."""
_UNSEEN = str.maketrans("", "", UNSEEN)


_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
"""A character reference of HTML, closed by its semicolon: ``&copy=1`` of an address is none."""


def plain_form(text: str) -> str:
    """Spell a text as all its spellings that look alike.

    As :func:`collapse_spaces`, without characters of no width, and with characters in the place of HTML's references
    (``&amp;``, ``&#39;``), which one export escapes, another twice and the next not at all.
    """
    while True:
        seen = collapse_spaces(text if text.isascii() else text.translate(_UNSEEN))
        text = _REFERENCE.sub(lambda found: html.unescape(found[0]), seen) if "&" in seen else seen
        if text == seen:
            return text


def hash_strings(strings: pa.Array) -> Hashes:
    """Hash every string's UTF-8 bytes by FNV-1a (Fowler, Noll & Vo), byte by byte for all strings at once.

    Args:
        strings: shape (n,), without nulls.

    Returns:
        Shape (n,).
    """
    strings = strings.cast(pa.large_string())
    if not len(strings):
        return np.zeros(0, dtype=np.uint64)
    _, offsets, data = strings.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]
    letters = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    length = np.diff(bounds)
    order = np.argsort(-length, kind="stable")
    begin, length = bounds[:-1][order], length[order]
    result = np.full(len(order), _BASIS)
    longer = np.searchsorted(-length, -np.arange(int(length[0])), side="left")
    together = int(np.searchsorted(-longer, -_FEW, side="right"))
    for place, count in enumerate(longer[:together].tolist()):
        result[:count] = (result[:count] ^ letters[begin[:count] + place]) * _PRIME
    for row in range(int(longer[together]) if together < len(longer) else 0):
        rest = letters[begin[row] + together : begin[row] + length[row]]
        result[row] = _continued(int(result[row]), rest.tobytes())
    hashes = np.empty_like(result)
    hashes[order] = result
    return hashes


def _continued(value: int, rest: bytes) -> int:
    prime, most = int(_PRIME), 2**64 - 1
    for byte in rest:
        value = ((value ^ byte) * prime) & most
    return value


def join_hashes(first: Hashes, second: Hashes) -> Hashes:
    """Combine the hashes of pairs; the order within a pair matters."""
    mixed = (first ^ (first >> np.uint64(31))) * _MIX
    return (mixed ^ second ^ (second >> np.uint64(29))) * _PRIME + mixed
