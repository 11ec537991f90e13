"""Let a run's policy summarise each user's earlier items once, before the user's candidates are sampled.

    items that all queries of a user may see --policy--> a summary --> in every prompt of the user

A summary is made of items that no query of the user asks for and that are earlier than all of them, so that it tells a
labelled item nothing about itself, and stands in the prompts of fit and test queries alike. Summaries are a pool of
their own, in the run's folder ``profiles``: each part is named by all that decides it, a call that was killed goes on,
and what a server took is counted with the policy's candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bestfor.backends import Backend
from bestfor.data.schema import QUERIES
from bestfor.data.split import Dataset
from bestfor.data.states import has_text
from bestfor.errors import InputError
from bestfor.policies.base import Budgeted, Policy, Prompt
from bestfor.policies.profiles import INSTRUCTION, Profiles, cleaned, summary_request
from bestfor.policies.prompts import estimate, fit
from bestfor.pool import CandidatePool
from bestfor.runs.config import RunConfig
from bestfor.runs.prompts import PromptedQueries, Prompting, items_by_user, seen_by_all
from bestfor.runs.sampling import Chunk, SamplingSettings, plan, sample_owed
from bestfor.runs.sections import ProfileTable
from bestfor.runs.steps import Steps
from bestfor.runs.usage import record_usage

FOLDER = "profiles"


@dataclass(frozen=True)
class ProfileWork:
    """Summaries that a run asks for.

    Attributes:
        policy: writes them.
        settings: one text for each user.
        prompted: a request for each user, named by the user's id.
        chunks: parts of their pool, in order.
        pool: where they are.
        without: how many users have no item that all their queries may see.
    """

    policy: Policy
    settings: SamplingSettings
    prompted: PromptedQueries
    chunks: tuple[Chunk, ...]
    pool: CandidatePool
    without: int

    @property
    def owed(self) -> frozenset[str]:
        """Names of the parts that are not there."""
        return frozenset(self.pool.missing([chunk.key for chunk in self.chunks]))

    def read(self) -> Profiles:
        """Read what was written; a user whose request was refused, or whose summary is empty, has none."""
        texts: dict[str, str] = {}
        for chunk in self.chunks:
            table = self.pool.read(chunk.key)
            for row in [] if table is None else table.to_pylist():
                if has_text(row["finish_reason"], row["text"]) and cleaned(row["text"]):
                    texts[row["query_id"]] = cleaned(row["text"])
        asked = len(self.prompted.prompts)
        said = [f"{len(texts)} of {asked + self.without} users have a profile in their prompts"] if asked else []
        if self.without:
            said.append(f"{self.without} have none: no item of theirs is earlier than all that label")
        if asked > len(texts):
            said.append(f"{asked - len(texts)} have none: the policy wrote nothing, or was refused")
        return Profiles(texts, ("; ".join(said),))


def plan_profiles(
    policy: Policy, config: RunConfig, data: Dataset, prompting: Prompting, folder: Path
) -> ProfileWork | None:
    """Plan the summaries that a run asks for; None where it asks for none.

    Args:
        policy: writes the candidates.
        config: the run.
        data: histories, and the queries that summaries must not know.
        prompting: bounds the requests, as it does the prompts of candidates.
        folder: the run's.

    Raises:
        InputError: nobody has an item that all their queries may see.
    """
    table = config.policy.profile
    if table is None:
        return None
    writer = _writer(policy, table)
    prompts, users = _requests(writer, config, data, prompting, table)
    if not prompts:
        expected = "users with items that are earlier than those that label (fit_items or fit_share in [policy])"
        raise InputError("[policy.profile]", "nobody with an item to summarise", expected)
    settings = SamplingSettings(1, 1, 0, Prompting(), config.seed, refused="skip")
    prompted = PromptedQueries(_as_queries(prompts), prompts, (0,) * len(prompts), (0,) * len(prompts))
    chunks = tuple(plan(writer, prompted, settings))
    return ProfileWork(writer, settings, prompted, chunks, CandidatePool(folder / FOLDER), users - len(prompts))


def attach_profiles(
    policy: Policy,
    config: RunConfig,
    data: Dataset,
    prompting: Prompting,
    steps: Steps,
    *,
    backend: Backend | None = None,
) -> Prompting:
    """Put into the prompts of a run the summaries that it asks for, written here unless they are there already.

    Raises:
        InputError: as :func:`plan_profiles`.
        BestforError: a server did not answer; what came is kept, and the next call goes on.
    """
    work = plan_profiles(policy, config, data, prompting, steps.folder)
    if work is None:
        return prompting
    steps.tell(f"{FOLDER}: already there" if not work.owed else FOLDER)
    if work.owed:
        work.pool.plan([chunk.key for chunk in work.chunks])
        # With the policy's own: a budget holds for both.
        with record_usage(steps.folder, "policy", work.policy, steps.tell):
            sample_owed(work.policy, work.chunks, work.pool, work.settings, tell=steps.tell, backend=backend)
    found = work.read()
    for note in found.notes:
        steps.tell(f"{FOLDER}: {note}")
    return replace(prompting, profiles=found)


def _writer(policy: Policy, table: ProfileTable) -> Policy:
    """Copy a policy for summaries: longer texts, no stop texts, nobody's adapter, the model loaded once."""
    if not is_dataclass(policy) or isinstance(policy, type):
        return policy
    known = {one.name for one in fields(policy)}
    options: dict[str, Any] = {"max_new_tokens": table.max_new_tokens, "temperature": table.temperature, "stop": ()}
    options |= {"adapters": None, "user_model": ""}
    twin = replace(policy, **{name: value for name, value in options.items() if name in known})
    if hasattr(type(policy), "checkpoint"):
        twin.__dict__["checkpoint"] = getattr(policy, "checkpoint")  # noqa: B009 - policies from outside have none
    return twin


def _requests(
    writer: Policy, config: RunConfig, data: Dataset, prompting: Prompting, table: ProfileTable
) -> tuple[tuple[Prompt, ...], int]:
    """Make each user's request, and count the users who are asked anything."""
    template = summary_request(table.instruction or INSTRUCTION, inputs=table.inputs)
    own = writer.budget if isinstance(writer, Budgeted) else None
    budget = min((limit for limit in (own, prompting.tokens) if limit is not None), default=None)
    count = writer.count if isinstance(writer, Budgeted) else estimate
    given: dict[str, list[Mapping[str, Any]]] = {}
    for row in data.queries.select(["user_id", "timestamp"]).to_pylist():
        given.setdefault(row["user_id"], []).append(row)
    prompts: list[Prompt] = []
    users = set(given)
    for user, items in items_by_user(data.histories, data.queries):
        users.add(user)
        seen = seen_by_all(items, given.get(user, ()), config.policy.fit_items, config.policy.fit_share)
        latest = [(item.input, item.output) for item in items[max(seen - table.items, 0) : seen]][::-1]
        if budget is not None:
            chat = fit(template, latest, "", budget=budget, count=count)
            latest = [] if chat.dropped == len(latest) else latest
            made = chat.messages
        else:
            made = template(latest, "")
        if latest:
            prompts.append(Prompt(user, tuple(made), user))
    return tuple(prompts), len(users)


def _as_queries(prompts: Sequence[Prompt]) -> pa.Table:
    rows = [
        {"query_id": one.query_id, "user_id": one.user_id, "input": "", "reference": None, "split": "fit"}
        for one in prompts
    ]
    return pa.Table.from_pylist(rows, schema=QUERIES)
