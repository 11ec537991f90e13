"""What held-out labels say of users' own heads beside the shared one: the errors by which some abstain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    from bestfor.rewards.heads.training import Descent, Weights

Errors = tuple[IntArray, FloatArray, FloatArray]
ROWS = 1 << 15


def held_errors(run: Descent, weights: Weights, kept: IntArray, held: IntArray) -> Errors:
    """Errors of held-out rows under users' own heads and under what strangers are served.

    Where rows are only compared, the root of their mean logistic loss over pairs that are no ties; else y - m, with
    a query's mean error over its kept rows taken off where queries have levels, since a level moves no pick.

    Args:
        run: the training that did not see the held-out rows.
        weights: what it found.
        kept: rows it saw.
        held: rows it did not see.

    Returns:
        User codes and both errors of the held-out rows, each (k,); NaN where a row says nothing.
    """
    held = held[run.labels.user[held] < run.labels.people]
    measure = _compared if run.training.pairwise else _missed
    with torch.no_grad():
        personal, shared = (measure(run, those, kept, held) for those in (weights, run.strangers(weights)))
    return run.labels.user[held], personal, shared


def _missed(run: Descent, weights: Weights, kept: IntArray, held: IntArray) -> FloatArray:
    labels, error = run.labels, np.full(len(run.labels.target), np.nan)
    rows = np.concatenate([kept, held]) if labels.query_levels else held
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        mean, _ = run.moments(torch.from_numpy(part), weights)
        error[part] = labels.target[part] - mean.numpy()
    if not labels.query_levels:
        return error[held]
    mine = kept[labels.user[kept] < labels.people]
    count = np.bincount(labels.query[mine], minlength=int(labels.query.max()) + 1)
    with np.errstate(invalid="ignore"):
        level = np.bincount(labels.query[mine], error[mine], minlength=len(count)) / count
    return error[held] - level[labels.query[held]]


def _compared(run: Descent, weights: Weights, kept: IntArray, held: IntArray) -> FloatArray:
    del kept
    rows, others = run.held_out_pairs(held)
    pair = (torch.from_numpy(rows), torch.from_numpy(others))
    loss = run.losses(*pair, weights, warming=False).numpy().astype(np.float64).reshape(len(held), -1)
    told = (run.labels.target[rows] != run.labels.target[others]).reshape(loss.shape)
    count = told.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.sum(loss * told, axis=1) / count)
