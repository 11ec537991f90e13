"""Users' own weights of the shared and of the own part, shrunken to everybody's.

    y = (1 + a_u) A + (1 + b_u) B + e,   a_u ~ N(0, k_a^2),  b_u ~ N(0, k_b^2),  e ~ N(0, s2)

A is the combined shared part, B the combined part of the user, both cross-fitted and centred by query and fold. k_a and
k_b maximise the marginal likelihood over all users (random coefficients, Swamy 1970). Rows of one text err together, so
that likelihood alone would find differences that are none: factors learned on one half of the texts have to tell the
other half better, by twice the standard error over texts, else all are 1. Whose 1 + b_u is not above 0 abstains: their
own labels lead away from what they like.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from bestfor.types import FloatArray, IntArray

SPREADS = (0.0, 0.25, 0.5, 1.0)
"""Candidates of k_a and k_b."""
MIN_ERRORS = 2.0
"""Standard errors by which unseen texts have to be told better."""


@dataclass(frozen=True)
class UserSlopes:
    """Factors of users.

    Attributes:
        factor: shape (users, 2), 1 + a_u and 1 + b_u, not below 0.
        spreads: k_a and k_b.
        gain: squared error that they take away on unseen texts, in standard errors.
    """

    factor: FloatArray
    spreads: tuple[float, float]
    gain: float


def learn_slopes(
    parts: FloatArray, y: FloatArray, codes: tuple[IntArray, IntArray], users: int, noise: float
) -> UserSlopes:
    """Learn every user's factors.

    Args:
        parts: shape (n, 2), A and B.
        y: shape (n,), centred.
        codes: user and text (or prompt) of each row, each of shape (n,).
        users: how many; those without rows get 1 and 1.
        noise: s2.
    """
    user, unit = codes
    half = unit % 2 == 1
    less = np.zeros(len(y))
    for learned in (half, ~half):
        factor, _ = _posterior(parts[learned], y[learned], user[learned], users, noise)
        told = np.sum(factor[user[~learned]] * parts[~learned], axis=1)
        less[~learned] = (y[~learned] - parts[~learned].sum(axis=1)) ** 2 - (y[~learned] - told) ** 2
    by_unit = np.bincount(unit, less)[np.unique(unit)]
    error = float(np.sqrt(np.sum((by_unit - by_unit.mean()) ** 2)))
    gain = float(by_unit.sum()) / error if error > 0 else 0.0
    factor, spreads = _posterior(parts, y, user, users, noise)
    if gain < MIN_ERRORS or not any(spreads):
        return UserSlopes(np.ones((users, 2)), (0.0, 0.0), gain)
    return UserSlopes(factor, spreads, gain)


def _posterior(
    parts: FloatArray, y: FloatArray, user: IntArray, users: int, noise: float
) -> tuple[FloatArray, tuple[float, float]]:
    """Factors under the likeliest k_a and k_b, shape (users, 2)."""
    gram, moment = np.zeros((users, 2, 2)), np.zeros((users, 2))
    rest = y - parts.sum(axis=1)
    for i, j in product(range(2), range(2)):
        gram[:, i, j] = np.bincount(user, parts[:, i] * parts[:, j], minlength=users) / noise
    for i in range(2):
        moment[:, i] = np.bincount(user, parts[:, i] * rest, minlength=users) / noise
    found = {pair: _evidence(gram, moment, pair) for pair in product(SPREADS, SPREADS)}
    best = max(found, key=lambda pair: found[pair])
    size = np.array(best)
    matrix = np.eye(2) + size[:, None] * gram * size
    away = size * np.linalg.solve(matrix, (size * moment)[:, :, None])[:, :, 0]
    return np.maximum(1 + away, 0.0), best


def _evidence(gram: FloatArray, moment: FloatArray, pair: tuple[float, float]) -> float:
    """Log marginal likelihood of all users over that without differences."""
    size = np.array(pair)
    matrix = np.eye(2) + size[:, None] * gram * size
    pulled = size * moment
    fit = np.sum(pulled * np.linalg.solve(matrix, pulled[:, :, None])[:, :, 0])
    return 0.5 * float(fit - np.sum(np.linalg.slogdet(matrix)[1]))
