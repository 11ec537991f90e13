"""A whole run: data, pool, utilities, reward models, rewards, diagnosis, report; resumable at every step.

The two doors into a run: ratings, which bring their candidates, and histories, whose candidates are sampled.

The stages of a run between its file and its diagnosis: data, candidates, utilities, reward models, rewards.

Each skips what is there and matches. ``bestfor run`` does them all; the verbs do them one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import tomli_w

from bestfor.data import schema
from bestfor.data.candidates import Examples, History
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.sources.own import load_ratings
from bestfor.data.sources.polis import load_polis
from bestfor.data.split import Dataset, SplitConfig, split_ratings
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.diagnostics.diagnose import choose_n
from bestfor.errors import InputError
from bestfor.metrics import METRICS
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel, kind_class
from bestfor.rewards import load as load_model
from bestfor.runs.config import PolisData, RunConfig, TableData
from bestfor.runs.config import Reward as RewardConfig
from bestfor.runs.folder import write_report
from bestfor.runs.joins import build_examples, build_history, build_rows, with_utilities
from bestfor.runs.steps import Steps, digest, sweep, write_json, write_text
from bestfor.runs.usage import AsksServer, accounted, notes_of
from bestfor.types import IntArray, RewardEstimate, Scale
from bestfor.version import __version__

RATING = "rating"
"""The metric of the ratings door: what people said."""


def load_dataset(config: RunConfig) -> Dataset:
    """Read the run's data and, for ratings, split them.

    Raises:
        InputError: bad data (file, row and column are named), or nobody qualifies.
    """
    data = config.data
    if not isinstance(data, PolisData | TableData):
        from bestfor.runs.sources import histories_dataset

        return histories_dataset(config)
    ratings = load_polis(data.path) if isinstance(data, PolisData) else load_ratings(data.path, _columns(data))
    split = config.split
    if split.fold == "all":
        raise InputError("[split] fold", "'all'", "one fold at this point")
    return split_ratings(ratings, SplitConfig(split.by, split.fold, split.min_fit, split.min_test))


def metrics(config: RunConfig, data: Dataset) -> tuple[str, ...]:
    """What is measured: people's ratings, the metrics that the run names, or the usual one of the data's task."""
    if config.door == "ratings":
        return (RATING,)
    usual = TASKS[data.task].metric if data.task else "rougeL"
    return config.utility.metrics or (usual,)


def primary_metric(config: RunConfig, data: Dataset) -> str:
    """The metric that models learn and curves show."""
    return config.utility.primary or metrics(config, data)[0]


def fill_pool(config: RunConfig, data: Dataset, steps: Steps) -> None:
    """Sample the candidates that are owed; where they are in the data there is nothing to sample.

    Raises:
        InputError: a query without the reference that a metric of the run needs: known before anything is sampled.
    """
    if data.candidates is None:
        from bestfor.runs.sources import sample

        _check_references(data, metrics(config, data))
        sample(config, data, steps)


def _check_references(data: Dataset, names: tuple[str, ...]) -> None:
    needy = [name for name in names if name in METRICS]
    without = data.queries.filter(data.queries["reference"].is_null())["query_id"]
    if needy and len(without):
        expected = f"the user's own text, which {needy[0]} needs ([utility] metrics: a judge needs none)"
        raise InputError(f"query '{without[0].as_py()}'", "no reference", expected)


def measure(config: RunConfig, data: Dataset, steps: Steps, start: str) -> str:
    """Make sure that utilities lie in the run folder; what is in the data is written there.

    Args:
        config: the run.
        data: its data set.
        steps: does what is not done yet.
        start: hash of the tables that the candidates depend on.

    Returns:
        The hash of candidates and utilities.

    Raises:
        InputError: candidates that have to be sampled are not all there.
    """
    if data.candidates is None or data.utilities is None:
        from bestfor.runs.sources import measure_sampled

        return measure_sampled(config, steps, start, metrics(config, data))
    candidates, utilities, folder = data.candidates, data.utilities, steps.folder

    def work() -> None:
        pool = CandidatePool(folder / "pool")
        pool.plan([pool.append(candidates)])
        schema.write(data.queries, folder / "queries.parquet")
        schema.write(utilities, folder / "utilities" / f"{RATING}.parquet")

    outputs = ["pool", "queries.parquet", f"utilities/{RATING}.parquet"]
    return steps.run("pool", {"data": start}, outputs, work)


def _columns(data: TableData) -> dict[str, str]:
    return dict(data.columns)


Tell = Callable[[str], None]


def folds(config: RunConfig, out: str | Path, tell: Tell) -> Iterator[Stages]:
    """The stages of each fold of a run; one where there is one fold.

    Args:
        config: the run.
        out: its folder.
        tell: called with one line a step.

    Raises:
        InputError: bad data, an option without sense here, or a folder that holds another run's pool.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "a file", "a folder for the run")
    if config.split.fold != "all":
        yield Stages(config, folder, folder, tell)
        return
    if config.door == "histories":
        raise InputError("[split] fold", "'all'", "0 for histories: their test queries are given, not split")
    for fold in (0, 1, 2):
        one = config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})})
        tell(f"fold {fold}")
        stages = Stages(one, folder / f"fold-{fold}", folder, tell)
        write_run(config, folder)
        yield stages


@dataclass(frozen=True)
class Tables:
    """What reward models are fitted on and tested with.

    Attributes:
        queries: table of schema ``QUERIES``.
        candidates: table of schema ``CANDIDATES``.
        utilities: table of schema ``UTILITIES``, of the primary metric.
    """

    queries: pa.Table
    candidates: pa.Table
    utilities: pa.Table


class Stages:
    """A run folder and what is done in it.

    Args:
        config: the run, of one fold.
        folder: where its files lie.
        shared: where the folds of a run keep what they share.
        tell: called with one line a step.

    Raises:
        InputError: bad data, an N that no pool can answer, or a folder that holds the results of other data.
    """

    def __init__(self, config: RunConfig, folder: Path, shared: Path, tell: Tell) -> None:
        self.config, self.folder = config, folder
        self.data = load_dataset(config)
        self._steps = Steps(folder, tell)
        self._cache = shared / "embeddings"
        _check_n(config, self.data)
        check_same_data(folder, self.data)
        sweep(folder)
        write_run(config, folder)
        tell(f"data: {self.data.name}, {len(self.data.queries)} queries")

    @cached_property
    def _start(self) -> str:
        def save_tables() -> None:
            schema.write(self.data.histories, self.folder / "histories.parquet")
            write_json(self.folder / "signature.json", {"data": self.data.signature, "version": __version__})

        outputs = ["histories.parquet", "signature.json"]
        return self._steps.run("data", {"data": self.data.signature}, outputs, save_tables)

    def sizes(self) -> IntArray:
        """Candidates of each test pool, where they are in the data; shape (test queries,)."""
        assert self.data.candidates is not None
        return _test_sizes(self.data.queries, self.data.candidates)

    def sample(self) -> None:
        """Sample the candidates that are owed."""
        assert self._start
        fill_pool(self.config, self.data, self._steps)

    @cached_property
    def measured(self) -> str:
        """Measure what is not measured yet; the hash of candidates and utilities.

        Raises:
            InputError: candidates that have to be sampled are not all there.
        """
        return measure(self.config, self.data, self._steps, self._start)

    @cached_property
    def tables(self) -> Tables:
        """The run's tables, measured."""
        assert self.measured
        metric = primary_metric(self.config, self.data)
        return Tables(
            schema.read(self.folder / "queries.parquet", schema.QUERIES),
            CandidatePool(self.folder / "pool").scan(),
            schema.read(self.folder / "utilities" / f"{metric}.parquet", schema.UTILITIES),
        )

    @cached_property
    def _history(self) -> History | None:
        return build_history(self.data.histories, self.tables.queries)

    @cached_property
    def _labelled(self) -> Examples:
        """The fit part, without candidates of which no metric could say anything."""
        tables = self.tables
        sampled = build_examples(tables.queries, tables.candidates, tables.utilities, "fit", self._history)
        examples = with_utilities(sampled)
        if len(examples) == 0:
            raise InputError(str(self.folder), "no labelled candidates to fit on", "at least one")
        if len(examples) < len(sampled):
            without = len(sampled) - len(examples)
            self._steps.tell(f"fit: {without} of {len(sampled)} candidates have no utility: none is learned from")
        return examples

    def ready(self) -> None:
        """Look for what reward models that are not fitted yet will need, before anything is sampled or fitted.

        Raises:
            InputError: a checkpoint, a device or a key that is not here.
        """
        for spec in self.config.reward:
            if not (self.folder / "models" / spec.label).is_dir():
                kind_class(spec.kind)(cache=self._cache, **spec.options).ready()

    def fit(self, spec: RewardConfig) -> str:
        """Fit a reward model; the hash of its files.

        Raises:
            InputError: nobody has a labelled candidate.
        """

        def work() -> None:
            model = kind_class(spec.kind)(cache=self._cache, **spec.options)
            with self._accounted(spec, model):
                model.fit(self._labelled, rng=self.config.seed).save(self.folder / "models" / spec.label)

        inputs = {"measured": self.measured, "kind": spec.kind, "options": spec.options, "seed": self.config.seed}
        inputs["version"] = __version__
        return self._steps.run(f"fit {spec.label}", inputs, [f"models/{spec.label}"], work)

    def _accounted(self, spec: RewardConfig, model: RewardModel) -> AbstractContextManager[None]:
        """What a model that asks a server spends is kept with the run, over all its folds."""
        return accounted(self._cache.parent, f"reward {spec.label}", model, self._steps.tell, remember=False)

    def predict(self, spec: RewardConfig) -> str:
        """Predict the rewards of the test candidates, blind; the hash of their table."""
        fitted = self.fit(spec)

        def work() -> None:
            tables = self.tables
            examples = build_examples(tables.queries, tables.candidates, tables.utilities, "test", self._history)
            blind = examples.take(np.arange(len(examples)))
            blind.utility[:] = np.nan
            kinds = [kind_class(spec.kind)]
            model = load_model(self.folder / "models" / spec.label, cache=self._cache, kinds=kinds)
            if isinstance(model, AsksServer):
                # A model on disk does not hold the credentials of its server's address.
                model.reach(spec.options.get("endpoint", {}))
            with self._accounted(spec, model):
                estimate = model.predict(blind)
            table = rewards_table(blind.query, blind.candidate, blind.queries, spec.label, estimate)
            metadata = {"scale": model.scale, "notes": json.dumps(model.notes, ensure_ascii=False)}
            schema.write(table, self.folder / "rewards" / f"{spec.label}.parquet", metadata)

        inputs = {"model": fitted, "measured": self.measured}
        return self._steps.run(f"predict {spec.label}", inputs, [f"rewards/{spec.label}.parquet"], work)


def write_run(config: RunConfig, folder: Path) -> None:
    """Write the run as resolved, in a form that can be read again."""
    unused = {"policy", "utility"} if config.door == "ratings" else None
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True, exclude=unused))
    write_text(folder / "run.toml", text)


def rewards_table(
    query: np.ndarray, candidate: np.ndarray, names: tuple[str, ...], label: str, estimate: RewardEstimate
) -> pa.Table:
    """Table of schema ``REWARDS``.

    Args:
        query: shape (rows,), codes into ``names``.
        candidate: shape (rows,).
        names: the queries' ids.
        label: the model's name.
        estimate: what it predicts for the rows; where the mean is NaN the row's is null: there is no reward.
    """
    count = len(query)
    std = pa.nulls(count, pa.float64()) if estimate.std is None else pa.array(estimate.std)
    return pa.table(
        [
            pa.array(names).take(pa.array(query)),
            pa.array(candidate, pa.int32()),
            pa.array([label]).take(pa.array(np.zeros(count, dtype=np.int64))),
            pa.array(estimate.mean, from_pandas=True),
            std,
        ],
        schema=schema.REWARDS,
    )


def _test_sizes(queries: pa.Table, candidates: pa.Table) -> IntArray:
    split = dict(zip(queries["query_id"].to_pylist(), queries["split"].to_pylist(), strict=True))
    counts = candidates["query_id"].value_counts().to_pylist()
    return np.array([row["counts"] for row in counts if split[row["values"]] == "test"], dtype=np.int64)


def _check_n(config: RunConfig, data: Dataset) -> None:
    """An N that no pool can answer is known before anything is fitted, where candidates are in the data."""
    if data.candidates is None:
        return
    most = int(_test_sizes(data.queries, data.candidates).max(initial=0))
    largest = max(config.diagnosis.n, default=1)
    if largest > most:
        raise InputError("[diagnosis] n", f"N = {largest}", f"at most {most}, the candidates of the largest test pool")


def check_same_data(folder: Path, data: Dataset) -> None:
    """A folder keeps the results of one data set: another one's would silently replace them.

    Raises:
        InputError: it holds another one's.
    """
    path = folder / "signature.json"
    if not path.is_file():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8")).get("data")
    except (ValueError, AttributeError):
        return  # a torn signature: the steps' own hashes decide
    if known != data.signature:
        raise InputError(str(folder), "the results of other data or another split", "a new folder (--out)")


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

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
        stages.ready()
        stages.sample()
        predicted = {spec.label: stages.predict(spec) for spec in stages.config.reward}
        diagnosis = _diagnose(stages.config, stages.data, stages.tables, stages.folder, predicted)
        results.append(_leave(stages.folder, diagnosis))
    if config.split.fold != "all":
        return results[0]
    return _leave(Path(out), combine_folds([result.diagnosis for result in results]))


def _common_n(config: RunConfig, out: str | Path) -> RunConfig:
    """The N that every fold would choose: folds whose pools differ in size have a mean at these alone."""
    grids = [set(choose_n(None, stages.sizes()).tolist()) for stages in folds(config, out, lambda line: None)]
    common = tuple(sorted(set.intersection(*grids)))
    return config.model_copy(update={"diagnosis": config.diagnosis.model_copy(update={"n": common})})


def _diagnose(
    config: RunConfig,
    data: Dataset,
    tables: Tables,
    folder: Path,
    predicted: dict[str, str],
) -> Diagnosis:
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
            signature=signature,
            name=config.name or data.name,
        ),
        text=rows.text if config.door == "ratings" else None,
        candidate=rows.candidate,
    )
    return diagnosis.with_notes({name: (*_notes(folder, name), *data.notes, *notes_of(folder)) for name in predicted})


def _scale(folder: Path, label: str) -> Scale:
    """What a model's rewards are measured in, as it was stored with them."""
    stored = schema.read_metadata(folder / "rewards" / f"{label}.parquet").get("scale")
    return "utility" if stored == "utility" else "arbitrary"


def _notes(folder: Path, label: str) -> tuple[str, ...]:
    stored = schema.read_metadata(folder / "rewards" / f"{label}.parquet").get("notes", "[]")
    return tuple(json.loads(stored))


def _leave(folder: Path, diagnosis: Diagnosis) -> RunResult:
    write_json(folder / "diagnosis.json", diagnosis.to_dict())
    return RunResult(folder, diagnosis, write_report(folder))
