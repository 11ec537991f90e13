"""Store the heads of a LoRA reward model and predict from states: all of the model but its adapters.

Plain arrays: neither torch nor the backbone is needed to read or check them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bestfor.artifacts import Arrays
from bestfor.files import hash_parts
from bestfor.rewards.heads import LOG_LIMITS
from bestfor.rewards.rows import apply_rows
from bestfor.types import FloatArray, IntArray

DIGEST = 32
"""Bytes of a SHA-256."""
OWN = ("own_mean", "own_spread", "adapter")
ROWS = 1 << 13


@dataclass(frozen=True)
class Weights:
    """Heads on the standard scale, how states become columns, and which adapters belong to them; k = hidden + 1.

    Attributes:
        centre: shape (hidden,), subtracted from states.
        factor: shape (hidden,), multiplies them.
        mean: shape (k,).
        spread: shape (k,), log-variance head, or (0,) where no variance is learned.
        own_mean: shape (users, k), deviations.
        own_spread: shape (users, k) or (users, 0).
        adapter: shape (users, 32), SHA-256 of the users' adapters, zeros where there is none.
        shared: shape (32,), of the adapter for everybody.
    """

    centre: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]
    own_mean: npt.NDArray[np.float32]
    own_spread: npt.NDArray[np.float32]
    adapter: npt.NDArray[np.uint8]
    shared: npt.NDArray[np.uint8]

    def arrays(self) -> Arrays:
        """Return what is stored, rows of users apart."""
        return {_stored(field.name): getattr(self, field.name) for field in fields(self)}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]], users: int) -> Self:
        """Restore what :meth:`arrays` gave.

        Raises:
            ValueError: shapes that do not belong together.
        """
        found = cls(**{field.name: arrays[_stored(field.name)] for field in fields(cls)})
        k = len(found.mean)
        wide = k if found.spread.size else 0
        expected = {"centre": (k - 1,), "factor": (k - 1,), "mean": (k,), "spread": (wide,), "shared": (DIGEST,)}
        expected |= {"own_mean": (users, k), "own_spread": (users, wide), "adapter": (users, DIGEST)}
        for name, shape in expected.items():
            if getattr(found, name).shape != shape:
                raise ValueError(f"{name} of shape {getattr(found, name).shape}, expected {shape}")
        return found

    def digest(self, user: int | None) -> str:
        """Return the SHA-256 of a user's adapter, or of that for everybody; empty where there is none."""
        row = self.shared if user is None else self.adapter[user]
        return row.tobytes().hex() if row.any() else ""

    @property
    def folder(self) -> str:
        """Name of the adapters' folder, which depends on all of them; empty where there are none."""
        if not (self.adapter.any() or self.shared.any()):
            return ""
        return f"adapters-{hash_parts([self.shared.tobytes(), self.adapter.tobytes()])[:16]}"

    def predict(
        self, states: npt.NDArray[np.float32], state: IntArray, codes: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Predict mean and variance of rows on the standard scale, each (n,).

        Args:
            states: shape (texts, hidden).
            state: shape (n,), which of them is a row's.
            codes: shape (n,), users, -1 for those without a part of their own.
        """
        mean, log_variance = np.empty(len(codes)), np.zeros(len(codes))
        for start in range(0, len(codes), ROWS):
            part = slice(start, start + ROWS)
            values = (states[state[part]].astype(np.float64) - self.centre) * self.factor.astype(np.float64)
            columns = np.hstack([values, np.ones((len(values), 1))])
            mean[part] = _applied(columns, self.mean, self.own_mean, codes[part])
            if self.spread.size:
                log_variance[part] = _applied(columns, self.spread, self.own_spread, codes[part])
        return mean, np.exp(np.clip(log_variance, *LOG_LIMITS))


def stack(members: Sequence[Weights]) -> Arrays:
    """Return what is stored of several members, a further axis of each array; of one alone, its own arrays."""
    if len(members) == 1:
        return members[0].arrays()
    arrays = [one.arrays() for one in members]
    # Users come first, so that one user's rows can be read alone.
    return {
        name: np.stack([one[name] for one in arrays], axis=1 if name.startswith("user.") else 0) for name in arrays[0]
    }


def unstack(arrays: Mapping[str, npt.NDArray[Any]], users: int, members: int) -> list[Weights]:
    """Restore what :func:`stack` gave.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if members == 1:
        return [Weights.restore(arrays, users)]
    names = [_stored(field.name) for field in fields(Weights)]
    for name in names:
        axis = 1 if name.startswith("user.") else 0
        if arrays[name].ndim <= axis or arrays[name].shape[axis] != members:
            raise ValueError(f"{name} of shape {arrays[name].shape} for {members} members")
    return [
        Weights.restore({name: arrays[name].take(k, axis=int(name.startswith("user."))) for name in names}, users)
        for k in range(members)
    ]


def digest_row(digest: str) -> npt.NDArray[np.uint8]:
    """Convert a hexadecimal SHA-256 to bytes; zeros for an empty one."""
    return np.frombuffer(bytes.fromhex(digest) if digest else bytes(DIGEST), dtype=np.uint8)


def _applied(
    columns: FloatArray, shared: npt.NDArray[np.float32], own: npt.NDArray[np.float32], codes: IntArray
) -> FloatArray:
    deviations = np.where(codes[:, None] >= 0, own[codes] if len(own) else 0.0, 0.0)
    return apply_rows(columns, shared.astype(np.float64) + deviations)


def _stored(name: str) -> str:
    return f"user.{name.removeprefix('own_')}" if name in OWN else name
