"""Reward models: they learn from measured utilities which candidate a user would pick.

A file, or a folder, holds one model: a class that says ``kind = "mine"`` there is found as ``KINDS["mine"]`` without
being named anywhere else. Plug-ins name theirs by entry points of the group ``bestfor.rewards``, and a run's file may
name any class that can be imported as ``package.module:Class``. Importing this package imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestfor import artifacts
from bestfor.encoders import Encoder
from bestfor.errors import InputError, nearest
from bestfor.rewards.kinds import KINDS

if TYPE_CHECKING:
    from bestfor.rewards.arrays import ArrayModel, PlainRows
    from bestfor.rewards.auto import Auto
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
    "ArrayModel",
    "Auto",
    "BradleyTerry",
    "Ensemble",
    "Gaussian",
    "Hierarchical",
    "Judge",
    "Length",
    "Logprob",
    "Lora",
    "Mbr",
    "PlainRows",
    "Point",
    "Pooled",
    "RewardModel",
    "Ridge",
    "Similarity",
    "Tastes",
    "build",
    "kind_class",
    "load",
    "load_model",
]

_BASES = {
    "ArrayModel": "bestfor.rewards.arrays",
    "PlainRows": "bestfor.rewards.arrays",
    "RewardModel": "bestfor.rewards.model",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a class of a kind, or one that kinds inherit)
    if name in _BASES:
        return getattr(importlib.import_module(_BASES[name]), name)
    for place in KINDS.builtin.values():
        module, _, known = place.partition(":")
        if known == name:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'bestfor.rewards' has no attribute '{name}'")


def kind_class(kind: str, where: str = "reward") -> type[RewardModel]:
    """Find the class of a kind.

    Args:
        kind: a key of ``KINDS``, or ``package.module:Class`` as its user typed it; what a file of somebody else says
            must not come here, since the module is imported.
        where: names the place in errors.

    Raises:
        InputError: no such kind (the message names the nearest), module or class, or one that is no reward model.
    """
    from bestfor.rewards.model import RewardModel

    found = KINDS.resolve(kind, where)
    if not issubclass(found, RewardModel):
        expected = "a class that inherits bestfor.rewards.ArrayModel or RewardModel"
        raise InputError(where, f"kind '{kind}', which is no reward model", expected)
    return found


def build(
    kind: str, *, encoder: Encoder | str | None = None, cache: Path | None = None, **options: object
) -> RewardModel:
    """Make an unfitted model of a kind.

    Args:
        kind: as for :func:`kind_class`.
        encoder: an encoder object or name; None takes the configuration's.
        cache: folder for embeddings, None for memory only.
        **options: fields of the kind's ``Config``.

    Raises:
        InputError: an unknown kind or option, or a value out of range.
    """
    return kind_class(kind)(None, encoder=encoder, cache=cache, **options)


def load(
    folder: Path,
    *,
    encoder: Encoder | None = None,
    cache: Path | None = None,
    user: str | None = None,
    kinds: Sequence[type[RewardModel]] = (),
) -> RewardModel:
    """Read a saved model of any kind; nothing that its files name is imported but kinds of this package and plug-ins.

    Args:
        folder: the model's folder.
        encoder: None loads the configuration's by name when it is needed.
        cache: folder for embeddings, None for memory only.
        user: who will be served, None for everybody; see :meth:`RewardModel.load`.
        kinds: classes of one's own that the model may be of.

    Raises:
        InputError: the folder is damaged, of an unknown kind, of a class that was not given, or its encoder is not the
            one here.
    """
    return artifacts.retrying(lambda: _load(Path(folder), encoder, cache, user, kinds))


def load_model(
    folder: str | Path,
    *,
    encoder: Encoder | None = None,
    cache: Path | None = None,
    user: str | None = None,
    kinds: Sequence[type[RewardModel]] = (),
) -> RewardModel:
    """Read a fitted model from its folder, or from a run's folder that holds one.

    The model never changes, so threads may share it and forked processes inherit it; what people say later goes into
    :meth:`RewardModel.person`.

    Args:
        folder: a model's folder, or a run's.
        encoder: as for :func:`load`, and so are the others.
        cache: folder for embeddings.
        user: who will be served, None for everybody.
        kinds: classes of one's own that the model may be of.

    Raises:
        InputError: as for :func:`load`, or a run's folder with no model or several; the message names them.
    """
    folder = Path(folder)
    models = folder / "models"
    if not (folder / artifacts.CONFIG_FILE).exists() and models.is_dir():
        names = sorted(path.name for path in models.iterdir() if (path / artifacts.CONFIG_FILE).exists())
        if len(names) != 1:
            found = f"{len(names)} models: {', '.join(names)}" if names else "no model"
            expected = f"one of them, as {models / names[0]}" if names else "a run that has fitted one"
            raise InputError(str(folder), found, expected)
        folder = models / names[0]
    return load(folder, encoder=encoder, cache=cache, user=user, kinds=kinds)


def _load(
    folder: Path, encoder: Encoder | None, cache: Path | None, user: str | None, kinds: Sequence[type[RewardModel]]
) -> RewardModel:
    kind = str(artifacts.read_config(folder).get("kind"))
    try:
        return _class_of(kind, folder, kinds).load(folder, encoder=encoder, cache=cache, user=user)
    except InputError as error:
        if str(artifacts.read_config(folder).get("kind")) == kind:
            raise
        raise artifacts.ReplacedError(error.where, error.found, error.expected) from error


def _class_of(kind: str, folder: Path, kinds: Sequence[type[RewardModel]]) -> type[RewardModel]:
    """Find the class of a saved model: one of those that were given, or one that is installed."""
    from bestfor.rewards.kinds import is_kind

    found = next((one for one in kinds if is_kind(one, kind)), None)
    if found is None and ":" in kind:
        found = KINDS.at(kind)
        if found is None:
            name = kind.rpartition(":")[2]
            expected = f"its class given, load(folder, kinds=[{name}]): no file says what is imported"
            raise InputError(str(folder), f"a model of kind '{kind}', which is not installed", expected)
    if found is None and kind not in KINDS:
        raise InputError("reward", f"kind '{kind}'", nearest(kind, KINDS))
    return found or kind_class(kind)
