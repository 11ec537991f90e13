"""Fit one user's part, given what texts are: shared tastes, and what the user's own ratings say beyond these.

    r = y - h_0(t) = a_u'h(t) + b_q + g_u(t) + e,   a_u ~ N(0, I),  g_u ~ GP(0, w K),  e ~ N(0, s2 - w)

for each user by themselves, h held at its mean. With V = HH' + t_b [same query] + w K + (s2 - w) I and z = V^-1 r the
posterior means are a_u = H'z, b_q = t_b sum of z over the query, and g_u(x) = w k(x, t)'z; with c = H h(x) + w k(x, t)
the variance of a_u'h(x) + g_u(x) is h(x)'h(x) + w - c'V^-1 c, and the error of a label that the others predict is
z_i / [V^-1]_ii (Rasmussen & Williams 2006, sections 2.2 and 5.4.2).
Together with the shared tastes this is one Gaussian process whose covariance between users is low-rank plus a diagonal
(Bonilla, Chai & Williams 2008). It is exact for any number of labels, so a further label costs no other fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from bestfor.artifacts import ENDS, PERSONAL, Arrays
from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class UserRatings:
    """Ratings of users, one segment each: all that has to be kept of a user.

    Attributes:
        item: shape (n,), what was rated.
        query: shape (n,), codes that tell a user's queries apart.
        y: shape (n,), centred.
        ends: shape (users + 1,), segments' bounds, from 0.
    """

    item: IntArray
    query: IntArray
    y: FloatArray
    ends: IntArray

    @classmethod
    def build(cls, users: int, user: IntArray, item: IntArray, query: IntArray, y: FloatArray) -> Self:
        """Sort rows in any order into segments; a user without rows has an empty one."""
        order = np.argsort(user, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))])
        return cls(item[order], query[order], y[order], ends.astype(np.int64))

    @classmethod
    def none(cls) -> Self:
        """Ratings of no user."""
        rows = np.zeros(0, dtype=np.int64)
        return cls(rows, rows, np.zeros(0), np.zeros(1, dtype=np.int64))

    @property
    def owner(self) -> IntArray:
        """Shape (n,), user of each row."""
        return np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))

    def arrays(self) -> Arrays:
        """Name the arrays as they are stored."""
        named = {"item": self.item, "query": self.query, "y": self.y}
        rows: Arrays = {f"{PERSONAL}{name}": values for name, values in named.items()}
        return rows | {name + ENDS: self.ends for name in rows}

    def of(self, user: int) -> slice:
        """Rows of a user."""
        return slice(int(self.ends[user]), int(self.ends[user + 1]))


@dataclass(frozen=True)
class PersonVariances:
    """Variances of a user's part.

    Attributes:
        noise: s2.
        level: t_b.
        own: w, below s2.
    """

    noise: float
    level: float
    own: float


@dataclass(frozen=True)
class OwnPart:
    """Posterior of one user's part; k tastes, m ratings.

    Attributes:
        taste: shape (k,), mean of a_u.
        spread: shape (k,), its variances.
        item: shape (m,), the items they rated.
        seen: shape (m, k), h at these items.
        own_weights: shape (m,), w z: g_u(x) is the kernel of x to these items times it.
        inverse: shape (m, m), V^-1.
        left_out: shape (m,), errors of labels that the user's other labels predict.
    """

    taste: FloatArray
    spread: FloatArray
    item: IntArray
    seen: FloatArray
    own_weights: FloatArray
    inverse: FloatArray
    left_out: FloatArray

    def covariance(self, h: FloatArray, near: FloatArray, between: FloatArray, own: float) -> FloatArray:
        """Posterior covariance of a_u'h(x) + g_u(x) at n items, shape (n, n); ``between`` is K between them."""
        reach = h @ self.seen.T + own * near
        return h @ h.T + own * between - reach @ self.inverse @ reach.T

    def level(self, scale: float) -> tuple[float, float]:
        """Mean and variance of b_q of somebody with one query, from its prior variance."""
        return scale * float(self.left_out @ np.diag(self.inverse)), scale - scale**2 * float(np.sum(self.inverse))

    def predict(self, h: FloatArray, near: FloatArray, own: float) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of a_u'h(x) + g_u(x) at n items.

        Args:
            h: shape (n, k), taken as known.
            near: shape (n, m), K to the rated items.
            own: w.
        """
        reach = h @ self.seen.T + own * near
        left = np.sum(h**2, axis=1) + own - np.sum((reach @ self.inverse) * reach, axis=1)
        return h @ self.taste + near @ self.own_weights, np.maximum(left, 0.0)


def person_without_ratings(tastes: int) -> OwnPart:
    """Prior of a user without ratings."""
    none, rows = np.zeros(0), np.zeros(0, dtype=np.int64)
    return OwnPart(np.zeros(tastes), np.ones(tastes), rows, np.zeros((0, tastes)), none, np.zeros((0, 0)), none)


def fit_person(
    ratings: UserRatings, user: int, mean: FloatArray, near: FloatArray, variances: PersonVariances
) -> OwnPart:
    """Compute the exact posterior of a user's part.

    Args:
        ratings: everybody's.
        user: whose segment counts.
        mean: shape (m, k + 1), h at the rated items; column 0 is h_0.
        near: shape (m, m), K between them.
        variances: of noise, level and own part.
    """
    part = ratings.of(user)
    query, seen = ratings.query[part], mean[:, 1:]
    cover = seen @ seen.T + variances.own * near + variances.level * (query[:, None] == query[None, :])
    cover[np.diag_indices(len(query))] += variances.noise - variances.own
    factor = linalg.cho_factor(cover, lower=True, overwrite_a=True, check_finite=False)
    inverse = linalg.cho_solve(factor, np.eye(len(query)), overwrite_b=True, check_finite=False)
    z = inverse @ (ratings.y[part] - mean[:, 0])
    spread = 1.0 - np.sum((inverse @ seen) * seen, axis=0)
    left_out = z / np.diag(inverse)
    return OwnPart(seen.T @ z, spread, ratings.item[part], seen, variances.own * z, inverse, left_out)
