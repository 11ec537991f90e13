"""Show real answers: what three users of a run would get for the same requests by the run's best model.

The users are the first three by the sha256 of their ids, so nobody is chosen for the effect. Every one's request is
answered for all three: where prompts are personal, that of a user is given to the others too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.data import schema
from bestfor.data.candidates import History
from bestfor.data.requests import AnswerRequest, RequestBatch
from bestfor.errors import BestforError
from bestfor.files import hash_text
from bestfor.rewards import RewardModel
from bestfor.runs.joins import build_history
from bestfor.runs.picks import pool_requests, score_requests
from bestfor.runs.usage import Metered
from bestfor.selection import select
from bestfor.types import Scores

USERS = 3
MOST_CHARACTERS = 600
"""Characters of a text that are kept."""

SLOW = ("lora", "judge")
"""Kinds that take long, or cost money, to score for other users: no answers are shown."""


def answers_of(folder: Path, model: RewardModel, label: str, metric: str) -> dict[str, Any] | None:
    """Answer the requests of three users for each of them.

    Args:
        folder: of the run (of one fold), its test candidates predicted.
        model: a fitted reward model of it.
        label: its name.
        metric: whose utilities are shown beside.

    Returns:
        As JSON can hold it; None where there are fewer than two users, or the model is slow or has no rewards for
        requests from outside (``logprob``).
    """
    if model.kind in SLOW or isinstance(model, Metered):
        return None
    requests = _requests_of_three(folder)
    users = [one.user for one in requests]
    if len(users) < 2:
        return None
    distinct = list({(one.prompt, one.texts): one for one in requests}.values())
    asked = [replace(one, user=user) for one in distinct for user in users]
    try:
        scored = [scores for _, scores in score_requests(model, [_batch(folder, asked, distinct)])]
    except BestforError:
        return None  # a model that cannot serve requests from outside
    if not all(np.isfinite(scores.mean).all() for scores in scored):
        return None
    utilities = _utilities(folder, metric, distinct)
    found = [
        _request(one, dict(zip(users, scored[at * len(users) :], strict=False)), utilities)
        for at, one in enumerate(distinct)
    ]
    return {"model": label, "rule": "best", "users": users, "requests": found}


def _request(
    one: AnswerRequest, scores: Mapping[str, Scores], utilities: Mapping[tuple[str, int], float | None]
) -> dict[str, Any]:
    """Answer a request for every user, given each one's scores of its candidates."""
    answers: list[dict[str, Any]] = []
    for user, own in scores.items():
        place = select(own).index
        answers.append(
            {
                "user": user,
                "candidate": one.number(place),
                "text": one.texts[place][:MOST_CHARACTERS],
                "reward": float(own.mean[place]),
                "owner_reward": float(scores[one.user].mean[place]),
                "owner_utility": utilities.get((one.query, one.number(place))),
                "served": own.served,
            }
        )
    asked = one.prompt[:MOST_CHARACTERS]
    return {"query": one.query, "owner": one.user, "input": asked, "size": len(one.texts), "answers": answers}


def _requests_of_three(folder: Path) -> list[AnswerRequest]:
    """Take a request of each of three users, for the same prompt where they share one."""
    own: dict[str, list[AnswerRequest]] = {}
    for batch in pool_requests(folder):
        for one in batch.requests:
            if len(one.texts) > 1:
                own.setdefault(one.user, []).append(one)
    users = sorted(own, key=hash_text)[:USERS]
    if not users:
        return []
    first = own[users[0]][0]
    return [next((one for one in own[user] if one.prompt == first.prompt), own[user][0]) for user in users]


def _batch(folder: Path, asked: Sequence[AnswerRequest], own: Sequence[AnswerRequest]) -> RequestBatch:
    """Give each user what they wrote before: before the request where it is their own, before their tests elsewhere."""
    wrote = folder / "histories.parquet"
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    history = build_history(schema.read(wrote, schema.HISTORIES), queries) if wrote.is_file() else None
    if history is None:
        return RequestBatch(tuple(asked))
    seen: dict[str, int] = {}
    mine: Mapping[tuple[str, str], int] = {(one.query, one.user): history.seen.get(one.query, 0) for one in own}
    for place, one in enumerate(asked):
        seen[str(place)] = mine.get((one.query, one.user), history.tested.get(one.user, 0))
    return RequestBatch(tuple(asked), History(history.texts, seen, history.tested))


def _utilities(folder: Path, metric: str, requests: Sequence[AnswerRequest]) -> dict[tuple[str, int], float | None]:
    table = schema.read(folder / "utilities" / f"{metric}.parquet", schema.UTILITIES)
    wanted = {one.query for one in requests}
    rows = zip(*(table[name].to_pylist() for name in ("query_id", "candidate", "utility")), strict=True)
    return {
        (query, candidate): None if value is None or np.isnan(value) else float(value)
        for query, candidate, value in rows
        if query in wanted
    }
