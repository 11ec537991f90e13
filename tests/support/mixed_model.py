"""Small labels and variances of a mixed model, and its covariances by brute force."""

import numpy as np

from bestfor import rng
from bestfor.rewards.hierarchical.variances import INTERCEPT_VARIANCE, Prior
from bestfor.rewards.rows import FeatureRows

GROUPS = np.array([0, 1, 2])


def small_rows(users=3, queries=2, size=4, p=3, seed=0):
    draw = rng.derive(seed, "mixed")
    n = users * queries * size
    z = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    query = np.repeat(np.arange(users * queries), size)
    return FeatureRows(z, draw.normal(size=n), query // queries, query)


def small_prior(p=3, ratio=0.7):
    root = rng.derive(1, "prior").normal(size=(p, p)) / 2
    shared = np.array([0.6, 0.3, INTERCEPT_VARIANCE])
    return Prior(root @ root.T + 0.2 * np.eye(p), shared, noise=0.4, ratio=ratio)


def brute(rows, prior, size):
    """Joint normal of labels: covariance of the shared part, of the personal part, and of noise with query effects."""
    same_user = rows.user[:, None] == rows.user[None, :]
    same_query = rows.query[:, None] == rows.query[None, :]
    personal = rows.z @ prior.full_deviation() @ rows.z.T * same_user
    noise = prior.noise * (np.diag(size) + prior.ratio * same_query)
    return rows.z @ np.diag(prior.shared) @ rows.z.T, personal, noise


def sizes_of(rows, weighted):
    return rng.derive(2, "size").uniform(0.5, 2, size=len(rows.y)) if weighted else np.ones(len(rows.y))
