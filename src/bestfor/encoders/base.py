"""Protocol of encoders: vectors for texts, and a signature of all that they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@runtime_checkable
class Encoder(Protocol):
    """Encoder of texts as vectors.

    Attributes:
        name: what a configuration calls it.
        signature: content hash of everything that its vectors depend on.
        dim: length of a vector.
    """

    name: str
    signature: str
    dim: int

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode texts: shape (len(texts), dim); equal texts get equal bits, whatever else is in the call."""
        ...
