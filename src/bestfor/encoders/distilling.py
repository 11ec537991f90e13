"""Make tables of token vectors from a sentence encoder, so that texts can be encoded without running it.

Each token of the vocabulary is encoded once, alone among the special tokens of a text. The vectors are centred and cut
to their principal components [Minish Lab, model2vec 2024] and weighted by how rare a token is: with Zipf's law a token
of rank r has probability p ~ 1 / (r + 2), and its weight is a / (a + p) [Arora et al. 2017, eq. 3]. Vocabularies are
made from the frequent to the rare, so a token's rank is its place. A text's vector is the mean of its tokens' vectors.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from bestfor.encoders.batches import Batched, Vectors
from bestfor.encoders.cache import CachedEncoder
from bestfor.errors import InputError
from bestfor.files import hash_bytes, hash_text, write_bytes, write_json, writing_folder
from bestfor.progress import Progress
from bestfor.threads import one_thread

FORMAT = 1
"""Part of a table's key: another recipe gives other vectors."""
COMPONENTS = 256
"""Numbers of a vector, as many as the encoder's own at most."""
SIF = 1e-4
"""The constant a of the weights."""
LIMIT = 4096
"""The most tokens of a text that are read."""
CHUNK = 1024
"""Tokens that are encoded before their vectors are put on disk."""
TABLE, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
_UNUSED = re.compile(r"\[unused\d+\]|<unused\d+>|<extra_id_\d+>|<\|reserved_special_token_\d+\|>")

Table = npt.NDArray[np.float32]


def make_table(teacher: Batched, folder: Path, *, work: Path, components: int = COMPONENTS) -> None:
    """Make a table from an encoder and write it as a folder that model2vec reads.

    What was encoded by a call that was ended is kept in ``work`` and not encoded again.

    Args:
        teacher: the encoder, with a fast tokenizer.
        folder: what is written, in one step.
        work: folder for vectors that are encoded already; removed when the table is there.
        components: numbers of a vector.

    Raises:
        InputError: the encoder's tokenizer cannot be written as ``tokenizer.json``.
    """
    name = getattr(teacher, "name", "the encoder")
    tokenizer, rows = _tokenizer(teacher, name)
    ids = _real_tokens(teacher, rows)
    vectors = _token_vectors(teacher, ids, name, work)
    table = np.zeros((rows, min(components, teacher.dim, len(ids))), dtype=np.float32)
    table[ids] = weighted(principal(vectors, table.shape[1]))
    _write(folder, table, tokenizer, name, teacher)
    shutil.rmtree(work, ignore_errors=True)


def principal(vectors: Vectors, components: int) -> npt.NDArray[np.float64]:
    """Project centred vectors on their first principal components: shape (n, components).

    Signs are such that each component's largest weight is positive: equal vectors give equal bits.
    """
    with one_thread():
        centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1][:, :components]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        return centred @ axes


def weighted(vectors: npt.NDArray[np.float64]) -> Table:
    """Weigh the vectors of tokens, from the most frequent to the rarest, by a / (a + p); see the file's head."""
    odds = 1.0 / np.arange(2, len(vectors) + 2)
    weights = SIF / (SIF + odds / odds.sum())
    return (vectors * weights[:, None]).astype(np.float32)


def _tokenizer(teacher: Batched, name: str) -> tuple[str, int]:
    """Write the tokenizer as JSON, without padding or truncation, and count the rows that its ids need."""
    inner: Any = getattr(teacher.tokenizer, "backend_tokenizer", None)
    if inner is None or not hasattr(inner, "to_str"):
        raise InputError(f"encoder 'static:{name}'", "a teacher whose tokenizer has no tokenizer.json", "one that has")
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(inner.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy.to_str(), max(copy.get_vocab().values()) + 1


def _real_tokens(teacher: Batched, rows: int) -> list[int]:
    """List the tokens that texts are made of: no special ones, none without an embedding."""
    tokenizer = teacher.tokenizer
    embedded = teacher.embedding_rows or rows
    special = set(tokenizer.all_special_ids)
    places = {place for word, place in tokenizer.get_vocab().items() if not _UNUSED.fullmatch(word)}
    return sorted(place for place in places - special if place < embedded)


class _Tokens:
    """Encoder of texts that are the decimal ids of tokens, so that the cache of texts keeps them."""

    def __init__(self, teacher: Batched, name: str) -> None:
        self._teacher = teacher
        self.name, self.dim = name, teacher.dim
        self.signature = hash_text(f"tokens of {getattr(teacher, 'signature', '')}")

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._teacher.encode_tokens([int(text) for text in texts])


def _token_vectors(teacher: Batched, ids: list[int], name: str, work: Path) -> Vectors:
    tokens = CachedEncoder(_Tokens(teacher, name), work)
    parts = []
    with Progress(f"Token vectors of {name}", len(ids), after=2.0) as progress:
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            parts.append(tokens.encode([str(one) for one in part]))
            progress.advance(len(part))
    return np.concatenate(parts)


def _write(folder: Path, table: Table, tokenizer: str, name: str, teacher: Batched) -> None:
    payload, text = save({"embeddings": table}), tokenizer.encode()
    config = {
        "model_type": "model2vec",
        "normalize": True,
        "max_length": LIMIT,
        "embedding_dtype": "float32",
        "bestfor": {
            "format": FORMAT,
            "teacher": name,
            "teacher_signature": getattr(teacher, "signature", ""),
            "files": {TABLE: hash_bytes(payload), TOKENIZER: hash_bytes(text)},
        },
    }
    with writing_folder(folder) as partial:
        write_bytes(partial / TABLE, payload)
        write_bytes(partial / TOKENIZER, text)
        write_json(partial / CONFIG, config)
