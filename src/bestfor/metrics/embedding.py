"""Measure nearness in meaning to the user's own text: the cosine of their embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from bestfor.encoders import Encoder, load_encoder
from bestfor.metrics.base import Query, RunSetting, reference_of
from bestfor.types import FloatArray


class EmbeddingSimilarity:
    """Cosine of the embeddings of a text and of the query's reference, in [-1, 1]; 0 where either has length 0.

    Args:
        encoder: an encoder object, or a name that :func:`~bestfor.encoders.load_encoder` takes; it is loaded when it
            is first needed.
        cache: folder for embeddings; None keeps them in memory only.
    """

    name = "embedding"
    extras = ("models",)
    keys = ("encoder",)
    many = True
    needs_reference = True

    def __init__(self, encoder: Encoder | str = "all-MiniLM-L6-v2", *, cache: Path | None = None) -> None:
        self._given, self._cache = encoder, cache

    @classmethod
    def of_run(cls, run: RunSetting) -> Self:
        """Make the metric with a run's encoder; embeddings are kept in its folder."""
        return cls(run.encoder, cache=None if run.folder is None else run.folder / "embeddings")

    @property
    def encoder(self) -> Encoder:
        """Encoder, loaded when it is first needed.

        Raises:
            InputError: there is none of that name.
            MissingExtraError: its extra is not installed.
        """
        if isinstance(self._given, str):
            self._given = load_encoder(self._given, cache=self._cache)
        return self._given

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric and its encoder's name and content hash."""
        return {"metric": self.name, "encoder": self.encoder.name, "content": self.encoder.signature}

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Compute cosines of texts with the query's reference.

        Args:
            query: must have a reference.
            texts: n candidates.

        Returns:
            Shape (n,).

        Raises:
            InputError: the query has no reference.
        """
        return self.measure_many([query], [texts])[0]

    def measure_many(self, queries: Sequence[Query], texts: Sequence[Sequence[str]]) -> list[FloatArray]:
        """Compute the cosines of several queries, whose texts are encoded together."""
        references = [reference_of(query, self.name) for query in queries]
        vectors = self.encoder.encode([*references, *(text for one in texts for text in one)]).astype(np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
        stops = np.cumsum([len(references), *map(len, texts)])
        # Products are summed row by row: a matrix product's last bits would depend on how many texts there are.
        return [
            np.clip(np.sum(vectors[start:stop] * vectors[row], axis=1), -1.0, 1.0)
            for row, (start, stop) in enumerate(itertools.pairwise(stops.tolist()))
        ]
