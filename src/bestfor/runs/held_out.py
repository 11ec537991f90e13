"""Judge a run's models on held-out answers where prompts have one answer each, or where answers come in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bestfor.data.parts import CandidateParts
from bestfor.diagnostics.held_out import HeldOutPart, judge_held_out
from bestfor.files import write_json
from bestfor.report.held_out import FILE
from bestfor.runs.config import RunConfig
from bestfor.runs.joins import Predicted
from bestfor.types import FloatArray

PAIR = 2
"""Answers of the largest test pool up to which held-out figures say more than curves."""


def is_judged(config: RunConfig, parts: CandidateParts) -> bool:
    """Tell whether a run's models are judged on held-out answers beside their curves."""
    if config.door != "ratings":
        return False
    return config.data.source in ("pairs", "prism") or int(parts.test_sizes.max(initial=0)) <= PAIR


def held_out_part(parts: CandidateParts, predicted: dict[str, Predicted]) -> HeldOutPart:
    """Take the held-out answers of a fold with their rewards; answers without a utility are left out."""
    test, fit, utility = parts.test, parts.fit, parts.test_utility
    rows = np.flatnonzero(np.isfinite(utility))
    labels = dict(zip(fit.users, np.bincount(fit.user, minlength=len(fit.users)).tolist(), strict=True))

    def taken(values: FloatArray) -> FloatArray:
        return np.asarray(values, dtype=np.float64)[rows]

    return HeldOutPart(
        users=test.users,
        user=test.user[rows],
        query=test.query[rows],
        utility=taken(utility),
        shots=np.array([labels.get(user, 0) for user in test.users], dtype=np.int64),
        base=float(fit.utility.mean()),
        rewards={name: taken(one.reward.mean) for name, one in predicted.items()},
        scales={name: one.reward.scale for name, one in predicted.items()},
    )


def write_held_out(folder: Path, parts: list[HeldOutPart], level: float) -> None:
    """Write the figures of a run's folds together; the file of an earlier run goes where there are none."""
    if parts:
        write_json(folder / FILE, judge_held_out(parts, level).to_dict(), sync=False)
    else:
        (folder / FILE).unlink(missing_ok=True)
