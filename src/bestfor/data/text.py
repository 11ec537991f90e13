"""When two texts are one: the same characters however composed, the same words however spaced.

Strings as 64-bit numbers, the same on every machine and in every run.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FEW = 16
"""So few strings go on one by one: what is left of the longest."""


def hash_strings(strings: pa.Array) -> Hashes:
    """FNV-1a (Fowler, Noll & Vo) of every string's UTF-8 bytes, byte by byte for all strings at once.

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
    """Hashes of pairs; the order within a pair matters."""
    mixed = (first ^ (first >> np.uint64(31))) * _MIX
    return (mixed ^ second ^ (second >> np.uint64(29))) * _PRIME + mixed


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC, UAX #15): equal characters have equal codes."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """The composed text with single spaces: what decides whether an item is a question that is asked."""
    return " ".join(composed(text).split())
