"""The histories door: candidates are sampled from a policy and measured against the users' own texts or true tastes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data import schema
from bestfor.data.benchmarks import TASKS
from bestfor.data.split import Dataset
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.errors import InputError, nearest
from bestfor.pipeline.asking import Prompting, users_of
from bestfor.pipeline.config import LampData, RunConfig, WorldData
from bestfor.pipeline.config import Policy as PolicyTable
from bestfor.pipeline.generate import Sampling, generate
from bestfor.pipeline.measure import measure_pool
from bestfor.pipeline.steps import Steps, digest
from bestfor.policies.base import Policy
from bestfor.policies.prompts import instruction
from bestfor.pool import CandidatePool
from bestfor.utilities.base import Metric

TASTE = "taste"


def histories_dataset(config: RunConfig) -> Dataset:
    """The histories and test queries that a run asks for, of users with enough labelled candidates.

    Raises:
        InputError: bad data (file, row and field are named), or nobody qualifies.
    """
    return qualified(_source(config), config)


def _source(config: RunConfig) -> Dataset:
    data = config.data
    if isinstance(data, WorldData):
        return world_dataset(data)
    if isinstance(data, LampData):
        from bestfor.data.lamp import load_lamp

        return load_lamp(data.questions, data.outputs or None, task=data.task or None, users=data.users)
    raise InputError("[data] source", f"'{data.source}'", "one that holds histories")


def qualified(data: Dataset, config: RunConfig) -> Dataset:
    """The data without test queries of users who have too few labelled candidates.

    Raises:
        InputError: no user has enough, or the run samples too few for anybody.
    """
    split, policy = config.split, config.policy
    if policy.n < split.min_test:
        found = f"{policy.n} candidates of a test query"
        raise InputError("[policy] n", found, f"at least {split.min_test} ([split] min_test)")
    needed = -(-split.min_fit // policy.fit_n)
    if needed > policy.fit_items:
        most = policy.fit_items * policy.fit_n
        raise InputError("[split] min_fit", str(split.min_fit), f"at most {most}, which is [policy] fit_items x fit_n")
    if needed == 0:
        return data
    tested = set(data.queries["user_id"].to_pylist())
    enough = _users_with(data, needed) & tested
    if not enough:
        expected = f"at least one with {needed} history items that can be asked (lower [split] min_fit)"
        raise InputError(data.name, "no user with enough history", expected)
    if enough == tested:
        return data
    kept = pc.is_in(data.queries["user_id"], value_set=pa.array(sorted(enough)))  # pyright: ignore[reportAttributeAccessIssue]
    note = f"{len(enough)} of {len(tested)} users are tested: they have at least {split.min_fit} labelled candidates"
    signature = digest({"data": data.signature, "least": needed})
    return replace(data, queries=data.queries.filter(kept), signature=signature, notes=(*data.notes, note))


def _users_with(data: Dataset, needed: int) -> set[str]:
    """Users with so many items that can be asked; only close cases are looked at item by item."""
    users = data.histories["user_id"]
    asked = pc.greater(pc.utf8_length(data.histories["input"]), 0)  # pyright: ignore[reportAttributeAccessIssue]
    count = Counter({row["values"]: row["counts"] for row in users.filter(asked).value_counts().to_pylist()})
    given = Counter(data.queries["user_id"].to_pylist())
    sure = {user for user in count if count[user] - given[user] >= needed}
    close = [user for user in count if count[user] >= needed and user not in sure]
    if close:
        within = data.histories.filter(pc.is_in(users, value_set=pa.array(close)))  # pyright: ignore[reportAttributeAccessIssue]
        found = users_of(within, data.queries)
        sure |= {user for user, items in found if sum(bool(item.input.strip()) for item in items) >= needed}
    return sure


def prompting_of(config: RunConfig, data: Dataset) -> Prompting:
    """What stands in the prompts of a run.

    Raises:
        InputError: the published prompt of data without one.
    """
    table = config.policy
    own = table.instruction
    if own is None:
        kind = TASKS[data.task].kind if data.task else "generic"
        own = INSTRUCTIONS[config.data.task] if isinstance(config.data, WorldData) else instruction(kind)
    if table.prompt == "published" and not data.task:
        raise InputError("[policy] prompt", "'published'", "'own': only tasks of a benchmark have a published prompt")
    return Prompting(
        own, table.items, table.retriever, data.task if table.prompt == "published" else "", table.prompt_tokens
    )


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
    sampling = Sampling(
        n=table.n,
        fit_n=table.fit_n,
        fit_items=table.fit_items,
        prompting=prompting_of(config, data),
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
