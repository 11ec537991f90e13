"""Fit a model to labels in blocks, and store it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.artifacts import CONFIG_FILE, finish_shards, read, write
from bestfor.backends import Backend, Local
from bestfor.data.blocks import LabelBlocks
from bestfor.errors import InputError
from bestfor.files import hash_file, hash_json, write_json
from bestfor.rewards.abstain import abstain_note
from bestfor.rewards.blocks.hierarchical import fit_hierarchical_blocks
from bestfor.rewards.blocks.kept import KeptRounds
from bestfor.rewards.blocks.linear import fit_pool_blocks, fit_ridge_blocks
from bestfor.rewards.blocks.rounds import SPACE_ROWS, Round, first_rows
from bestfor.rewards.blocks.tastes import fit_tastes_blocks
from bestfor.rewards.hierarchical.model import Hierarchical
from bestfor.rewards.linear.pooled import Pooled
from bestfor.rewards.linear.ridge import Ridge
from bestfor.rewards.model import RewardModel
from bestfor.rewards.tastes.model import Tastes
from bestfor.shards import ShardEntry
from bestfor.types import IntArray
from bestfor.version import __version__
from bestfor.weights import is_personal

PROBE = 64
"""Labels whose features tell one encoder from another."""
Fitter = Callable[[Round, Any, Path, int], tuple[list[ShardEntry], IntArray | None]]
MADE = "made.json"
"""File of a model's folder that tells what it was fitted from, so that the same fit is not made twice."""


def fit_blocks(
    model: RewardModel, labels: LabelBlocks, folder: Path, *, rng: int, backend: Backend | None = None
) -> str:
    """Fit a model to labels in blocks and store it, its users in shards of the same numbers.

    It is the model that ``model.fit`` makes of the same labels at once, to rounding (docs/shards.md says how near),
    as long as features are learned from the same texts and ratios of ``ridge`` from the same users: above 200,000
    labels for features, and 30,000 for ratios, those of the first blocks stand for all. What tasks made is kept in the
    folder until the model is there: a fit that was killed goes on, and one that is done is not done again.

    Args:
        model: an unfitted model of kind ``pooled``, ``ridge``, ``hierarchical`` or ``tastes``.
        labels: from :func:`bestfor.data.blocks.write_blocks`.
        folder: where the model comes to lie.
        rng: the seed of everything random.
        backend: does the tasks, one of each block a round; None does them in this process.

    Returns:
        The model's content hash.

    Raises:
        InputError: another kind, options that need all labels at once, too many distinct texts for ``tastes``, or bad
            labels.
    """
    fitter = _fitters().get(type(model))
    if fitter is None:
        kinds = ", ".join(f"'{kind.kind}'" for kind in _fitters())
        raise InputError("fit in blocks", f"kind '{model.kind}'", f"one of {kinds}")
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.copy(model)
    kept = KeptRounds(folder, _key(model, labels, rng))
    if isinstance(model, Pooled | Ridge | Hierarchical):
        rows = first_rows(labels, SPACE_ROWS)
        model.prepare(rows)
        kept = kept.keyed(model.features(rows.take(np.arange(min(len(rows), PROBE)))))
    made = _made(folder, kept.key)
    if made is not None:
        return made
    entries, abstainers = fitter(Round(labels, model, backend or Local(), kept), model, folder, rng)
    config, arrays = model.stored()
    if entries:
        notes = [] if abstainers is None else abstain_note(int(abstainers[0]), int(abstainers[1]))
        shared = {name: values for name, values in arrays.items() if not is_personal(name)}
        digest = finish_shards(folder, {**config, "notes": [*config["notes"], *notes]}, shared, entries)
    else:
        digest = write(folder, config, arrays)
    write_json(folder / MADE, {"from": kept.key, "config": hash_file(folder / CONFIG_FILE), "model": digest})
    kept.clear()
    return digest


def kinds_in_blocks() -> tuple[str, ...]:
    """Name the kinds that can be fitted in blocks."""
    return tuple(kind.kind for kind in _fitters())


def _fitters() -> dict[type[RewardModel], Fitter]:
    return {Pooled: _pooled, Ridge: _ridge, Hierarchical: fit_hierarchical_blocks, Tastes: _tastes}


def _key(model: RewardModel, labels: LabelBlocks, rng: int) -> str:
    """Hash all that a fit depends on but what its encoder makes of texts."""
    config = model.config.model_dump(mode="json")
    return hash_json(
        {"version": __version__, "kind": model.kind, "config": config, "rng": rng, "labels": labels.digest()}
    )


def _made(folder: Path, key: str) -> str | None:
    """Find the hash of the model that was made of just this; None where there is none, or something is missing."""
    try:
        found = json.loads((folder / MADE).read_text())
        if found["from"] != key or found["config"] != hash_file(folder / CONFIG_FILE):
            return None
        shards = read(folder, users=()).shards
        if shards is not None and not all(map(KeptRounds(folder, key).has_shard, count(), shards.entries)):
            return None
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None
    return str(found["model"])


def _pooled(work: Round, model: Pooled, folder: Path, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    del folder, rng
    if model.config.prior:
        raise InputError("reward 'pooled' in blocks", f"prior = {model.config.prior}", "no prior")
    model.take_fit(fit_pool_blocks(work)[0])
    return [], None


def _ridge(work: Round, model: Ridge, folder: Path, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    del rng
    return fit_ridge_blocks(work, model, folder)


def _tastes(work: Round, model: Tastes, folder: Path, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    del folder
    return fit_tastes_blocks(work, model, rng)
