"""Do a whole run: data, pool, utilities, reward models, rewards, diagnosis, report; resumable at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bestfor.data import schema
from bestfor.data.split import Ratings
from bestfor.diagnostics import Diagnosis, combine_folds
from bestfor.diagnostics.diagnose import choose_n
from bestfor.endpoint.local import keeping_servers
from bestfor.files import write_json
from bestfor.runs.answers import answers_of
from bestfor.runs.build import primary_metric
from bestfor.runs.config import RunConfig
from bestfor.runs.folder import Shown, suspects_of, write_report
from bestfor.runs.held_out import HeldOutFolds, check_shots
from bestfor.runs.picks import best_model, load_of_run, merged_picks, run_picks
from bestfor.runs.sources import load_dataset, read_ratings, with_split
from bestfor.runs.stages import folds, of_fold, pool_sizes
from bestfor.runs.steps import Steps
from bestfor.runs.turns import working
from bestfor.version import __version__

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


@dataclass(frozen=True)
class FoldResult:
    """Result of one fold.

    Attributes:
        folder: where it lies.
        diagnosis: of the fold.
        shown: texts of suspicious queries, of this fold and those before.
        measured: hash of its candidates and utilities.
        rewards: by model, the hash of its rewards.
        metric: whose utilities count.
    """

    folder: Path
    diagnosis: Diagnosis
    shown: Shown
    measured: str
    rewards: Mapping[str, str]
    metric: str


def run(config: RunConfig, out: str | Path, *, tell: Tell = lambda line: None) -> RunResult:
    """Do a run, or what is left of it.

    Args:
        config: the run.
        out: its folder; made where it is not there. What is there already and matches is kept.
        tell: called with one line a step.

    Raises:
        InputError: bad data, an option without sense here, or a folder that holds another run's pool.
    """
    with working(config, Path(out), tell), keeping_servers():
        return _run(config, out, tell)


def _run(config: RunConfig, out: str | Path, tell: Tell) -> RunResult:
    made: list[FoldResult] = []
    judged = HeldOutFolds()
    check_shots(config)
    ratings, shown, page = None, Shown(), Path()
    if config.split.fold == "all" and not config.diagnosis.n and config.door == "ratings":
        ratings = read_ratings(config)
        config = _common_n(with_split(config, ratings), ratings)
    for stages in folds(config, out, tell, ratings):
        stages.check_ready()
        stages.sample()
        stages.measure()
        diagnosis = stages.diagnose()
        shown = shown.joined(stages.parts(), suspects_of(diagnosis))
        write_json(stages.folder / "diagnosis.json", diagnosis.to_dict(), sync=False)
        rewards = {table.label: stages.predict(table) for table in stages.config.reward}
        metric = primary_metric(stages.config, stages.data)
        judged.add(stages)
        made.append(FoldResult(stages.folder, diagnosis, shown, stages.measure(), rewards, metric))
        del stages
    folder, diagnosis = made[0].folder, made[0].diagnosis
    if config.split.fold == "all":
        folder, diagnosis = Path(out), combine_folds([one.diagnosis for one in made])
        write_json(folder / "diagnosis.json", diagnosis.to_dict(), sync=False)
    judged.write(folder, config.diagnosis.level)
    _answer(config, folder, best_model(diagnosis.to_dict()), made, tell)
    for one in made:
        page = write_report(one.folder, one.diagnosis, one.shown)
    if config.split.fold == "all":
        page = write_report(folder, diagnosis, shown)
    return RunResult(folder, diagnosis, page)


def _answer(config: RunConfig, out: Path, label: str, made: Sequence[FoldResult], tell: Tell) -> None:
    """Write what a model answers: ``picks.parquet`` of each fold and of all together, and each fold's ``answers.json``.

    Args:
        config: the run.
        out: its folder.
        label: the best model of the whole run.
        made: its folds.
        tell: called with one line a step.
    """
    left: dict[str, str] = {}
    for one in made:

        def pick(folder: Path = one.folder) -> None:
            schema.write(run_picks(folder, label), folder / "picks.parquet")

        def answer(folder: Path = one.folder, metric: str = one.metric) -> None:
            model = load_of_run(config, folder, label, out)
            write_json(folder / "answers.json", answers_of(folder, model, label, metric), sync=False)

        steps = Steps(one.folder, tell)
        inputs = {"model": label, "rewards": one.rewards[label], "measured": one.measured, "rule": "best"}
        left[one.folder.name] = steps.run("pick", inputs, ["picks.parquet"], pick)
        steps.run("answers", {**inputs, "version": __version__}, ["answers.json"], answer)
    if len(made) > 1:

        def merge() -> None:
            schema.write(merged_picks([one.folder for one in made]), out / "picks.parquet")

        Steps(out, tell).run("pick", left, ["picks.parquet"], merge)


def _common_n(config: RunConfig, ratings: Ratings) -> RunConfig:
    """Choose the N that every fold would: folds whose pools differ in size have a mean at these alone."""
    sizes = [pool_sizes(load_dataset(of_fold(config, fold), ratings)) for fold in (0, 1, 2)]
    common = tuple(sorted(set.intersection(*(set(choose_n(None, one).tolist()) for one in sizes))))
    return config.model_copy(update={"diagnosis": config.diagnosis.model_copy(update={"n": common})})
