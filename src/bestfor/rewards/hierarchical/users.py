"""Compute the posterior of every user under fixed variances, and predict with it.

A user's labels are kept as the few independent rows J that they come down to
(:mod:`bestfor.rewards.hierarchical.labels`), in single precision: at most as many as labels or features, never a p x p
covariance. With V = J S J' + R and N = J'V^-1 J

    theta_u = theta_0 + S J'V^-1 (y - J theta_0),    z'theta_u has variance  z'Sz - (JSz)'V^-1 (JSz) + b'A^-1 b,
    b = z - J'V^-1 JSz,

where A^-1 is the covariance of theta_0. Without rows this is the prior: theta_0 with z'Sz + z'A^-1 z. Further labels
update the posterior of the one who gave them alone (:meth:`UserPosteriors.belief`). Woodbury's identity (Rasmussen &
Williams 2006, appendix A.3). :class:`Scorer` is one user's reward in arrays, for a service that scores candidates as
they come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.rewards.features import Space
from bestfor.rewards.features.kernel import TextKernel
from bestfor.rewards.hierarchical.labels import (
    BATCH_NUMBERS,
    CompactRows,
    PaddedRows,
    compress_rows,
    join_rows,
    pad_batches,
    pad_users,
    round_single,
)
from bestfor.rewards.hierarchical.variances import Prior, inverse_cholesky, times_covariance
from bestfor.rewards.memory import Recent, held
from bestfor.rewards.posterior import Belief, RatedRows
from bestfor.rewards.rows import FeatureRows, by_code, rounded
from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True)
class UserPosteriors:
    """Posterior of all users under fixed variances.

    Attributes:
        prior: the variances.
        data: compact rows of every user.
        normal: shape (p, p), A.
        right: shape (p,), sum of J'V^-1 y.
        shared: shape (p,), theta_0 = A^-1 right.
        shared_covariance: shape (p, p), A^-1.
        weights: shape (users, p), theta_u.
    """

    prior: Prior
    data: CompactRows
    normal: FloatArray
    right: FloatArray
    shared: FloatArray
    shared_covariance: FloatArray
    weights: FloatArray

    @cached_property
    def recent(self) -> Recent[FloatArray]:
        """Whitened rows of recent users."""
        return Recent(held)

    @cached_property
    def newcomer(self) -> Belief:
        """Weights of somebody without labels: theta_0 with S + A^-1."""
        return Belief(self.shared, self.prior.full_deviation() + self.shared_covariance)

    @cached_property
    def crowd(self) -> Belief:
        """The same where nothing but their level is a user's own."""
        level = np.zeros(len(self.shared))
        level[-1] = self.prior.full_deviation()[-1, -1]
        return Belief(self.shared, np.diag(level) + self.shared_covariance)

    def belief(self, code: int) -> Belief:
        """Weights of a user, -1 for somebody without labels: theta_u with S - SJ'V^-1JS + BA^-1B', B = 1 - SJ'V^-1J."""
        if code < 0:
            return self.newcomer
        white = _whitened_rows(self, code).astype(np.float64)
        reach = times_covariance(white, self.prior.deviation)
        left = np.eye(len(self.shared)) - reach.T @ white
        covariance = self.prior.full_deviation() - reach.T @ reach + left @ self.shared_covariance @ left.T
        return Belief(self.weights[code], covariance)

    def moved(self, mean: FloatArray) -> UserPosteriors:
        """The posterior under a prior mean of theta_0, shape (p,), this being that of the labels less J mean."""
        target = self.data.target + self.data.rows @ mean.astype(self.data.rows.dtype)
        data, shared = round_single(replace(self.data, target=target)), self.shared + mean
        return replace(self, data=data, shared=shared, right=self.normal @ shared, weights=self.weights + mean)

    def labels(self, code: int) -> RatedRows:
        """Compact rows of a user's labels, as independent ratings."""
        rows = _one_user(self.data, code)
        noise = self.prior.noise * (1 + self.prior.ratio * rows.level)
        return RatedRows(rows.rows.astype(np.float64), rows.target, noise, np.arange(len(noise)))


def fit_posteriors(data: CompactRows, prior: Prior) -> UserPosteriors:
    """Compute the exact posterior of shared and personal weights for given variances."""
    normal, right = np.diag(1 / prior.shared), np.zeros(len(prior.shared))
    _add_information(data, prior, normal, right)
    return posteriors_of(data, prior, normal, right)


def information(data: CompactRows, prior: Prior) -> tuple[FloatArray, FloatArray]:
    """Sum J'V^-1 J, shape (p, p), and J'V^-1 y, shape (p,), over users: those of several sets of users add up."""
    normal, right = np.zeros((len(prior.shared), len(prior.shared))), np.zeros(len(prior.shared))
    _add_information(data, prior, normal, right)
    return normal, right


def _add_information(data: CompactRows, prior: Prior, normal: FloatArray, right: FloatArray) -> None:
    for batch in pad_batches(data):
        gained = _information(batch, prior)
        normal += gained[0]
        right += gained[1]


def posteriors_of(data: CompactRows, prior: Prior, normal: FloatArray, right: FloatArray) -> UserPosteriors:
    """Compute the posterior of some users' weights where A and its right side are known of all users."""
    covariance = _symmetric_inverse(normal)
    shared = covariance @ right
    weights = np.empty((len(data.ends) - 1, len(shared)))
    for batch in pad_batches(data):
        weights[batch.users] = _weights(batch, prior, shared)
    return UserPosteriors(prior, data, normal, right, shared, covariance, weights)


def means(weights: FloatArray, z: npt.NDArray[Any], which: IntArray) -> FloatArray:
    """Mean z_i'weights_(which_i) of every row, fastest where a user's rows lie together.

    A row's bits do not depend on the other rows.
    """
    out = np.empty(len(z))
    edges = np.flatnonzero(which[1:] != which[:-1]) + 1
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(z)], strict=True):
        if stop > start:
            out[start:stop] = np.einsum("np,p->n", z[start:stop], weights[which[start]].astype(z.dtype, copy=False))
    return out


def variances(posteriors: UserPosteriors, z: FloatArray, codes: IntArray) -> FloatArray:
    """Posterior variance of z'theta_u for every row, shape (n,); ``codes`` is -1 for users without rows."""
    if len(codes) and (codes == codes[0]).all():
        return np.maximum(_variances(posteriors, z, int(codes[0])), 0.0)
    out = np.empty(len(z))
    for code, rows in by_code(codes):
        out[rows] = _variances(posteriors, z[rows], code)
    return np.maximum(out, 0.0)


def _variances(posteriors: UserPosteriors, z: FloatArray, code: int) -> FloatArray:
    """Do the same for rows of one user."""
    reach = times_covariance(z, posteriors.prior.deviation)
    found = np.sum(reach * z, axis=1)
    if code >= 0:
        white = _whitened_rows(posteriors, code)
        seen = reach @ white.T
        found -= np.sum(seen**2, axis=1)
        z = z - seen @ white
    found += np.sum((z @ posteriors.shared_covariance) * z, axis=1)
    return found


def deviation_variances(posteriors: UserPosteriors, z: FloatArray, offsets: IntArray, first: int = 0) -> FloatArray:
    """Posterior variance of z'd_u, theta_0 given, of every row, shape (n,).

    Users of equally many rows and labels are solved together, to the bits of one after the other.

    Args:
        posteriors: of the users.
        z: shape (n, p), sorted by user.
        offsets: shape (b + 1,), where the rows of b consecutive users end, from 0.
        first: the first of these users.
    """
    data, prior, out = posteriors.data, posteriors.prior, np.empty(len(z))
    shapes = np.stack([np.diff(offsets), np.diff(data.ends[first : first + len(offsets)])], axis=1)
    for (rows, labels), some in _alike(shapes):
        step = max(BATCH_NUMBERS // max((rows + labels) * z.shape[1], 1), 1)
        for start in range(0, len(some), step):
            users = some[start : start + step]
            place = offsets[users][:, None] + np.arange(rows)
            batch, own = pad_users(data, first + users, labels), z[place]
            white = inverse_cholesky(batch, prior)[0] @ batch.rows
            reach = times_covariance(own, prior.deviation)
            seen = reach @ white.swapaxes(1, 2)
            out[place] = np.sum(reach * own, axis=2) - np.sum(seen**2, axis=2)
    return out


def _alike(shapes: IntArray) -> Iterator[tuple[tuple[int, int], IntArray]]:
    """Yield each pair of numbers with the places where it stands."""
    found, code = np.unique(shapes, axis=0, return_inverse=True)
    for place, (rows, labels) in enumerate(found.tolist()):
        yield (rows, labels), np.flatnonzero(code.ravel() == place)


def deviation_factors(posteriors: UserPosteriors, z: FloatArray, code: int) -> tuple[FloatArray, FloatArray]:
    """ZS and W, where Z d_u has posterior covariance ZSZ' - WW' given theta_0, of one user's rows."""
    reach = times_covariance(z, posteriors.prior.deviation)
    return reach, reach @ _whitened_rows(posteriors, code).T


def compress_rows_in_chunks(
    rows: FeatureRows, size: FloatArray, *, levels: bool, slopes: float = 0.0, chunk: int = 256
) -> CompactRows:
    """Compress rows to single precision, some users at a time so that little stands in memory twice."""
    offsets, parts = rows.segments(), []
    if not levels and int(np.diff(offsets).max()) <= rows.z.shape[1]:
        return round_single(compress_rows(rows, size, levels=False))
    for start in range(0, len(offsets) - 1, chunk):
        users = np.arange(start, min(start + chunk, len(offsets) - 1))
        some = take_users(rows, users, offsets)
        part = slice(offsets[users[0]], offsets[users[-1] + 1])
        parts.append(round_single(compress_rows(some, size[part], levels=levels, slopes=slopes)))
    return join_rows(parts, np.float32)


def take_users(rows: FeatureRows, users: IntArray, offsets: IntArray) -> FeatureRows:
    """Take the rows of some users, coded anew."""
    place = np.concatenate([np.arange(int(offsets[user]), int(offsets[user + 1])) for user in users])
    query = np.unique(rows.query[place], return_inverse=True)[1]
    user = np.repeat(np.arange(len(users)), np.diff(offsets)[users])
    return FeatureRows(rows.z[place], rows.y[place], user, query)


def _information(batch: PaddedRows, prior: Prior) -> tuple[FloatArray, FloatArray]:
    """Information of users' labels: sums of J'V^-1 J and J'V^-1 y."""
    inverse, _ = inverse_cholesky(batch, prior)
    white = (inverse @ batch.rows).reshape(-1, batch.rows.shape[2])
    target = (inverse @ batch.target[:, :, None]).ravel().astype(white.dtype, copy=False)
    return white.T @ white, white.T @ target


def _weights(batch: PaddedRows, prior: Prior, shared: FloatArray) -> FloatArray:
    inverse, _ = inverse_cholesky(batch, prior)
    rest = inverse @ (batch.target - batch.rows @ shared.astype(batch.rows.dtype, copy=False))[:, :, None]
    pulled = (inverse.swapaxes(1, 2) @ rest)[:, :, 0]
    reached = (pulled[:, None, :].astype(batch.rows.dtype, copy=False) @ batch.rows)[:, 0]
    return shared + times_covariance(reached, prior.deviation)


def _whitened_rows(posteriors: UserPosteriors, code: int) -> FloatArray:
    """Whitened rows L^-1 J of one user, V = LL', kept of recent users."""

    def whiten() -> FloatArray:
        batch = next(pad_batches(_one_user(posteriors.data, code)))
        return (inverse_cholesky(batch, posteriors.prior)[0] @ batch.rows)[0]

    return posteriors.recent.get(code, whiten)


def _one_user(data: CompactRows, code: int) -> CompactRows:
    part = slice(data.ends[code], data.ends[code + 1])
    rows, ends = data.rows[part], np.array([0, part.stop - part.start])
    return CompactRows(rows, data.target[part], data.level[part], ends, 0.0, len(rows), 0.0)


def _symmetric_inverse(normal: FloatArray) -> FloatArray:
    inverse = np.linalg.inv(normal)
    return (inverse + inverse.T) / 2


@dataclass(frozen=True)
class Scorer:
    """One user's linear reward: means as :meth:`Hierarchical.predict` gives them, up to the last digits.

    From embeddings these are the last digits of single precision.

    Attributes:
        user: the one who is served; somebody without fit labels is served as such.
        weights: shape (features,), on the utility's scale.
        level: the constant.
        space: the model's features.
        kernel: the map behind its kernel features, None where it has none.
    """

    user: str
    weights: FloatArray
    level: float
    space: Space
    kernel: TextKernel | None

    def score(self, features: npt.NDArray[np.floating]) -> FloatArray:
        """Rewards of rows of :meth:`Hierarchical.features`, (n, features) -> (n,)."""
        return rounded(features @ self.weights + self.level)

    def score_embeddings(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> FloatArray:
        """Rewards of candidates whose embeddings are at hand.

        Args:
            embeddings: shape (n, dim), from the model's encoder.
            surface: shape (n, surface), the columns of :meth:`Hierarchical.features` between components and kernel;
                may be left out where the model was fitted without style and answer features.

        Raises:
            BestforError: the model has surface features and none are given.
        """
        features = self.space.of_embeddings(embeddings, surface)
        if self.kernel is not None:
            features = np.hstack([features, self.kernel.features(embeddings.astype(np.float64))])
        return self.score(features)
