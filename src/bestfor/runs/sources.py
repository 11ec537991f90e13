"""Load the data of a run: ratings, which are split, or histories, whose test users must have enough to fit on.

Ratings bring their candidates (texts that people rated); for histories candidates are sampled, see
:mod:`bestfor.runs.sampling`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.ratings import Ratings
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.sources.own import load_ratings
from bestfor.data.sources.pairs import load_pairs
from bestfor.data.sources.polis import load_polis
from bestfor.data.sources.prism import load_prism
from bestfor.data.split import OTHERS_TOLD, Dataset, SplitConfig, split_ratings
from bestfor.data.world import World, build
from bestfor.errors import InputError
from bestfor.labels.table import load_labels
from bestfor.metrics.overlap import script_notes
from bestfor.runs.config import (
    Data,
    HistoriesTable,
    LampTable,
    LonglampTable,
    PairsTable,
    PolicyTable,
    PolisTable,
    PrismTable,
    RatingsTable,
    RunConfig,
    SaidTable,
    SplitTable,
    WorldTable,
)
from bestfor.runs.prompts import count_labelled, items_by_user
from bestfor.runs.steps import digest


def load_dataset(config: RunConfig, ratings: Ratings | None = None) -> Dataset:
    """Read a run's data and, for ratings, split them.

    Args:
        config: the run, of one fold.
        ratings: its source, where that is read already.

    Raises:
        InputError: bad data (file, row and column are named), or nobody is eligible.
    """
    if config.door == "histories":
        return histories_dataset(config)
    split = config.split
    if split.fold == "all":
        raise InputError("[split] fold", "'all'", "one fold at this point")
    ratings = read_ratings(config) if ratings is None else ratings
    others = OTHERS_TOLD if split.others is None else split.others
    chosen = SplitConfig(split.by, split.fold, split.min_fit, split.min_test, others, config.seed)
    return split_ratings(ratings, chosen)


def read_ratings(config: RunConfig) -> Ratings:
    """Read a run's source of ratings; times only where they are needed, since odd ones are errors.

    Raises:
        InputError: bad data (file, row and column are named), or a source of histories.
    """
    data = config.data
    if isinstance(data, PolisTable):
        return load_polis(data.path, data.moderation)
    if isinstance(data, RatingsTable):
        times = True if config.split.by == "time" else None if data.duplicates == "last" else False
        return load_ratings(
            data.path, data.columns, duplicates=data.duplicates, times=times, signals=data.combination()
        )
    if isinstance(data, SaidTable):
        return load_labels(data.path, data.options(), data.columns)
    if isinstance(data, PairsTable):
        return load_pairs(data.path, data.columns)
    if isinstance(data, PrismTable):
        return load_prism(data.path, data.turns)
    raise InputError("[data] source", f"'{data.source}'", "one that holds ratings")


def with_split(config: RunConfig, ratings: Ratings) -> RunConfig:
    """Choose what a table of ratings is split by where its file does not say: prompts, if answers belong to one each.

    Args:
        config: the run.
        ratings: the run's.
    """
    if (
        not isinstance(config.data, RatingsTable | SaidTable | PairsTable | PrismTable)
        or "by" in config.split.model_fields_set
        or not ratings.owned
    ):
        return config
    return config.model_copy(update={"split": config.split.model_copy(update={"by": "query"})})


def histories_dataset(config: RunConfig) -> Dataset:
    """Read the histories and test queries of a run, of users with enough labelled candidates.

    Raises:
        InputError: bad data (file, row and field are named), or nobody is eligible.
    """
    data = keep_eligible(dataset_of(config.data), config.split, config.policy)
    usual = TASKS[data.task].metric if data.task else "rougeL"
    references = (one for one in data.queries["reference"].to_pylist() if one)
    return replace(data, notes=(*data.notes, *script_notes(config.utility.metrics or (usual,), references)))


def dataset_of(data: Data) -> Dataset:
    """Read the histories and queries of a run's ``[data]``.

    Raises:
        InputError: bad data (file, row and field are named), or a source of ratings.
    """
    if isinstance(data, WorldTable):
        return world_dataset(data)
    if isinstance(data, LampTable):
        from bestfor.data.sources.lamp import LampFiles, load_lamp

        fit = LampFiles(Path(data.fit_questions), _path(data.fit_outputs)) if data.fit_questions else None
        return load_lamp(data.questions, _path(data.outputs), task=data.task or None, users=data.users, fit=fit)
    if isinstance(data, LonglampTable):
        from bestfor.data.sources.longlamp import load_longlamp

        return load_longlamp(data.path, task=data.task or None, split=data.part, users=data.users)
    if isinstance(data, HistoriesTable):
        from bestfor.data.sources.own import load_histories

        return load_histories(data.histories, data.queries, columns=data.columns, users=data.users)
    raise InputError("[data] source", f"'{data.source}'", "one that holds histories")


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def world_of(data: WorldTable) -> World:
    """Build the embedded world that ``[data]`` describes, without its texts."""
    return World(seed=data.seed, users=data.users, noise=data.noise, task=data.task, queries=data.queries)


def world_dataset(data: WorldTable) -> Dataset:
    """Write the embedded world's histories and test queries."""
    world = world_of(data)
    built = build(world)
    signature = digest({"world": asdict(world), "rows": built.sha256})
    name = f"world ({data.task}, {data.noise} noise)"
    return Dataset(name, signature, built.histories, built.queries)


def keep_eligible(data: Dataset, split: SplitTable, policy: PolicyTable) -> Dataset:
    """Leave out the test queries of users who will have fewer labelled candidates than ``min_fit``.

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
    """Find users with enough items that can be asked for; close cases are read item by item."""

    def enough(user: str, items: int) -> bool:
        return count_labelled(items, policy.fit_items, policy.fit_share) >= needed[user]

    needed = {user: count for user, count in needed.items() if count <= policy.fit_items}
    asked = pc.greater(pc.binary_length(data.histories["input"]), 0)  # pyright: ignore[reportAttributeAccessIssue]
    users = data.histories["user_id"]
    count = {row["values"]: row["counts"] for row in users.filter(asked).value_counts().to_pylist()}
    given = Counter(data.queries["user_id"].to_pylist())
    sure = {user for user in needed if enough(user, max(0, count.get(user, 0) - given[user]))}
    close = sorted(user for user in needed if user not in sure and enough(user, count.get(user, 0)))
    if close:
        within = data.histories.filter(pc.is_in(users, value_set=pa.array(close)))  # pyright: ignore[reportAttributeAccessIssue]
        items = dict(items_by_user(within, data.queries))
        sure |= {user for user in close if enough(user, sum(bool(item.input.strip()) for item in items[user]))}
    return sure
