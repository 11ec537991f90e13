"""A fitted reward model as a plain function of requests and texts, for policies that ask what it thinks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bestfor.data.candidates import Examples, History
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.feedback import Score
from bestfor.rewards import Mbr, RewardModel
from bestfor.types import FloatArray


def scorer(model: RewardModel, queries: pa.Table, history: History | None = None) -> Score:
    """What a :class:`bestfor.policies.feedback.FeedbackPolicy` asks.

    Args:
        model: fitted; it must judge each text by itself.
        queries: table of schema ``QUERIES``: whose each query is, and its input.
        history: what users wrote, where the model looks at it; see :func:`bestfor.runs.joins.build_history`.

    Returns:
        A function of prompts and of some texts for each: the model's means.

    Raises:
        InputError: the model compares a query's candidates with each other; or, when it is called, a prompt of an
            unknown query.
    """
    if isinstance(model, Mbr):
        raise InputError(
            "scorer", "kind 'mbr', which needs all candidates at once", "a model that judges each by itself"
        )
    rows = queries.select(["query_id", "user_id", "input"]).to_pylist()
    known = {row["query_id"]: (row["user_id"], row["input"]) for row in rows}

    def score(prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> list[FloatArray]:
        for prompt in prompts:
            if prompt.query_id not in known:
                raise InputError("scorer", f"query '{prompt.query_id}'", "one of the table of queries")
        found = model.predict(_examples([(one.query_id, *known[one.query_id]) for one in prompts], texts, history)).mean
        return np.split(found, np.cumsum([len(one) for one in texts])[:-1])

    return score


def _examples(
    asked: Sequence[tuple[str, str, str]], texts: Sequence[Sequence[str]], history: History | None
) -> Examples:
    """Rows of queries (id, user, input) and their texts, without utilities."""
    sizes = [len(one) for one in texts]
    query = np.repeat(np.arange(len(asked)), sizes)
    users = {user: code for code, user in enumerate(dict.fromkeys(user for _, user, _ in asked))}
    distinct = {text: code for code, text in enumerate(dict.fromkeys(text for one in texts for text in one))}
    count = len(query)
    return Examples(
        users=tuple(users),
        queries=tuple(name for name, _, _ in asked),
        inputs=tuple(given for _, _, given in asked),
        texts=tuple(distinct),
        user=np.array([users[user] for _, user, _ in asked], dtype=np.int64)[query],
        query=query,
        text=np.array([distinct[text] for one in texts for text in one], dtype=np.int64),
        candidate=np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, dtype=np.int64),
        utility=np.full(count, np.nan),
        logprob=np.full(count, np.nan),
        history=history,
    )
