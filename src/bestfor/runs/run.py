"""Do a whole run: data, pool, utilities, reward models, rewards, diagnosis, report; resumable at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bestfor.data.split import Ratings
from bestfor.diagnostics import Diagnosis, combine_folds
from bestfor.diagnostics.diagnose import choose_n
from bestfor.files import write_json
from bestfor.runs.config import RunConfig
from bestfor.runs.folder import Shown, suspects_of, write_report
from bestfor.runs.sources import load_dataset, read_ratings, with_split
from bestfor.runs.stages import folds, of_fold, pool_sizes

Tell = Callable[[str], None]
"""Called with one line of progress."""


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
    results, ratings, shown = [], None, Shown()
    if config.split.fold == "all" and not config.diagnosis.n and config.door == "ratings":
        ratings = read_ratings(config)
        config = _common_n(with_split(config, ratings), ratings)
    for stages in folds(config, out, tell, ratings):
        stages.check_ready()
        stages.sample()
        stages.measure()
        diagnosis = stages.diagnose()
        shown = shown.joined(stages.parts(), suspects_of(diagnosis))
        results.append(_write_result(stages.folder, diagnosis, shown))
        del stages
    if config.split.fold != "all":
        return results[0]
    return _write_result(Path(out), combine_folds([result.diagnosis for result in results]), shown)


def _common_n(config: RunConfig, ratings: Ratings) -> RunConfig:
    """Choose the N that every fold would: folds whose pools differ in size have a mean at these alone."""
    sizes = [pool_sizes(load_dataset(of_fold(config, fold), ratings)) for fold in (0, 1, 2)]
    common = tuple(sorted(set.intersection(*(set(choose_n(None, one).tolist()) for one in sizes))))
    return config.model_copy(update={"diagnosis": config.diagnosis.model_copy(update={"n": common})})


def _write_result(folder: Path, diagnosis: Diagnosis, shown: Shown) -> RunResult:
    written = diagnosis.to_dict()
    write_json(folder / "diagnosis.json", written, sync=False)
    return RunResult(folder, diagnosis, write_report(folder, written, shown))
