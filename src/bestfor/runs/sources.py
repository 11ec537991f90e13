"""The histories door: candidates are sampled from a policy and measured against the users' own texts or true tastes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from bestfor.data import schema
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.split import Dataset
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.encoders.base import Encoder
from bestfor.errors import InputError, nearest
from bestfor.metrics.base import Metric
from bestfor.pipeline.qualify import qualified
from bestfor.policies.base import Policy
from bestfor.policies.prompts import instruction
from bestfor.pool import CandidatePool
from bestfor.runs.adapters import adapted
from bestfor.runs.config import Data, HistoriesData, LampData, LonglampData, RunConfig, WorldData
from bestfor.runs.config import Policy as PolicyTable
from bestfor.runs.measuring import measure_pool
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import Sampling, generate
from bestfor.runs.steps import Steps, digest
from bestfor.runs.usage import accounted, judge_of, openai_policy

TASTE = "taste"


def histories_dataset(config: RunConfig) -> Dataset:
    """The histories and test queries that a run asks for, of users with enough labelled candidates.

    Raises:
        InputError: bad data (file, row and field are named), or nobody qualifies.
    """
    return qualified(dataset_of(config.data), config.split, config.policy)


def dataset_of(data: Data) -> Dataset:
    """The histories and queries of a run's ``[data]``.

    Raises:
        InputError: bad data (file, row and field are named), or a source of ratings.
    """
    if isinstance(data, WorldData):
        return world_dataset(data)
    if isinstance(data, LampData):
        from bestfor.data.sources.lamp import LampFiles, load_lamp

        fit = LampFiles(Path(data.fit_questions), _path(data.fit_outputs)) if data.fit_questions else None
        return load_lamp(data.questions, _path(data.outputs), task=data.task or None, users=data.users, fit=fit)
    if isinstance(data, LonglampData):
        from bestfor.data.sources.longlamp import load_longlamp

        return load_longlamp(data.path, task=data.task or None, split=data.part, users=data.users)
    if isinstance(data, HistoriesData):
        from bestfor.data.sources.own import load_histories

        return load_histories(data.histories, data.queries, columns=data.columns, users=data.users)
    raise InputError("[data] source", f"'{data.source}'", "one that holds histories")


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def instruction_of(data: Dataset) -> str:
    """What a policy is told to do, in our own words, for the data's task."""
    return instruction(TASKS[data.task].kind if data.task else "generic")


def prompting_of(config: RunConfig, data: Dataset, folder: Path | None = None) -> Prompting:
    """What stands in the prompts of a run; embeddings that compare items are kept in ``folder``.

    Raises:
        InputError: the published prompt of data without one.
    """
    table = config.policy
    own = table.instruction
    if own is None:
        own = INSTRUCTIONS[config.data.task] if isinstance(config.data, WorldData) else instruction_of(data)
    if table.prompt == "published" and not data.task:
        raise InputError("[policy] prompt", "'published'", "'own': only tasks of a benchmark have a published prompt")
    return Prompting(
        own,
        table.items,
        table.retriever,
        data.task if table.prompt == "published" else "",
        table.prompt_tokens,
        _retrieving(table, folder),
    )


def _retrieving(table: PolicyTable, folder: Path | None) -> Encoder | None:
    if table.retriever != "dense":
        return None
    from bestfor.encoders import load_encoder

    return load_encoder(table.encoder, cache=None if folder is None else folder / "embeddings")


def world_of(data: WorldData) -> World:
    """The embedded world that a run asks for."""
    return World(seed=data.seed, users=data.users, noise=data.noise, task=data.task, queries=data.queries)


def world_dataset(data: WorldData) -> Dataset:
    """The embedded world's histories and test queries."""
    world = world_of(data)
    built = build(world)
    signature = digest({"world": asdict(world), "rows": built.sha256})
    name = f"world ({data.task}, {data.noise} noise)"
    return Dataset(name, signature, built.histories, built.queries)


def policy_of(table: PolicyTable) -> Policy:
    """The policy that a run asks for."""
    if table.kind == "replay":
        from bestfor.policies.replay import ReplayPolicy

        return ReplayPolicy(table.model, chunk=table.chunk)
    if table.kind == "openai":
        return openai_policy(table)
    from bestfor.policies.transformers import TransformersPolicy

    return TransformersPolicy(
        table.model,
        temperature=table.temperature,
        top_p=table.top_p,
        max_new_tokens=table.max_new_tokens,
        dtype=table.dtype,
        device=table.device,
        chunk=table.chunk,
        stop=table.stop,
    )


def metrics_of(config: RunConfig, names: tuple[str, ...], folder: Path | None = None) -> list[Metric]:
    """The metrics that a run asks for; a judge keeps its answers in ``folder``.

    Raises:
        InputError: an unknown metric, or the world's own metric on other data.
    """
    from bestfor.metrics import METRICS, make_metric

    embeddings = None if folder is None else folder / "embeddings"
    metrics: list[Metric] = []
    for name in names:
        if name == TASTE and isinstance(config.data, WorldData):
            from bestfor.metrics.taste import Taste

            metrics.append(Taste(world_of(config.data)))
        elif name == "embedding":
            metrics.append(make_metric(name, encoder=config.utility.encoder, cache=embeddings))
        elif name in METRICS:
            metrics.append(make_metric(name))
        elif name == "judge" and config.utility.judge is not None:
            metrics.append(judge_of(config.utility.judge, None if folder is None else folder / "judge.jsonl"))
        else:
            known = [*METRICS, TASTE] if isinstance(config.data, WorldData) else list(METRICS)
            raise InputError("[utility] metrics", f"'{name}'", nearest(name, known))
    return metrics


def sample(config: RunConfig, data: Dataset, steps: Steps) -> None:
    """Sample what is owed into the run folder's pool, and write the table of queries.

    Sampling keeps its own books (parts of the pool), so that a run killed within it goes on where it was.
    """
    folder, table = steps.folder, config.policy
    prompting = prompting_of(config, data, steps.folder)
    policy = adapted(policy_of(table), config, data, prompting, steps)
    sampling = Sampling(
        n=table.n,
        fit_n=table.fit_n,
        fit_items=table.fit_items,
        prompting=prompting,
        seed=config.seed,
        fit_share=table.fit_share,
    )
    pool = CandidatePool(folder / "pool")
    with accounted(folder, "policy", policy, steps.tell):
        queries = generate(policy, data.histories, data.queries, pool, sampling, tell=steps.tell)
    schema.write(queries, folder / "queries.parquet")
    dropped = pool.prompts.get("items_dropped", 0)
    if dropped:
        prompts = pool.prompts["prompts_with_dropped_items"]
        steps.tell(f"pool: {dropped} history items found no room in {prompts} of {pool.prompts['queries']} prompts")


def measure_sampled(config: RunConfig, steps: Steps, start: str, names: tuple[str, ...]) -> str:
    """Measure a sampled pool.

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
    outputs = [f"utilities/{name}.parquet" for name in names]
    workers = config.utility.workers
    return steps.run("measure", inputs, outputs, lambda: _measure(pool, queries, metrics, steps, workers))


def _measure(pool: CandidatePool, queries: pa.Table, metrics: list[Metric], steps: Steps, workers: int) -> None:
    with ExitStack() as stack:
        for metric in metrics:
            stack.enter_context(accounted(steps.folder, metric.name, metric, steps.tell))
        measure_pool(pool, queries, metrics, steps.folder / "utilities", workers=workers)
