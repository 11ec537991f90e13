"""Cut texts into batches of one shape per length: little padding, and no text's vector depends on the others.

Matrix products choose their kernels by shape. A text's padded length is a function of its own length alone, and a
batch's number of rows a function of the padded length alone, so the shape in which a text is encoded, and with it
every bit of its vector, does not depend on the texts beside it. What a batch lacks is filled with copies of its first
text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.backends import Local, Plan, PlanTask
from bestfor.encoders.reading import TokenCounts
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.progress import Progress
from bestfor.threads import one_thread

SHORTEST = 8
FINE_UP_TO = 32
FINE_STEP = 4
PER_OCTAVE = 4
SHOW_FROM = 64
"""Least batches of a call that shows its progress."""
ROWS = 8
"""Most rows of a batch on a CPU: what is filled with copies in short calls must stay small."""
FRAME_TRIES = 500
"""Tokens that are tried as texts to see what special tokens surround one."""
TOKEN_ROWS = 64
"""Rows of a batch of single tokens on a CPU."""
VERSION = 2
"""Part of an encoder's signature: another way to cut batches changes the last bits."""

Vectors = npt.NDArray[np.float32]
Features = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class PaddedBatch:
    """Texts of one padded length.

    Attributes:
        length: padded length in tokens.
        rows: which texts, by their place in the call.
        size: rows of the batch, copies included.
    """

    length: int
    rows: tuple[int, ...]
    size: int


def padded(length: int, limit: int) -> int:
    """Pad a length in tokens: to a multiple of 4 up to 32, then four steps to a doubling.

    Args:
        length: the text's own length, at least 0.
        limit: the most that the model takes.

    Returns:
        At least ``length``, unless that is over ``limit``; at most a quarter longer than it from 16 tokens on.
    """
    length = max(length, SHORTEST)
    step = FINE_STEP
    if length > FINE_UP_TO:
        step = (1 << (length - 1).bit_length()) // 2 // PER_OCTAVE
    return min(limit, -(-length // step) * step)


def plan(lengths: Sequence[int], *, limit: int, tokens: int, most: int = ROWS) -> list[PaddedBatch]:
    """Cut texts into batches.

    Args:
        lengths: tokens of each text.
        limit: the most that the model takes.
        tokens: about how many tokens, padding included, a batch holds; it always holds at least one text.
        most: rows of a batch at most.

    Returns:
        Batches from short to long; every text is in one of them.
    """
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(padded(length, limit), []).append(row)
    batches: list[PaddedBatch] = []
    for length in sorted(groups):
        rows, size = groups[length], max(1, min(most, tokens // length))
        batches += [PaddedBatch(length, tuple(rows[start : start + size]), size) for start in range(0, len(rows), size)]
    return batches


def assemble(batch: PaddedBatch, encoded: Mapping[str, Sequence[Sequence[int]]], fill: Mapping[str, int]) -> Features:
    """Build the token arrays of a batch, each of shape (size, length), padded on the right.

    Args:
        batch: what stands in it.
        encoded: what the tokenizer gave for all texts of the call, by name, without padding.
        fill: what pads each name.
    """
    rows = [*batch.rows, *[batch.rows[0]] * (batch.size - len(batch.rows))]
    features: Features = {}
    for name, values in encoded.items():
        array = np.full((batch.size, batch.length), fill[name], dtype=np.int64)
        for place, row in enumerate(rows):
            ids = values[row][: batch.length]
            array[place, : len(ids)] = ids
        features[name] = array
    return features


GPU_TOKENS, GPU_ROWS = 16384, 256
SMALL_MODEL = 40_000_000
"""Weights of the largest model whose batches on a CPU run on one thread each: they take about a tenth of a second."""


class Batched(ABC):
    """Base class of encoders that run a model here; a subclass makes tokens of texts and vectors of tokens.

    Attributes:
        dim: length of a vector.
        limit: the most tokens of a text that the model sees.
        batch_tokens: about how many tokens a batch holds.
        batch_rows: rows of a batch at most.
        workers: batches that run at once.
        single: whether each batch runs on one thread.
        embedding_rows: tokens that have an embedding; None where that is not known.
        token_workers: batches of single tokens that run at once, each on one thread.
    """

    dim: int
    limit: int
    batch_tokens: int
    batch_rows: int = ROWS
    workers: int = 1
    single: bool = False
    embedding_rows: int | None = None
    token_workers: int = 1

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts as vectors of shape (n, dim); progress is shown where there are many batches.

        Equal texts get equal bits, whatever else is in the call; a text in it twice is encoded once.
        """
        distinct = list(dict.fromkeys(texts))
        vectors = np.zeros((len(distinct), self.dim), dtype=np.float32)
        if not distinct:
            return vectors
        encoded, fill = self._tokens(distinct)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        batches = plan(lengths, limit=self.limit, tokens=self.batch_tokens, most=self.batch_rows)

        def run(batch: PaddedBatch) -> Vectors:
            with one_thread() if self.single else nullcontext():
                return self._vectors(assemble(batch, encoded, fill))[: len(batch.rows)]

        what, show = f"Encoding {len(distinct)} texts", None if len(batches) >= SHOW_FROM else False
        with Progress(what, len(batches), show=show) as progress:
            for batch, found in _mapped(run, batches, self.workers):
                vectors[list(batch.rows)] = found
                progress.advance()
        place = {text: row for row, text in enumerate(distinct)}
        return vectors if len(distinct) == len(texts) else vectors[[place[text] for text in texts]]

    def encode_tokens(self, ids: Sequence[int]) -> Vectors:
        """Encode single tokens, each among the special tokens that a text gets: shape (len(ids), dim).

        Args:
            ids: of tokens that have an embedding.

        Raises:
            InputError: no token of the vocabulary is a text of its own, so that what surrounds one is unknown.
        """
        frame, place, fill = self._frame()
        length = len(frame["input_ids"])
        batches = [
            PaddedBatch(length, tuple(range(start, min(start + TOKEN_ROWS, len(ids)))), TOKEN_ROWS)
            for start in range(0, len(ids), TOKEN_ROWS)
        ]

        def row(token: int, name: str) -> list[int]:
            values = list(frame[name])
            if name == "input_ids":
                values[place] = token
            return values

        encoded = {name: [row(token, name) for token in ids] for name in frame}

        def run(batch: PaddedBatch) -> Vectors:
            with one_thread():
                return self._vectors(assemble(batch, encoded, fill))[: len(batch.rows)]

        vectors = np.zeros((len(ids), self.dim), dtype=np.float32)
        for batch, found in _mapped(run, batches, self.token_workers):
            vectors[list(batch.rows)] = found
        return vectors

    def _frame(self) -> tuple[dict[str, list[int]], int, dict[str, int]]:
        """Find what the model gets for a text of one token: its arrays, the token's place, and what pads them."""
        words = sorted(self.tokenizer.get_vocab(), key=lambda word: (not word.isascii() or not word.isalpha(), word))
        before: list[int] = []
        for word in words[:FRAME_TRIES]:
            encoded, fill = self._tokens([word])
            found = encoded["input_ids"][0]
            differ = [place for place, pair in enumerate(zip(found, before, strict=False)) if pair[0] != pair[1]]
            if len(found) == len(before) and len(differ) == 1:
                return {name: list(values[0]) for name, values in encoded.items()}, differ[0], fill
            before = found
        raise InputError("encoder", "a vocabulary in which no token is a text of its own", "another encoder")

    def reading(self, texts: Sequence[str]) -> TokenCounts:
        """Count tokens that the vocabulary lacks, and texts that are longer than the model reads."""
        tokenizer = self.tokenizer
        if not texts or tokenizer is None:
            return TokenCounts(0, 0, 0, 0, self.limit)
        # with truncation off, a tokenizer warns of what is counted here
        found = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        unknown = tokenizer.unk_token_id
        room = self.limit - tokenizer.num_special_tokens_to_add()
        return TokenCounts(
            tokens=sum(len(ids) for ids in found),
            unknown=sum(ids.count(unknown) for ids in found) if unknown is not None else 0,
            texts=len(texts),
            cut=sum(len(ids) > room for ids in found),
            limit=self.limit,
        )

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - an optional library's class
        """The model's tokenizer, None where there is none to count with."""
        return None

    def _size_batches(self, tokens: int, device: str) -> None:
        """Choose batches of about so many tokens on a CPU, large ones elsewhere."""
        self.batch_tokens, self.batch_rows = (tokens, ROWS) if device == "cpu" else (GPU_TOKENS, GPU_ROWS)

    def _share_threads(self, model: Any, device: str, *, side_by_side: bool = True) -> None:  # noqa: ANN401 - an optional library's class
        """Give a small model's batches a thread each on a CPU: side by side none waits for another.

        Whether it is done depends on the model alone, not on how many texts there are: a text's bits do not either.
        Not side by side where inner layers are collected: that is not safe in threads with every transformers version.
        """
        if device == "cpu" and side_by_side:
            self.token_workers = require("torch", "models").get_num_threads()
        self.single = device == "cpu" and sum(weight.numel() for weight in model.parameters()) <= SMALL_MODEL
        if self.single and side_by_side:
            self.workers = require("torch", "models").get_num_threads()

    @abstractmethod
    def _tokens(self, texts: list[str]) -> tuple[dict[str, list[list[int]]], dict[str, int]]:
        """Tokenize texts: ids and masks by name, without padding, and the value that pads each name."""

    @abstractmethod
    def _vectors(self, features: Features) -> Vectors:
        """Compute vectors of shape (size, dim) from token arrays of shape (size, length)."""


def tokenized(
    tokenizer: Any,  # noqa: ANN401 - an optional library's class
    texts: list[str],
    limit: int,
    rows: int | None = None,
) -> tuple[dict[str, list[list[int]]], dict[str, int]]:
    """Tokenize texts in one call, with the values that pad; a text without any token gets one that pads.

    Args:
        tokenizer: of transformers.
        texts: what to tokenize.
        limit: the most tokens of a text.
        rows: tokens that have an embedding: padding is masked, so any of these may pad; None sets no bound.
    """
    found = tokenizer(texts, truncation=True, max_length=limit)
    fills = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    spare = next((one for one in fills if one is not None and (rows is None or one < rows)), 0)
    values = {"input_ids": spare, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0), "attention_mask": 0}
    encoded = {name: found[name] for name in values if name in found}
    empty = [row for row, one in enumerate(encoded["input_ids"]) if not one]
    for row in empty:
        for name in encoded:
            encoded[name][row] = [1 if name == "attention_mask" else values[name]]
    return encoded, {name: values[name] for name in encoded}


def _mapped(
    run: Callable[[PaddedBatch], Vectors], batches: Sequence[PaddedBatch], workers: int
) -> Iterator[tuple[PaddedBatch, Vectors]]:
    # Longest first where several run at once: no thread is left with the longest batch when the others are done.
    several = workers > 1 and len(batches) > 1
    tasks = [PlanTask(str(batch.length), (batch,)) for batch in (batches[::-1] if several else batches)]
    plan = Plan("encoding", _run, tasks, run, threads=workers if several else 1)
    yield from ((task.inputs[0], found) for task, found in Local().run(plan))


def _run(run: Callable[[PaddedBatch], Vectors], batch: PaddedBatch) -> Vectors:
    return run(batch)
