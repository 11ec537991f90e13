"""Reward models: they learn from measured utilities which candidate a user would pick.

One file holds one model. ``KINDS`` names them; importing this package imports neither torch nor an encoder.
"""

from __future__ import annotations

from pathlib import Path

from bestfor import artifacts
from bestfor.encoders import Encoder
from bestfor.errors import InputError, nearest
from bestfor.rewards.baseline import Length, Logprob
from bestfor.rewards.heads.bradley_terry import BradleyTerry
from bestfor.rewards.heads.ensemble import Ensemble
from bestfor.rewards.heads.gaussian import Gaussian
from bestfor.rewards.heads.point import Point
from bestfor.rewards.hierarchical import Hierarchical
from bestfor.rewards.judge import Judge
from bestfor.rewards.linear.pooled import Pooled
from bestfor.rewards.linear.ridge import Ridge
from bestfor.rewards.lora import Lora
from bestfor.rewards.mbr import Mbr
from bestfor.rewards.model import RewardModel
from bestfor.rewards.similarity import Similarity
from bestfor.rewards.tastes import Tastes

__all__ = [
    "KINDS",
    "BradleyTerry",
    "Ensemble",
    "Gaussian",
    "Hierarchical",
    "Judge",
    "Length",
    "Logprob",
    "Lora",
    "Mbr",
    "Point",
    "Pooled",
    "RewardModel",
    "Ridge",
    "Similarity",
    "Tastes",
    "build",
    "kind_class",
    "load",
]

KINDS: dict[str, type[RewardModel]] = {
    model.kind: model
    for model in (
        Pooled,
        Ridge,
        Point,
        Gaussian,
        BradleyTerry,
        Ensemble,
        Hierarchical,
        Tastes,
        Similarity,
        Length,
        Logprob,
        Lora,
        Mbr,
        Judge,
    )
}


def kind_class(kind: str) -> type[RewardModel]:
    """The class of a kind.

    Raises:
        InputError: there is no such kind; the message names the nearest.
    """
    if kind not in KINDS:
        raise InputError("reward", f"kind '{kind}'", nearest(kind, KINDS))
    return KINDS[kind]


def build(
    kind: str, *, encoder: Encoder | str | None = None, cache: Path | None = None, **options: object
) -> RewardModel:
    """An unfitted model of a kind.

    Args:
        kind: a key of ``KINDS``.
        encoder: an encoder object or name; None takes the configuration's.
        cache: folder for embeddings, None for memory only.
        **options: fields of the kind's ``Config``.

    Raises:
        InputError: an unknown kind or option, or a value out of range.
    """
    return kind_class(kind)(None, encoder=encoder, cache=cache, **options)


def load(
    folder: Path, *, encoder: Encoder | None = None, cache: Path | None = None, user: str | None = None
) -> RewardModel:
    """Read a saved model of any kind.

    Args:
        folder: the model's folder.
        encoder: None loads the configuration's by name when it is needed.
        cache: folder for embeddings, None for memory only.
        user: who will be served, None for everybody; see :meth:`RewardModel.load`.

    Raises:
        InputError: the folder is damaged, of an unknown kind, or its encoder is not the one here.
    """
    kind = str(artifacts.read_config(Path(folder)).get("kind"))
    return kind_class(kind).load(folder, encoder=encoder, cache=cache, user=user)
