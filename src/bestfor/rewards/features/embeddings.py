"""Scale embeddings, and check that a fitted model is served by the encoder that it was fitted with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bestfor.encoders import Encoder
from bestfor.errors import InputError
from bestfor.types import FloatArray


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def check_signature(encoder: Encoder | None, name: str, signature: str) -> None:
    """Refuse an encoder whose content is not what a model was fitted with.

    Raises:
        InputError: the message names both signatures.
    """
    if encoder is None or encoder.signature != signature:
        found = "no encoder" if encoder is None else f"'{encoder.name}' with signature {encoder.signature[:16]}"
        raise InputError("encoder", found, f"'{name}' with signature {signature[:16]}")


def check_width(vectors: npt.NDArray[np.floating], encoder: Encoder | None, parts: int = 1) -> None:
    """Refuse stored vectors of another width than the encoder's, where one is at hand.

    Args:
        vectors: shape (n, parts * dim).
        encoder: None checks nothing.
        parts: how many of the encoder's vectors lie side by side in a row.

    Raises:
        ValueError: the message has both.
    """
    if encoder is not None and vectors.shape[1:] != (parts * encoder.dim,):
        raise ValueError(f"vectors of shape {vectors.shape} of an encoder of {encoder.dim} dimensions")
