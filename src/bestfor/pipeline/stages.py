"""The stages of a run between its file and its diagnosis: data, candidates, utilities, reward models, rewards.

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

from bestfor import __version__
from bestfor.data import schema
from bestfor.data.candidates import Examples, History
from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.pipeline.doors import fill_pool, load_dataset, measure, primary_metric
from bestfor.pool import CandidatePool
from bestfor.rewards import KINDS, RewardModel
from bestfor.rewards import load as load_model
from bestfor.runs.config import Reward as RewardConfig
from bestfor.runs.config import RunConfig
from bestfor.runs.joins import build_examples, build_history, with_utilities
from bestfor.runs.steps import Steps, sweep, write_json, write_text
from bestfor.runs.usage import AsksServer, accounted
from bestfor.types import IntArray, RewardEstimate

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
                KINDS[spec.kind](cache=self._cache, **spec.options).ready()

    def fit(self, spec: RewardConfig) -> str:
        """Fit a reward model; the hash of its files.

        Raises:
            InputError: nobody has a labelled candidate.
        """

        def work() -> None:
            model = KINDS[spec.kind](cache=self._cache, **spec.options)
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
            model = load_model(self.folder / "models" / spec.label, cache=self._cache)
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
