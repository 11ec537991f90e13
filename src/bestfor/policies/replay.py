"""Replay candidates that were written elsewhere: any table with a query and a text in each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from bestfor.data.ratings import text_id
from bestfor.data.read.tables import Columns, file_signature, read_table
from bestfor.data.schema import CANDIDATES
from bestfor.errors import InputError
from bestfor.policies.base import Prompt, Sampled


@dataclass(frozen=True)
class ReplayPolicy:
    """Policy that answers with the candidates of a table.

    Attributes:
        path: what :func:`replay` reads.
        columns: other names for its columns.
        chunk: queries that are handed out together.
    """

    kind: ClassVar[str] = "replay"
    keys: ClassVar[tuple[str, ...]] = ("model", "chunk")

    path: str | Path
    columns: Mapping[str, str] | None = None
    chunk: int = field(default=256, kw_only=True)

    @classmethod
    def from_table(cls, table: Any) -> Self:  # noqa: ANN401 - a table of a run's file
        """Make the policy whose file ``[policy]`` names as its model."""
        return cls(table.model, chunk=table.chunk)

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name

    @property
    def signature(self) -> dict[str, str | int | float]:
        """The file's hash and how it is read.

        Raises:
            InputError: no such file.
        """
        return self._signature

    @cached_property
    def _signature(self) -> dict[str, str | int | float]:
        if not Path(self.path).is_file():
            raise InputError(str(self.path), "no file", "a table of candidates")
        columns = repr(sorted((self.columns or {}).items()))
        return {"kind": "replay", "model": self.name, "file": file_signature(self.path), "columns": columns}

    def sample(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[list[Sampled]]:
        """Give the first n candidates of every prompt's query; the seed and the messages change nothing.

        Raises:
            InputError: the table cannot be read, or holds fewer than n candidates of a query.
        """
        found: list[list[Sampled]] = []
        for prompt in prompts:
            texts = self._by_query.get(prompt.query_id, [])
            if len(texts) < n:
                have = f"{len(texts)} candidates of query '{prompt.query_id}'"
                raise InputError(str(self.path), have, f"at least {n}")
            found.append(texts[:n])
        return found

    @cached_property
    def _by_query(self) -> dict[str, list[Sampled]]:
        table = replay(self.path, columns=self.columns)
        found: dict[str, list[Sampled]] = {}
        rows = (table[name].to_pylist() for name in ("query_id", "text", "logprob", "finish_reason"))
        for query, text, logprob, reason in zip(*rows, strict=True):
            found.setdefault(query, []).append(Sampled(text, len(text.split()), logprob, reason))
        return found


def replay(path: str | Path, *, columns: Mapping[str, str] | None = None, policy: str = "replay") -> pa.Table:
    """Read candidates from a table.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file with columns query_id and text, and perhaps logprob and
            finish_reason (``stop`` where there is none).
        columns: other names for these four.
        policy: what the column ``policy`` says.

    Returns:
        A table of schema ``CANDIDATES``, by query in the order of their ids; a query's candidates keep the file's
        order. The seed is 0.

    Raises:
        InputError: no such file, another format, a missing column, no rows, or an unknown role in ``columns``.
    """
    roles = ("query_id", "text", "logprob", "finish_reason")
    names = {role: role for role in roles} | dict(columns or {})
    for role in names:
        if role not in roles:
            raise InputError("columns", f"'{role}'", "one of " + ", ".join(roles))
    wanted = Columns(
        text={role: names[role] for role in ("query_id", "text", "finish_reason")},
        number={"logprob": names["logprob"]},
        optional=frozenset({"logprob", "finish_reason"}),
    )
    table = read_table(path, wanted)
    if len(table) == 0:
        raise InputError(str(path), "no rows", "at least one candidate")
    table = table.take(pa.array(np.argsort(np.array(table["query_id"].to_pylist()), kind="stable")))
    texts = table["text"].to_pylist()
    count = len(texts)
    ends = table["finish_reason"].to_pylist() if "finish_reason" in table.column_names else [None] * count
    return pa.table(
        {
            "query_id": table["query_id"],
            "candidate": pa.array(_within(table["query_id"].to_pylist()), pa.int32()),
            "text_id": [text_id(text) for text in texts],
            "text": texts,
            "logprob": table["logprob"] if "logprob" in table.column_names else pa.nulls(count, pa.float64()),
            "finish_reason": [reason or "stop" for reason in ends],
            "policy": [policy] * count,
            "seed": pa.array(np.zeros(count, dtype=np.int64)),
        }
    ).cast(CANDIDATES)


def _within(ids: list[str]) -> list[int]:
    """Positions within runs of equal ids."""
    positions: list[int] = []
    for index, name in enumerate(ids):
        positions.append(positions[-1] + 1 if index and ids[index - 1] == name else 0)
    return positions
