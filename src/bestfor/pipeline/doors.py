"""The two doors into a run: ratings, which bring their candidates, and histories, whose candidates are sampled."""

from __future__ import annotations

from bestfor.data import schema
from bestfor.data.read.tables import load_ratings
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.sources.polis import load_polis
from bestfor.data.split import Dataset, SplitConfig, split_ratings
from bestfor.errors import InputError
from bestfor.metrics import METRICS
from bestfor.pool import CandidatePool
from bestfor.runs.config import PolisData, RunConfig, TableData
from bestfor.runs.steps import Steps

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
