"""Do the stages of a run one by one: data, candidates, utilities, reward models, rewards.

Each is a method that skips what is there and matches, and returns the hash of what it leaves. ``bestfor run`` does them
all; the verbs ``generate``, ``measure``, ``fit`` and ``predict`` do them one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data import schema
from bestfor.data.candidates import Candidates, History
from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.files import sweep, write_json
from bestfor.metrics import Metric, metric_class
from bestfor.policies import make_policy
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel, kind_class
from bestfor.rewards import load as load_model
from bestfor.runs.adapters import attach_adapters
from bestfor.runs.build import RATING, metric_names, metrics_of, primary_metric, prompting_of, sampling_of
from bestfor.runs.config import RewardTable, RunConfig
from bestfor.runs.feedback import sample_with_feedback
from bestfor.runs.folder import check_same_data, write_run
from bestfor.runs.joins import build_examples, build_history, rewards_table, with_utilities
from bestfor.runs.measuring import measure_pool
from bestfor.runs.sampling import generate
from bestfor.runs.sources import load_dataset
from bestfor.runs.steps import Steps
from bestfor.runs.usage import MeteredModel, record_usage
from bestfor.types import IntArray
from bestfor.version import __version__

Tell = Callable[[str], None]
"""Called with one line of progress."""


@dataclass(frozen=True)
class Tables:
    """Tables that reward models are fitted on and tested with.

    Attributes:
        queries: table of schema ``QUERIES``.
        candidates: table of schema ``CANDIDATES``.
        utilities: table of schema ``UTILITIES``, of the primary metric.
    """

    queries: pa.Table
    candidates: pa.Table
    utilities: pa.Table


def folds(config: RunConfig, out: str | Path, tell: Tell) -> Iterator[Stages]:
    """Open the stages of each fold of a run; one where there is one fold.

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


class Stages:
    """A run folder of one fold and what is done in it.

    A stage does what has to be done before it, each at most once for an object, however many stages need it; sampling
    alone is never done by another stage, so that what is costly is asked for by name.

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
        self._shared, self._cache = shared, shared / "embeddings"
        self._hashes: dict[str, str] = {}
        self._tables: Tables | None = None
        self._history: History | None = None
        self._history_is_built = False
        self._labelled: Candidates | None = None
        _check_n(config, self.data)
        check_same_data(folder, self.data)
        sweep(folder)
        write_run(config, folder)
        tell(f"data: {self.data.name}, {len(self.data.queries)} queries")

    def sizes(self) -> IntArray:
        """Count the candidates of each test pool; shape (test queries,).

        Raises:
            InputError: candidates are not in the data, they have to be sampled.
        """
        if self.data.candidates is None:
            raise InputError(self.data.name, "no candidates in the data", "ratings, which bring their candidates")
        return _test_sizes(self.data.queries, self.data.candidates)

    def check_ready(self) -> None:
        """Look for what reward models that are not fitted yet will need, before anything is sampled or fitted.

        Raises:
            InputError: a checkpoint, a device or a key that is not here.
        """
        for table in self.config.reward:
            if not (self.folder / "models" / table.label).is_dir():
                self._new_model(table).ready()

    def write_data(self) -> str:
        """Write the data's own tables; returns their hash."""

        def work() -> None:
            schema.write(self.data.histories, self.folder / "histories.parquet")
            write_json(
                self.folder / "signature.json", {"data": self.data.signature, "version": __version__}, sync=False
            )

        outputs = ["histories.parquet", "signature.json"]
        return self._once("data", lambda: self._steps.run("data", {"data": self.data.signature}, outputs, work))

    def sample(self) -> None:
        """Sample the candidates that are owed; where they are in the data there is nothing to sample.

        Raises:
            InputError: a query without the reference that a metric of the run needs: known before anything is sampled.
        """
        self.write_data()
        if self.data.candidates is None:
            _check_references(self.data, metric_names(self.config, self.data))
            sample_pool(self.config, self.data, self._steps)

    def measure(self) -> str:
        """Measure what is not measured yet, or write the data's ratings; returns the hash of candidates and utilities.

        Raises:
            InputError: candidates that have to be sampled are not all there.
        """
        start = self.write_data()
        candidates, utilities = self.data.candidates, self.data.utilities
        if candidates is None or utilities is None:
            names = metric_names(self.config, self.data)
            return self._once("measured", lambda: measure_sampled(self.config, self._steps, start, names))

        def work() -> None:
            pool = CandidatePool(self.folder / "pool")
            pool.plan([pool.append(candidates)])
            schema.write(self.data.queries, self.folder / "queries.parquet")
            schema.write(utilities, self.folder / "utilities" / f"{RATING}.parquet")

        outputs = ["pool", "queries.parquet", f"utilities/{RATING}.parquet"]
        return self._once("measured", lambda: self._steps.run("pool", {"data": start}, outputs, work))

    def tables(self) -> Tables:
        """Read the run's tables, measured."""
        self.measure()
        if self._tables is None:
            metric = primary_metric(self.config, self.data)
            self._tables = Tables(
                schema.read(self.folder / "queries.parquet", schema.QUERIES),
                CandidatePool(self.folder / "pool").scan(),
                schema.read(self.folder / "utilities" / f"{metric}.parquet", schema.UTILITIES),
            )
        return self._tables

    def fit(self, table: RewardTable) -> str:
        """Fit a reward model; returns the hash of its files.

        Raises:
            InputError: nobody has a labelled candidate.
        """

        def work() -> None:
            model = self._new_model(table)
            with self._record_usage(table, model):
                model.fit(self._fit_part(), rng=self.config.seed).save(self.folder / "models" / table.label)

        inputs = {"measured": self.measure(), "kind": table.kind, "options": table.options, "seed": self.config.seed}
        inputs["version"] = __version__
        name = f"fit {table.label}"
        return self._once(name, lambda: self._steps.run(name, inputs, [f"models/{table.label}"], work))

    def predict(self, table: RewardTable) -> str:
        """Predict the rewards of the test candidates without their utilities; returns the hash of their table."""

        def work() -> None:
            test = self._test_part()
            folder, kinds = self.folder / "models" / table.label, [kind_class(table.kind)]
            model = load_model(folder, cache=self._cache, kinds=kinds)
            if isinstance(model, MeteredModel):
                # A model on disk does not hold the credentials of its server's address.
                model.reach(table.options.get("endpoint", {}))
            with self._record_usage(table, model):
                estimate = model.predict(test)
            rewards = rewards_table(test, table.label, estimate)
            metadata = {"scale": model.scale, "notes": json.dumps(model.notes, ensure_ascii=False)}
            schema.write(rewards, self.folder / "rewards" / f"{table.label}.parquet", metadata)

        inputs = {"model": self.fit(table), "measured": self.measure()}
        name = f"predict {table.label}"
        return self._once(name, lambda: self._steps.run(name, inputs, [f"rewards/{table.label}.parquet"], work))

    def _once(self, stage: str, run: Callable[[], str]) -> str:
        """Run a stage, or return the hash that it left when this object ran it."""
        if stage not in self._hashes:
            self._hashes[stage] = run()
        return self._hashes[stage]

    def _new_model(self, table: RewardTable) -> RewardModel:
        return kind_class(table.kind)(cache=self._cache, **table.options)

    def _record_usage(self, table: RewardTable, model: RewardModel) -> AbstractContextManager[None]:
        """Keep what a model that asks a server spends with the run, over all its folds."""
        return record_usage(self._shared, f"reward {table.label}", model, self._steps.tell, remember=False)

    def _fit_part(self) -> Candidates:
        """Join the fit part, without candidates of which no metric could say anything."""
        if self._labelled is None:
            sampled = self._join("fit")
            examples = with_utilities(sampled)
            if len(examples) == 0:
                raise InputError(str(self.folder), "no labelled candidates to fit on", "at least one")
            if len(examples) < len(sampled):
                without = len(sampled) - len(examples)
                self._steps.tell(f"fit: {without} of {len(sampled)} candidates have no utility: none is learned from")
            self._labelled = examples
        return self._labelled

    def _test_part(self) -> Candidates:
        """Join the test part; its utilities are NaN."""
        examples = self._join("test")
        blind = examples.take(np.arange(len(examples)))
        blind.utility[:] = np.nan
        return blind

    def _join(self, split: str) -> Candidates:
        tables = self.tables()
        if not self._history_is_built:
            self._history = build_history(self.data.histories, tables.queries)
            self._history_is_built = True
        return build_examples(tables.queries, tables.candidates, tables.utilities, split, self._history)


def sample_pool(config: RunConfig, data: Dataset, steps: Steps) -> None:
    """Sample what is owed into the run folder's pool, and write the table of queries.

    Sampling keeps its own record (parts of the pool), so that a run killed within it goes on where it was.
    """
    if config.policy.feedback is not None:
        sample_with_feedback(config, data, steps)
        return
    folder, prompting = steps.folder, prompting_of(config, data, steps.folder)
    policy = attach_adapters(make_policy(config.policy), config, data, prompting, steps)
    pool = CandidatePool(folder / "pool")
    with record_usage(folder, "policy", policy, steps.tell):
        queries = generate(policy, data.histories, data.queries, pool, sampling_of(config, prompting), tell=steps.tell)
    schema.write(queries, folder / "queries.parquet")
    dropped = pool.prompts.get("items_dropped", 0)
    if dropped:
        prompts = pool.prompts["prompts_with_dropped_items"]
        steps.tell(f"pool: {dropped} history items found no room in {prompts} of {pool.prompts['queries']} prompts")


def measure_sampled(config: RunConfig, steps: Steps, start: str, names: tuple[str, ...]) -> str:
    """Measure a sampled pool.

    Args:
        config: the run.
        steps: does what is not done yet.
        start: hash of the tables that the candidates depend on.
        names: the metrics.

    Returns:
        The hash of candidates and utilities.

    Raises:
        InputError: the pool is not there, or not finished.
    """
    folder = steps.folder
    pool = CandidatePool(folder / "pool")
    if not (folder / "queries.parquet").is_file():
        raise InputError(str(folder), "no candidates", "those that bestfor generate leaves there")
    metrics = metrics_of(config, names, folder)
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    inputs = {"data": start, "pool": pool.digest, "metrics": [metric.signature for metric in metrics]}
    outputs = [f"utilities/{metric.name}.parquet" for metric in metrics]
    workers = config.utility.workers
    return steps.run("measure", inputs, outputs, lambda: _measure(pool, queries, metrics, steps, workers))


def _measure(pool: CandidatePool, queries: pa.Table, metrics: list[Metric], steps: Steps, workers: int) -> None:
    with ExitStack() as stack:
        for metric in metrics:
            stack.enter_context(record_usage(steps.folder, metric.name, metric, steps.tell))
        measure_pool(pool, queries, metrics, steps.folder / "utilities", workers=workers)


def _check_references(data: Dataset, names: tuple[str, ...]) -> None:
    classes = [(name, metric_class(name, "[utility] metrics")) for name in names]
    needy = [name for name, metric in classes if getattr(metric, "needs_reference", False)]
    without = data.queries.filter(data.queries["reference"].is_null())["query_id"]
    if needy and len(without):
        expected = f"the user's own text, which {needy[0]} needs ([utility] metrics: a judge needs none)"
        raise InputError(f"query '{without[0].as_py()}'", "no reference", expected)


def _check_n(config: RunConfig, data: Dataset) -> None:
    """Refuse an N that no pool can answer before anything is fitted, where candidates are in the data."""
    if data.candidates is None:
        return
    most = int(_test_sizes(data.queries, data.candidates).max(initial=0))
    largest = max(config.diagnosis.n, default=1)
    if largest > most:
        raise InputError("[diagnosis] n", f"N = {largest}", f"at most {most}, the candidates of the largest test pool")


def _test_sizes(queries: pa.Table, candidates: pa.Table) -> IntArray:
    split = dict(zip(queries["query_id"].to_pylist(), queries["split"].to_pylist(), strict=True))
    counts = candidates["query_id"].value_counts().to_pylist()
    return np.array([row["counts"] for row in counts if split[row["values"]] == "test"], dtype=np.int64)
