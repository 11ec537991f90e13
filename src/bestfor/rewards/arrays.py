"""Reward models of one's own on plain arrays: two functions, and everything else is there.

    learned = fit_rows(rows, utility, rng),   mean (and std) = predict_rows(learned, rows)

What is learned is a dictionary of arrays, which is also what is saved; loading a model runs nothing from its folder.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bestfor import rng as randomness
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards.model import RewardModel
from bestfor.types import FloatArray, IntArray, RewardEstimate

_PREFIX = "learned."


@dataclass(frozen=True)
class PlainRows:
    """Candidates, one a row.

    Attributes:
        users: how many users had labels at the fit.
        user: shape (n,), the user's place among these, -1 for somebody who had none.
        query: shape (n,), codes of queries; rows of one query are candidates of one pool.
        text: n texts, as an array of objects.
        input: n texts, what was asked; empty where people rated bare texts.
        logprob: shape (n,), the policy's log-probability of the text, NaN where it is unknown.
        features: shape (n, p), the features of text and query; p = 0 unless ``Config`` inherits ``FeatureConfig``.
    """

    users: int
    user: IntArray
    query: IntArray
    text: np.ndarray
    input: np.ndarray
    logprob: FloatArray
    features: FloatArray

    def __len__(self) -> int:
        return len(self.user)


class ArrayModel(RewardModel):
    """A reward model made of two functions of plain arrays; checks, order of rows and files are taken care of."""

    @abstractmethod
    def fit_rows(self, rows: PlainRows, utility: FloatArray, rng: np.random.Generator) -> Mapping[str, Any]:
        """Learn from labelled candidates.

        Args:
            rows: n candidates, always in the same order.
            utility: shape (n,), finite.
            rng: the only source of randomness.

        Returns:
            What was learned: arrays of finite numbers (or single numbers) by name.
        """

    @abstractmethod
    def predict_rows(
        self, learned: Mapping[str, np.ndarray], rows: PlainRows
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Rewards of candidates.

        Args:
            learned: what :meth:`fit_rows` returned, as arrays.
            rows: n candidates.

        Returns:
            Shape (n,); with ``has_std = True`` a pair of these: mean and standard deviation.
        """

    def _fit(self, candidates: Candidates, rng: int) -> None:
        rows = self._rows(candidates)
        self._call_fits("fit_rows", (rows, candidates.utility, None))
        learned = self.fit_rows(rows, candidates.utility, randomness.derive(rng, "fit", type(self).__qualname__))
        where = f"what fit_rows of '{type(self).__qualname__}' returns"
        if not isinstance(learned, Mapping):
            raise InputError(where, f"a value of type {type(learned).__name__}", "a dictionary of arrays")
        self._learned = {str(name): _numbers(f"{where}, '{name}'", values) for name, values in learned.items()}

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        rows = self._rows(candidates)
        self._call_fits("predict_rows", (self._learned, rows))
        found = self.predict_rows(self._learned, rows)
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) > 2:
            where = f"predictions of '{type(self).__qualname__}'"
            raise InputError(where, f"{len(parts)} values", "an array of means, or a pair of means and stds")
        notes = self._new_user_notes(candidates, rows.user, "what predict_rows gives for user -1")
        made = [part.astype(np.float64) if _is_numbers(part) else part for part in parts]
        return RewardEstimate(made[0], made[1] if len(made) > 1 else None, notes=notes)

    def _rows(self, candidates: Candidates) -> PlainRows:
        features = np.zeros((len(candidates), 0))
        if self.uses_features():
            design = self._design(candidates)
            features = design.values[design.row]
        return PlainRows(
            users=len(self._users),
            user=self._user_codes(candidates),
            query=candidates.query,
            text=np.array(candidates.texts, dtype=object)[candidates.text],
            input=np.array(candidates.inputs, dtype=object)[candidates.query],
            logprob=candidates.logprob,
            features=features,
        )

    def _call_fits(self, name: str, given: tuple[object, ...]) -> None:
        """Refuse a method that takes something else than it will be given."""
        signature = inspect.signature(getattr(self, name))
        try:
            signature.bind(*given)
        except TypeError:
            wanted = {"fit_rows": "rows, utility, rng", "predict_rows": "learned, rows"}[name]
            where = f"reward model '{type(self).__qualname__}'"
            raise InputError(where, f"{name}{signature}", f"{name}(self, {wanted})") from None

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        arrays = {f"{_PREFIX}{name}": np.atleast_1d(values) for name, values in self._learned.items()}
        shapes = {name: list(values.shape) for name, values in self._learned.items()}
        return {"shapes": shapes}, {**arrays, "nothing": np.zeros(1)}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._learned: dict[str, np.ndarray] = {}
        for name, shape in state["shapes"].items():
            values = arrays[f"{_PREFIX}{name}"]
            # a single number is kept as an array of one
            if list(values.shape) != (shape or [1]):
                raise ValueError(f"array '{name}' of shape {values.shape}")
            self._learned[name] = values.reshape(shape)


def _is_numbers(values: object) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiu"


def _numbers(where: str, values: object) -> np.ndarray:
    """Something as an array of finite numbers."""
    try:
        found = np.asarray(values)
    except ValueError:
        found = np.array(None)
    if found.dtype.kind not in "fiub":
        raise InputError(where, f"a value of type {type(values).__name__}", "an array of numbers")
    if not np.isfinite(found).all():
        raise InputError(where, "NaN or infinity", "finite numbers")
    return np.array(found, order="C")
