"""The histories door: candidates are sampled from a policy and measured against the users' own texts or true tastes."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from bestfor.data import schema
from bestfor.data.split import Dataset
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.errors import InputError, nearest
from bestfor.pipeline.asking import Prompting
from bestfor.pipeline.config import Policy as PolicyTable
from bestfor.pipeline.config import RunConfig, WorldData
from bestfor.pipeline.generate import Sampling, generate
from bestfor.pipeline.measure import measure_pool
from bestfor.pipeline.steps import Steps, digest
from bestfor.policies.base import Policy
from bestfor.pool import CandidatePool
from bestfor.utilities.base import Metric

TASTE = "taste"


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

        return ReplayPolicy(table.model)
    from bestfor.policies.transformers import TransformersPolicy

    return TransformersPolicy(
        table.model,
        temperature=table.temperature,
        top_p=table.top_p,
        max_new_tokens=table.max_new_tokens,
        chunk=table.chunk,
    )


def metrics_of(config: RunConfig, names: tuple[str, ...]) -> list[Metric]:
    """The metrics that a run asks for.

    Raises:
        InputError: an unknown metric, or the world's own metric on other data.
    """
    from bestfor.utilities.overlap import NAMES, Overlap

    metrics: list[Metric] = []
    for name in names:
        if name == TASTE and isinstance(config.data, WorldData):
            from bestfor.utilities.taste import Taste

            metrics.append(Taste(world_of(config.data)))
        elif name in NAMES:
            metrics.append(Overlap(name))
        else:
            known = [*NAMES, TASTE] if isinstance(config.data, WorldData) else list(NAMES)
            raise InputError("[utility] metrics", f"'{name}'", nearest(name, known))
    return metrics


def sample_and_measure(
    config: RunConfig, data: Dataset, steps: Steps, start: str, names: tuple[str, ...]
) -> tuple[pa.Table, str]:
    """Sample what is owed, then measure it.

    Sampling keeps its own books (parts of the pool), so that a run killed within it goes on where it was.

    Returns:
        All queries, fit and test, and the hash of candidates and utilities.
    """
    folder, table = steps.folder, config.policy
    metrics = metrics_of(config, names)
    policy = policy_of(table)
    instruction = INSTRUCTIONS[config.data.task] if isinstance(config.data, WorldData) else ""
    sampling = Sampling(
        n=table.n,
        fit_n=table.fit_n,
        fit_items=table.fit_items,
        prompting=Prompting(instruction, table.items, table.retriever),
        seed=config.seed,
    )
    pool = CandidatePool(folder / "pool")
    steps.tell(f"pool: sampling from '{policy.name}'")
    queries = generate(policy, data.histories, data.queries, pool, sampling)
    schema.write(queries, folder / "queries.parquet")
    signatures = [metric.signature for metric in metrics]
    outputs = [f"utilities/{name}.parquet" for name in names]
    inputs = {"data": start, "pool": pool.digest, "metrics": signatures}
    done = steps.run("measure", inputs, outputs, lambda: _measure(pool, queries, metrics, steps))
    return queries, done


def _measure(pool: CandidatePool, queries: pa.Table, metrics: list[Metric], steps: Steps) -> None:
    measure_pool(pool, queries, metrics, steps.folder / "utilities")
