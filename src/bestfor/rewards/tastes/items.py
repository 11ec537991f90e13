"""List what was rated: a text, or a text under an input, each once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.files import hash_bytes
from bestfor.rewards.features import unit_rows
from bestfor.rewards.features.space import distinct_texts
from bestfor.rewards.memory import once, texts_of
from bestfor.types import FloatArray, IntArray

KEPT = 8192
"""Items whose keys are kept: the same candidates are scored by several users."""


@dataclass(frozen=True)
class RatedItems:
    """Distinct items of some rows.

    Attributes:
        keys: identity of each item, a hash of input and text.
        texts: aligned with ``keys``.
        inputs: aligned with ``keys``; empty where texts are rated bare.
        row: shape (n,), item of each row.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    inputs: tuple[str, ...]
    row: IntArray

    @property
    def with_inputs(self) -> bool:
        """True where some item has an input."""
        return any(given.strip() for given in self.inputs)

    def take(self, codes: IntArray) -> RatedItems:
        """Some of the items, each as one row."""
        keys, texts, inputs = (tuple(names[code] for code in codes) for names in (self.keys, self.texts, self.inputs))
        return RatedItems(keys, texts, inputs, np.arange(len(codes)))


def list_items(candidates: Candidates) -> RatedItems:
    """List the distinct items of some rows, in the order of their keys."""
    if len(candidates.inputs) == 1:
        distinct, row = distinct_texts(candidates)
        texts, inputs = [candidates.texts[code] for code in distinct], [candidates.inputs[0]] * len(distinct)
    else:
        inputs_used, input_code = np.unique(np.array(candidates.inputs, dtype=object), return_inverse=True)
        pair = input_code[candidates.query] * len(candidates.texts) + candidates.text
        distinct, row = np.unique(pair, return_inverse=True)
        texts = [candidates.texts[code % len(candidates.texts)] for code in distinct]
        inputs = [str(inputs_used[code // len(candidates.texts)]) for code in distinct]
    keys = [_key(given, text) for given, text in zip(inputs, texts, strict=True)]
    order = sorted(range(len(keys)), key=lambda code: keys[code])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    unsorted = RatedItems(tuple(keys), tuple(texts), tuple(inputs), row)
    return replace(unsorted.take(np.array(order, dtype=np.int64)), row=rank[row])


def items_once(candidates: Candidates) -> RatedItems:
    """List the items of some rows, once for the same ones."""
    return once("items", texts_of(candidates), lambda: list_items(candidates))


def embed_items(items: RatedItems, encoder: Encoder, with_inputs: bool) -> FloatArray:
    """Unit vectors, shape (items, dim), or (items, 2 dim) of text and input together."""
    vectors = unit_rows(encoder.encode(items.texts).astype(np.float64))
    if not with_inputs:
        return vectors
    return np.hstack([vectors, unit_rows(encoder.encode(items.inputs).astype(np.float64))]) / np.sqrt(2.0)


@lru_cache(maxsize=KEPT)
def _key(given: str, text: str) -> str:
    return hash_bytes(f"{given}\0{text}".encode("utf-8", "surrogatepass"))[:32]
