"""Do a whole run: data, pool, utilities, reward models, rewards, diagnosis, report; resumable at every step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bestfor.data import schema
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.diagnose import choose_n
from bestfor.files import write_json
from bestfor.runs.build import primary_metric
from bestfor.runs.config import RunConfig
from bestfor.runs.folder import write_report
from bestfor.runs.joins import build_rows
from bestfor.runs.stages import Stages, Tell, folds
from bestfor.runs.steps import digest
from bestfor.runs.usage import notes_of
from bestfor.types import Scale
from bestfor.version import __version__


@dataclass(frozen=True)
class RunResult:
    """Result of a run and where it lies.

    Attributes:
        folder: the run folder.
        diagnosis: its diagnosis (of the mean of the folds where there are several).
        report: the page.
    """

    folder: Path
    diagnosis: Diagnosis
    report: Path


def run(config: RunConfig, out: str | Path, *, tell: Tell = lambda line: None) -> RunResult:
    """Do a run, or what is left of it.

    Args:
        config: the run.
        out: its folder; made where it is not there. What is there already and matches is kept.
        tell: called with one line a step.

    Raises:
        InputError: bad data, an option without sense here, or a folder that holds another run's pool.
    """
    results = []
    if config.split.fold == "all" and not config.diagnosis.n:
        config = _common_n(config, out)
    for stages in folds(config, out, tell):
        stages.check_ready()
        stages.sample()
        stages.measure()
        predicted = {table.label: stages.predict(table) for table in stages.config.reward}
        results.append(_write_result(stages.folder, _diagnose(stages, predicted)))
    if config.split.fold != "all":
        return results[0]
    return _write_result(Path(out), combine_folds([result.diagnosis for result in results]))


def _common_n(config: RunConfig, out: str | Path) -> RunConfig:
    """Choose the N that every fold would: folds whose pools differ in size have a mean at these alone."""
    grids = [set(choose_n(None, stages.sizes()).tolist()) for stages in folds(config, out, lambda line: None)]
    common = tuple(sorted(set.intersection(*grids)))
    return config.model_copy(update={"diagnosis": config.diagnosis.model_copy(update={"n": common})})


def _diagnose(stages: Stages, predicted: dict[str, str]) -> Diagnosis:
    """Diagnose a fold whose rewards are predicted.

    Args:
        stages: of the fold.
        predicted: reward model -> hash of the table of its rewards.
    """
    config, data, folder, tables = stages.config, stages.data, stages.folder, stages.tables()
    rewards = {name: schema.read(folder / "rewards" / f"{name}.parquet", schema.REWARDS) for name in predicted}
    rows = build_rows(tables.queries, tables.candidates, tables.utilities, rewards)
    scales: dict[str, Scale] = {name: _scale(folder, name) for name in predicted}
    signature = {
        "version": __version__,
        "data": data.signature,
        "policy": "human" if config.door == "ratings" else config.policy.model_dump(),
        "metric": primary_metric(config, data),
        "reward": digest({name: predicted[name] for name in sorted(predicted)}),
        "rule": "argmax",
        "split": config.split.model_dump(),
        "seed": config.seed,
    }
    diagnosis = diagnose_arrays(
        rows.user,
        rows.query,
        rows.utility,
        {name: Reward(mean, scales[name], rows.stds.get(name)) for name, mean in rows.rewards.items()},
        Settings(
            n=config.diagnosis.n or None,
            averaging=config.diagnosis.averaging,
            level=config.diagnosis.level,
            rules=config.diagnosis.rules or (),
            signature=signature,
            name=config.name or data.name,
        ),
        text=rows.text if config.door == "ratings" else None,
        candidate=rows.candidate,
    )
    return diagnosis.with_notes({name: (*_notes(folder, name), *data.notes, *notes_of(folder)) for name in predicted})


def _scale(folder: Path, label: str) -> Scale:
    """Read what a model's rewards are measured in, as it was stored with them."""
    stored = schema.read_metadata(folder / "rewards" / f"{label}.parquet").get("scale")
    return "utility" if stored == "utility" else "arbitrary"


def _notes(folder: Path, label: str) -> tuple[str, ...]:
    stored = schema.read_metadata(folder / "rewards" / f"{label}.parquet").get("notes", "[]")
    return tuple(json.loads(stored))


def _write_result(folder: Path, diagnosis: Diagnosis) -> RunResult:
    write_json(folder / "diagnosis.json", diagnosis.to_dict(), sync=False)
    return RunResult(folder, diagnosis, write_report(folder))
