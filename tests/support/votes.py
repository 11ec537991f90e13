"""Votes of users on items with known tastes, and priors of the items."""

import numpy as np

from bestfor import rng
from bestfor.rewards.features.nearness import unit_kernel
from bestfor.rewards.tastes.factors import build_votes, dense_priors


def votes_of(users=12, items=9, queries=2, seed=0):
    draw = rng.derive(seed, "votes")
    query, item = np.nonzero(draw.random((users * queries, items)) < 0.7)
    user = query // queries
    likes, level = draw.normal(size=(users, 2)), 0.5 * draw.normal(size=users * queries)
    texts = draw.normal(size=(items, 3))
    y = (
        texts[item, 0]
        + np.sum(likes[user] * texts[item, 1:], axis=1)
        + level[query]
        + 0.3 * draw.normal(size=len(user))
    )
    return build_votes(y, user, query, item), (y, user, query, item), texts


def priors_of(items, seed=0):
    vectors = rng.derive(seed, "vectors").normal(size=(items, 5))
    near = unit_kernel(*(vectors / np.linalg.norm(vectors, axis=1, keepdims=True),) * 2, length=0.7)
    return dense_priors(near, (1.0, 3.0))
