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
"""Kinds that take long, or cost money, to score for other users: what the run has scored must do."""

UNSHARED = (
    "the run scored each candidate for the one who asked alone, and these users share no prompt with two answers: "
    "scores for the others would need new calls of the model"
)


def answers_of(folder: Path, model: RewardModel, label: str, metric: str) -> dict[str, Any] | None:
    """Answer the requests of three users for each of them.

    Args:
        folder: of the run (of one fold), its test candidates predicted.
        model: a fitted reward model of it.
        label: its name.
        metric: whose utilities are shown beside.

    Returns:
        As JSON can hold it; None where there are fewer than two users. Of a model that is slow, costs money or has no
        rewards for requests from outside (``logprob``), the rewards that the run holds are taken; where they do not
        reach, there are no requests and ``reason`` says why.
    """
    requests = _requests_of_three(folder)
    users = [one.user for one in requests]
    if len(users) < 2:
        return None
    if model.kind in SLOW or isinstance(model, Metered):
        return _of_stored(folder, model, label, metric, requests)
    distinct = _distinct(requests)
    asked = [replace(one, user=user) for one in distinct for user in users]
    try:
        scored = [scores for _, scores in score_requests(model, [_batch(folder, asked, distinct)])]
    except BestforError:
        scored = []  # a model that cannot serve requests from outside
    if not scored or not all(np.isfinite(scores.mean).all() for scores in scored):
        return _of_stored(folder, model, label, metric, requests)
    utilities = _utilities(folder, metric, distinct)
    found = [
        _request(one, dict(zip(users, scored[at * len(users) :], strict=False)), utilities)
        for at, one in enumerate(distinct)
    ]
    return {"model": label, "rule": "best", "users": users, "requests": found}


def _of_stored(
    folder: Path, model: RewardModel, label: str, metric: str, requests: Sequence[AnswerRequest]
) -> dict[str, Any]:
    """Answer requests by the rewards that the run holds: of a user's own candidates, or of one reward for all users."""
    users = list(dict.fromkeys(one.user for one in requests))
    rewards = _rewards(folder, label)
    known: dict[tuple[str, str, str], float] = {}
    for batch in pool_requests(folder):
        for one in batch.requests:
            if one.user in users:
                for place, text in enumerate(one.texts):
                    known[one.user, one.prompt, text] = rewards.get((one.query, one.number(place)), np.nan)
    utilities, found = _utilities(folder, metric, requests), []
    for one in _distinct(requests):
        owners = users if model.personal else [one.user] * len(users)
        means = np.array([[known.get((user, one.prompt, text), np.nan) for text in one.texts] for user in owners])
        kept = np.flatnonzero(np.isfinite(means).all(axis=0))
        if len(kept) > 1:
            numbers = tuple(one.number(place) for place in kept.tolist())
            few = replace(one, texts=tuple(one.texts[place] for place in kept.tolist()), candidate=numbers)
            scores = {
                user: Scores(mean[kept], served=model.served(user)) for user, mean in zip(users, means, strict=True)
            }
            found.append(_request(few, scores, utilities))
    answers: dict[str, Any] = {"model": label, "rule": "best", "users": users, "requests": found}
    return answers if found else {**answers, "reason": UNSHARED}


def _distinct(requests: Sequence[AnswerRequest]) -> list[AnswerRequest]:
    """Keep one of the requests that are the same."""
    return list({(one.prompt, one.texts): one for one in requests}.values())


def _rewards(folder: Path, label: str) -> dict[tuple[str, int], float]:
    path = folder / "rewards" / f"{label}.parquet"
    if not path.is_file():
        return {}
    table = schema.read(path, schema.REWARDS)
    keys = zip(table["query_id"].to_pylist(), table["candidate"].to_pylist(), strict=True)
    means = table["mean"].to_numpy(zero_copy_only=False).astype(np.float64)
    return dict(zip(keys, means.tolist(), strict=True))


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
    pick = _standing(one, one.number(select(scores[one.user]).index), utilities)
    return {
        "query": one.query,
        "owner": one.user,
        "input": asked,
        "size": len(one.texts),
        "answers": answers,
        "pick": pick,
    }


def _standing(
    one: AnswerRequest, picked: int, utilities: Mapping[tuple[str, int], float | None]
) -> dict[str, float | int] | None:
    """Rank the pick for the one who asked among the candidates by utility, beside their mean; None where unknown."""
    every = [utilities.get((one.query, one.number(place))) for place in range(len(one.texts))]
    known = [value for value in every if value is not None]
    own = utilities.get((one.query, picked))
    if own is None or len(known) < 2:
        return None
    rank = 1 + sum(value > own for value in known)
    return {"utility": own, "rank": rank, "of": len(known), "random": sum(known) / len(known)}


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
