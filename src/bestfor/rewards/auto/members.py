"""Members of an automatic model: what each says of rows, for the user and for somebody of whom nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bestfor.artifacts import Arrays, Artifact
from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.rewards.model import RewardModel
from bestfor.types import BoolArray, FloatArray, RewardEstimate

NOBODY = "\0nobody"
"""Beginning of the id of a user without labels; no table can hold it."""
_BETWEEN = "|"


@dataclass(frozen=True)
class MemberParts:
    """Prediction of one member for n rows: ``shared + own`` is its mean.

    Attributes:
        shared: shape (n,), the mean for somebody without labels.
        own: shape (n,), what the user's labels add to it; zero for kinds without parts of users.
        doubt: shape (n,), variance of the mean, NaN where the member has none.
        noise: shape (n,), the rest of the predictive variance, likewise.
    """

    shared: FloatArray
    own: FloatArray
    doubt: FloatArray
    noise: FloatArray


@runtime_checkable
class SharedPredictor(Protocol):
    """A kind that tells the mean of somebody without labels at little cost."""

    def predict_shared(self, candidates: Candidates) -> FloatArray:
        """Rewards of somebody without labels, shape (n,)."""
        ...


def as_nobody(candidates: Candidates, who: BoolArray | None = None) -> Candidates:
    """The same rows, asked by people without labels; ``who`` says which users become such, all where None."""
    users = tuple(
        f"{NOBODY} {code}" if who is None or who[code] else user for code, user in enumerate(candidates.users)
    )
    return replace(candidates, users=users)


def shared_mean(model: RewardModel, candidates: Candidates) -> FloatArray:
    """Predict for somebody without labels, shape (n,)."""
    if isinstance(model, SharedPredictor):
        return model.predict_shared(candidates)
    return model.predict(as_nobody(candidates)).mean


def predict_parts(model: RewardModel, candidates: Candidates, *, own: bool = True) -> MemberParts:
    """Predict both parts of a member's mean.

    Args:
        model: fitted.
        candidates: n rows.
        own: False where the user's part is not wanted: it is 0.
    """
    personal = model.personal and own
    estimate = model.predict(candidates if personal or not model.personal else as_nobody(candidates))
    shared = shared_mean(model, candidates) if personal else estimate.mean
    return MemberParts(shared, estimate.mean - shared, *variances(estimate))


def variances(estimate: RewardEstimate) -> tuple[FloatArray, FloatArray]:
    """Variance of the mean and the rest; NaN where they are not told apart."""
    if estimate.std is None or estimate.std_mean is None:
        none = np.full(len(estimate.mean), np.nan)
        return none, none
    doubt = estimate.std_mean**2
    return doubt, np.maximum(estimate.std**2 - doubt, 0.0)


def store_members(members: Sequence[RewardModel]) -> tuple[list[dict[str, Any]], Arrays]:
    """Store fitted members: JSON values of each, and all their arrays under names of their own."""
    values, arrays = [], {}
    for model in members:
        config, own = model.stored()
        values.append({**config, "arrays": {name: list(own[name].shape) for name in sorted(own)}})
        arrays |= {f"{model.kind}{_BETWEEN}{name}": array for name, array in own.items()}
    return values, arrays


def restore_members(
    stored: Sequence[dict[str, Any]],
    arrays: Arrays,
    users: tuple[str, ...],
    encoder: Encoder | None,
    make: Callable[[str, dict[str, Any]], RewardModel],
) -> list[RewardModel]:
    """Make fitted members of what :func:`store_members` gave.

    Args:
        stored: JSON values.
        arrays: of all members.
        users: ids of the fitted users.
        encoder: None where it is loaded when it is needed.
        make: an unfitted member of a kind and its configuration.

    Raises:
        ValueError: arrays are missing or are not those of a member.
        InputError: the encoder is not the one of the fit.
    """
    wanted = {f"{one['kind']}{_BETWEEN}{name}" for one in stored for name in one["arrays"]}
    if wanted != {name for name in arrays if _BETWEEN in name}:
        raise ValueError("arrays of other members than its configuration names")
    for one in stored:
        for name, shape in one["arrays"].items():
            found = arrays[f"{one['kind']}{_BETWEEN}{name}"].shape
            if found != tuple(shape):
                raise ValueError(f"array '{name}' of {one['kind']} of shape {found}")
    members = []
    for one in stored:
        model = make(str(one["kind"]), dict(one["config"]))
        own = {name: arrays[f"{one['kind']}{_BETWEEN}{name}"] for name in one["arrays"]}
        members.append(model.restored(Artifact(one, own, "", users), encoder))
    return members
