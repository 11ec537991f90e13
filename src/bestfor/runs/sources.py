"""The histories door: candidates are sampled from a policy and measured against the users' own texts or true tastes.

Who is tested: users with enough labelled candidates to fit on, and test pools that are large enough.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data import schema
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.split import Dataset
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.encoders.base import Encoder
from bestfor.errors import InputError, nearest
from bestfor.metrics.base import Metric
from bestfor.policies.base import Policy
from bestfor.policies.prompts import instruction
from bestfor.pool import CandidatePool
from bestfor.runs.adapters import adapted
from bestfor.runs.config import Data, HistoriesData, LampData, LonglampData, RunConfig, Split, WorldData
from bestfor.runs.config import Policy as PolicyTable
from bestfor.runs.measuring import measure_pool
from bestfor.runs.prompts import Prompting, labelled, users_of
from bestfor.runs.sampling import Sampling, generate
from bestfor.runs.steps import Steps, digest
from bestfor.runs.usage import accounted, judge_of, openai_policy


def qualified(data: Dataset, split: Split, policy: PolicyTable) -> Dataset:
    """The data without test queries of users who will have fewer labelled candidates than ``min_fit``.

    A user's labelled candidates are ``fit_n`` for each of the latest ``fit_items`` items that can be asked, of the
    share ``fit_share`` of them, and for each fit query that the data bring. Everybody's labels are learned from.

    Raises:
        InputError: no user has enough, or the run samples too few for anybody.
    """
    if policy.n < split.min_test:
        found = f"{policy.n} candidates of a test query"
        raise InputError("[policy] n", found, f"at least {split.min_test} ([split] min_test)")
    needed = -(-split.min_fit // policy.fit_n)
    if needed == 0:
        return data
    test = pc.equal(data.queries["split"], "test")  # pyright: ignore[reportAttributeAccessIssue]
    brought = Counter(data.queries.filter(pc.invert(test))["user_id"].to_pylist())  # pyright: ignore[reportAttributeAccessIssue]
    if needed > policy.fit_items and not brought:
        most = policy.fit_items * policy.fit_n
        raise InputError("[split] min_fit", str(split.min_fit), f"at most {most}, which is [policy] fit_items x fit_n")
    tested = set(data.queries.filter(test)["user_id"].to_pylist())
    enough = {user for user in tested if brought[user] >= needed}
    enough |= _with_items(data, {user: needed - brought[user] for user in tested - enough}, policy)
    if not enough:
        expected = f"at least one with {needed} history items that can be asked (lower [split] min_fit)"
        raise InputError(data.name, "no user with enough history", expected)
    if enough == tested:
        return data
    kept = pc.is_in(data.queries["user_id"], value_set=pa.array(sorted(enough)))  # pyright: ignore[reportAttributeAccessIssue]
    kept = pc.or_(pc.invert(test), kept)  # pyright: ignore[reportAttributeAccessIssue]
    note = f"{len(enough)} of {len(tested)} users are tested: they have at least {split.min_fit} labelled candidates"
    signature = digest({"data": data.signature, "least": needed, "items": policy.fit_items, "share": policy.fit_share})
    return replace(data, queries=data.queries.filter(kept), signature=signature, notes=(*data.notes, note))


def _with_items(data: Dataset, needed: dict[str, int], policy: PolicyTable) -> set[str]:
    """Users with so many items that can be asked, of which so many at most are; close cases are read item by item."""

    def enough(user: str, items: int) -> bool:
        return labelled(items, policy.fit_items, policy.fit_share) >= needed[user]

    needed = {user: count for user, count in needed.items() if count <= policy.fit_items}
    asked = pc.greater(pc.binary_length(data.histories["input"]), 0)  # pyright: ignore[reportAttributeAccessIssue]
    users = data.histories["user_id"]
    count = {row["values"]: row["counts"] for row in users.filter(asked).value_counts().to_pylist()}
    given = Counter(data.queries["user_id"].to_pylist())
    sure = {user for user in needed if enough(user, max(0, count.get(user, 0) - given[user]))}
    close = sorted(user for user in needed if user not in sure and enough(user, count.get(user, 0)))
    if close:
        within = data.histories.filter(pc.is_in(users, value_set=pa.array(close)))  # pyright: ignore[reportAttributeAccessIssue]
        items = dict(users_of(within, data.queries))
        sure |= {user for user in close if enough(user, sum(bool(item.input.strip()) for item in items[user]))}
    return sure


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
