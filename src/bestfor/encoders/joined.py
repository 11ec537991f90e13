"""Encode texts by several encoders at once: their vectors one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bestfor.encoders.base import Encoder
from bestfor.encoders.reading import TokenCounts
from bestfor.files import hash_text


class JoinedEncoder:
    """Unit vectors of several encoders one after the other, each scaled so that the whole has unit length.

    The inner product of two joined vectors is the mean of the encoders' cosines.

    Args:
        encoders: at least one, perhaps behind caches.
        name: what configurations call it.
    """

    def __init__(self, encoders: Sequence[Encoder], *, name: str) -> None:
        self._encoders = tuple(encoders)
        self.name = name
        self.dim = sum(one.dim for one in self._encoders)
        self.signature = hash_text("joined " + " ".join(one.signature for one in self._encoders))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode texts as vectors of shape (n, dim)."""
        return np.concatenate([self._part(encoder, texts) for encoder in self._encoders], axis=1)

    def _part(self, encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        found = np.asarray(encoder.encode(texts), dtype=np.float32)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        scale = np.sqrt(len(self._encoders), dtype=np.float32)
        return found / np.maximum(norms, np.float32(1e-12)) / scale

    def reading(self, texts: Sequence[str]) -> TokenCounts:
        """Count what the encoder that reads the texts best cannot read: the others' gaps are filled by it."""
        inner = [getattr(encoder, "encoder", encoder) for encoder in self._encoders]
        found = [counts for one in inner if (counts := _counts(one, texts)) is not None]
        if len(found) < len(inner):
            return TokenCounts(0, 0, len(texts), 0, 0)
        return min(found, key=lambda counts: (counts.unknown / max(1, counts.tokens), counts.cut))


def _counts(encoder: object, texts: Sequence[str]) -> TokenCounts | None:
    read: Callable[[Sequence[str]], TokenCounts] | None = getattr(encoder, "reading", None)
    return None if read is None else read(texts)
