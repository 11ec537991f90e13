"""Linear mixed model on compact rows (:mod:`bestfor.rewards.hierarchical.labels`): what given variances say.

    y = J(theta_0 + d_u) + e,   theta_0 ~ N(0, G),  d_u ~ N(0, S),  e ~ N(0, R),  R = s2 diag(1 + k w).

With V_u = J S J' + R and A = G^-1 + sum_u J'V_u^-1 J

    theta_0 = A^-1 sum_u J'V_u^-1 y,     d_u = S J'V_u^-1 (y - J theta_0),
    log p(y) = -1/2 [ sum log|V_u| + log|G| + log|A| + sum y'V_u^-1 y - theta_0'A theta_0 + rows log 2 pi ],
    d log p / dv = 1/2 sum_u <M_u, dV_u/dv>,
    M_u = aa' - V_u^-1 + V_u^-1 J A^-1 J'V_u^-1,   a = V_u^-1 (y - J theta_0).

Sources: Lindley & Smith 1972 (posterior), Rasmussen & Williams 2006, section 5.4.1 (gradient).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.rewards.hierarchical.labels import Batch, Compact
from bestfor.types import FloatArray


@dataclass(frozen=True)
class Prior:
    """Variances, utilities having unit variance.

    Attributes:
        deviation: S, shape (p, p), or its diagonal (p,).
        shared: diagonal of G, shape (p,).
        noise: s2.
        ratio: k, the query effect's variance over s2.
    """

    deviation: FloatArray
    shared: FloatArray
    noise: float
    ratio: float

    def full_deviation(self) -> FloatArray:
        """S as a matrix."""
        return np.diag(self.deviation) if self.deviation.ndim == 1 else self.deviation


@dataclass(frozen=True)
class Expected:
    """What one pass over the users says.

    Attributes:
        shared: shape (p,), theta_0.
        shared_covariance: shape (p, p), A^-1.
        evidence: log marginal likelihood.
        pull: shape (p, p), sum of J'M J: twice the gradient in S; (p,), its diagonal, where S is one.
        told: shape (p, p), mean of N_u.
        balance: c, 1 where all users know equally much.
        noise_pull: sum of the diagonal of M.
        level_pull: the same weighted by w.
        users: number of users.
        queries: rows with w > 0.
        rows: compact rows.
    """

    shared: FloatArray
    shared_covariance: FloatArray
    evidence: float
    pull: FloatArray
    told: FloatArray
    balance: float
    noise_pull: float
    level_pull: float
    users: int
    queries: int
    rows: int


def spread(rows: npt.NDArray[Any], deviation: FloatArray) -> FloatArray:
    """Rows times S, whether S is a matrix or a diagonal."""
    own = deviation.astype(rows.dtype, copy=False)
    return rows * own if own.ndim == 1 else rows @ own


def root_inverse(batch: Batch, prior: Prior) -> tuple[FloatArray, float]:
    """L^-1 of V = LL' for every user, shape (b, n, n), and the sum of log|V|."""
    covers = spread(batch.rows, prior.deviation) @ batch.rows.swapaxes(1, 2)
    diagonal = np.where(batch.used, prior.noise * (1 + prior.ratio * batch.level), 1.0)
    covers[:, range(diagonal.shape[1]), range(diagonal.shape[1])] += diagonal
    lower = np.linalg.cholesky(covers)
    log_det = 2 * float(np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2))))
    return np.linalg.inv(lower), log_det  # pyright: ignore[reportReturnType]


def expect(data: Compact, parts: list[Batch], prior: Prior) -> Expected:
    """One pass over all users for given variances."""
    p = data.rows.shape[1]
    sums = _Sums(np.diag(1 / prior.shared), np.zeros(p))
    white = [sums.add(batch, prior) for batch in parts]
    lower = np.linalg.cholesky(sums.normal)
    root = np.asarray(np.linalg.inv(lower).T, dtype=np.float64)
    shared = root @ (root.T @ sums.right)
    spare = data.labels - len(data.target)
    log_det = sums.log_det + spare * np.log(prior.noise) + data.log_size + float(np.sum(np.log(prior.shared)))
    log_det += 2 * float(np.sum(np.log(np.diag(lower))))
    square = sums.square + data.rest / prior.noise - float(sums.right @ shared)
    evidence = -0.5 * (data.labels * np.log(2 * np.pi) + log_det + square)
    users, queries = len(data.ends) - 1, int(np.sum(data.level > 0))
    told = sums.normal - np.diag(1 / prior.shared)
    traces = np.concatenate([np.sum(part.rows**2, axis=(1, 2)) for part in white])
    balance = float(np.mean(traces) ** 2 / max(np.mean(traces**2), 1e-300))
    whole = prior.deviation.ndim > 1
    pulls = [part.pulls(batch, shared, root, whole=whole) for part, batch in zip(white, parts, strict=True)]
    pull = sum((part for part, _ in pulls), -(told if whole else np.diag(told)))
    pulled = np.concatenate([rows for _, rows in pulls])
    level = np.concatenate([batch.level[batch.used] for batch in parts])
    noise_pull, level_pull = float(np.sum(pulled)), float(np.sum(pulled * level))
    rests = (pull, told / users, balance, noise_pull, level_pull)
    return Expected(shared, root @ root.T, evidence, *rests, users, queries, len(data.target))


@dataclass(frozen=True)
class _White:
    """L^-1, L^-1 J and L^-1 y of a batch, V = LL'."""

    inverse: FloatArray
    rows: FloatArray
    target: FloatArray

    def pulls(
        self, batch: Batch, shared: FloatArray, root: FloatArray, *, whole: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Sum of J'(M + V^-1)J (its diagonal unless ``whole``), and the diagonal of M at the batch's rows."""
        rest = self.target - self.rows @ shared.astype(self.rows.dtype, copy=False)
        reach = self.rows @ root.astype(self.rows.dtype, copy=False)
        crossed = (reach @ reach.swapaxes(1, 2)) @ self.rows
        own = (rest[:, None, :].astype(self.rows.dtype, copy=False) @ self.rows)[:, 0].astype(np.float64)
        turned = self.inverse.swapaxes(1, 2)
        diagonal = (turned @ rest[:, :, None])[:, :, 0] ** 2 - np.sum(self.inverse**2, axis=1)
        diagonal += np.sum((turned @ reach) ** 2, axis=2)
        if not whole:
            return np.einsum("uni,uni->i", self.rows, crossed) + np.sum(own**2, axis=0), diagonal[batch.used]
        p = len(shared)
        return self.rows.reshape(-1, p).T @ crossed.reshape(-1, p) + own.T @ own, diagonal[batch.used]


@dataclass
class _Sums:
    """Sums over users: A, its right side, y'V^-1 y and log|V|."""

    normal: FloatArray
    right: FloatArray
    square: float = 0.0
    log_det: float = 0.0

    def add(self, batch: Batch, prior: Prior) -> _White:
        inverse, log_det = root_inverse(batch, prior)
        rows, target = inverse @ batch.rows, (inverse @ batch.target[:, :, None])[:, :, 0]
        flat = rows.reshape(-1, len(self.right))
        self.normal += flat.T @ flat
        self.right += flat.T @ target.ravel()
        self.square += float(np.sum(target**2))
        self.log_det += log_det
        return _White(inverse, rows, target)
