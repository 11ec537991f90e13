"""Who is tested: users with enough labelled candidates to fit on, and test pools that are large enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.split import Dataset
from bestfor.errors import InputError
from bestfor.runs.config import Policy, Split
from bestfor.runs.prompts import labelled, users_of
from bestfor.runs.steps import digest


def qualified(data: Dataset, split: Split, policy: Policy) -> Dataset:
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


def _with_items(data: Dataset, needed: dict[str, int], policy: Policy) -> set[str]:
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
