"""Judge a run's models on held-out answers where prompts have one answer each, or where answers come in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bestfor.data.parts import CandidateParts
from bestfor.diagnostics.held_out import HeldOutPart, judge_held_out, judge_shots
from bestfor.errors import InputError
from bestfor.files import write_json
from bestfor.report.held_out import FILE
from bestfor.runs.config import RunConfig
from bestfor.runs.joins import Predicted
from bestfor.runs.shots import unit_of
from bestfor.runs.stages import Stages
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


def check_shots(config: RunConfig) -> None:
    """Refuse shots where nobody's labels can be given step by step.

    Raises:
        InputError: histories, or a split that leaves the test users without any label.
    """
    if not config.diagnosis.shots:
        return
    if config.door != "ratings":
        raise InputError("[diagnosis] shots", "histories", "ratings, rankings or pairs, whose labels are in the data")
    if config.split.by == "user":
        expected = "'query', 'text' or 'time': shots = 0 leaves each fold's users unseen, more give them labels"
        raise InputError("[split] by", "'user' with shots", expected)


class HeldOutFolds:
    """Held-out answers of a run's folds, with the rewards of its models and of models fitted on few labels."""

    def __init__(self) -> None:
        self._judged: list[HeldOutPart] = []
        self._after: dict[int | None, list[HeldOutPart]] = {}
        self._units: set[str] = set()
        self._folds = 0

    def add(self, stages: Stages) -> None:
        """Take a fold whose models are fitted; where shots are wanted they are fitted again."""
        config, parts = stages.config, stages.parts()
        self._folds += 1
        if not config.diagnosis.shots and not is_judged(config, parts):
            return
        predicted = stages.predicted()
        self._judged.append(held_out_part(parts, predicted))
        tables = [table for table in config.reward if not stages.asks_server(table)]
        if not config.diagnosis.shots or not tables or not stages.has_users_of_fold():
            return
        self._units.add(unit_of(parts))
        for shots in config.diagnosis.shots:
            found = {table.label: stages.predict_after(table, shots) for table in tables}
            cut = next(iter(found.values()))[0]
            part = held_out_part(cut, {name: one for name, (_, one) in found.items()})
            self._after.setdefault(shots, []).append(part)
        cut, rewards = stages.of_fold_users({table.label: predicted[table.label] for table in tables})
        self._after.setdefault(None, []).append(held_out_part(cut, rewards))

    def write(self, folder: Path, level: float) -> None:
        """Write the figures of the folds together; the file of an earlier run goes where there are none."""
        if len(self._judged) < self._folds or not self._judged:
            (folder / FILE).unlink(missing_ok=True)
            return
        found = judge_held_out(self._judged, level).to_dict()
        if self._after:
            unit = "prompts" if self._units == {"prompts"} else "labels"
            found["after_shots"] = judge_shots(self._after, unit, level).to_dict()
        write_json(folder / FILE, found, sync=False)
