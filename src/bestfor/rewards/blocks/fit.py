"""Fit a model to labels in blocks, and store it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bestfor.artifacts import finish_shards, write
from bestfor.backends import Backend, Local
from bestfor.data.blocks import LabelBlocks
from bestfor.errors import InputError
from bestfor.rewards.abstain import abstain_note
from bestfor.rewards.blocks.hierarchical import fit_hierarchical_blocks
from bestfor.rewards.blocks.linear import fit_pool_blocks, fit_ridge_blocks
from bestfor.rewards.blocks.rounds import SPACE_ROWS, Round, first_rows
from bestfor.rewards.hierarchical.model import Hierarchical
from bestfor.rewards.linear.pooled import Pooled
from bestfor.rewards.linear.ridge import Ridge
from bestfor.rewards.model import RewardModel
from bestfor.shards import ShardEntry
from bestfor.types import IntArray
from bestfor.weights import is_personal

Fitter = Callable[[Round, Any, Path, int], tuple[list[ShardEntry], IntArray | None]]


def fit_blocks(
    model: RewardModel, labels: LabelBlocks, folder: Path, *, rng: int, backend: Backend | None = None
) -> str:
    """Fit a model to labels in blocks and store it, its users in shards of the same numbers.

    It is the model that ``model.fit`` makes of the same labels at once, to rounding (docs/shards.md says how near),
    as long as features are learned from the same texts and ratios of ``ridge`` from the same users: above 200,000
    labels for features, and 30,000 for ratios, those of the first blocks stand for all.

    Args:
        model: an unfitted model of kind ``pooled``, ``ridge`` or ``hierarchical``.
        labels: from :func:`bestfor.data.blocks.write_blocks`.
        folder: where the model comes to lie.
        rng: the seed of everything random.
        backend: does the tasks, one of each block a round; None does them in this process.

    Returns:
        The model's content hash.

    Raises:
        InputError: another kind, options that need all labels at once, or bad labels.
    """
    fitters: dict[type[RewardModel], Fitter] = {Pooled: _pooled, Ridge: _ridge, Hierarchical: fit_hierarchical_blocks}
    fitter = fitters.get(type(model))
    if fitter is None:
        kinds = ", ".join(f"'{kind.kind}'" for kind in fitters)
        raise InputError("fit in blocks", f"kind '{model.kind}'", f"one of {kinds}")
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.copy(model)
    model.prepare(first_rows(labels, SPACE_ROWS))
    entries, abstainers = fitter(Round(labels, model, backend or Local()), model, folder, rng)
    config, arrays = model.stored()
    if not entries:
        return write(folder, config, arrays)
    notes = [] if abstainers is None else abstain_note(int(abstainers[0]), int(abstainers[1]))
    shared = {name: values for name, values in arrays.items() if not is_personal(name)}
    return finish_shards(folder, {**config, "notes": [*config["notes"], *notes]}, shared, entries)


def _pooled(work: Round, model: Pooled, folder: Path, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    del folder, rng
    model.take_fit(fit_pool_blocks(work)[0])
    return [], None


def _ridge(work: Round, model: Ridge, folder: Path, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    del rng
    return fit_ridge_blocks(work, model, folder)
