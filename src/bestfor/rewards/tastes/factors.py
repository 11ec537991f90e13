"""Learn latent tastes with a Gaussian process on texts, by variational Bayes over all users' labels together.

    y = m + h_0(t) + a_u'h(t) + b_q + e,   a_u ~ N(0, I),  b_q ~ N(0, t_b),  e ~ N(0, s2),
    h_j ~ GP(0, v_j (K + n_j I))

Column j of h says what taste j makes of every text, h_0 what everybody does. K lets texts speak for unseen ones that
mean the like, n_j is what an embedding cannot tell. q(a_u, b) and each q(h_j) are normal and updated in
turn, the latter as :mod:`bestfor.rewards.tastes.priors` says.

What users share is then h (:class:`ItemTastes`); each user's own part given h is in
:mod:`bestfor.rewards.tastes.person`.

Sources: Salakhutdinov & Mnih 2008 and Lim & Teh 2007 (Bayesian factors), Zhou, Shan, Banerjee & Sapiro 2012 (kernel
prior on factors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from bestfor import rng as random
from bestfor.progress import Progress
from bestfor.rewards.rows import sum_by
from bestfor.rewards.tastes.priors import DensePrior, ItemPrior
from bestfor.types import FloatArray, IntArray

POWER_STEPS = 6
JITTER = 1e-6
PATIENCE = 5.0
"""Seconds of rounds before a bar is drawn."""
FLOOR = 1e-6


@dataclass(frozen=True)
class Votes:
    """Labels by query and item (a text, or a text under an input), duplicates summed.

    Attributes:
        present: shape (queries, items), how many labels.
        total: shape (queries, items), their sum.
        by_user: shape (users, queries), which queries are whose.
        owner: shape (queries,), user of each query.
        square: sum of squared labels.
    """

    present: sparse.csr_array
    total: sparse.csr_array
    by_user: sparse.csr_array
    owner: IntArray
    square: float


@dataclass(frozen=True)
class TasteFactors:
    """Posterior of users, levels and items; k tastes.

    Attributes:
        taste: shape (users, k), mean of a_u.
        spread: shape (users, k, k), covariance of a_u.
        level: shape (queries,), mean of b_q.
        level_variance: shape (queries,).
        cross: shape (queries, k), covariance of b_q with its user's a.
        item: shape (items, k + 1), mean of h; column 0 is h_0.
        item_variance: shape (items, k + 1).
        scale: shape (k + 1,), v_j.
        noise: s2.
        level_scale: t_b.
    """

    taste: FloatArray
    spread: FloatArray
    level: FloatArray
    level_variance: FloatArray
    cross: FloatArray
    item: FloatArray
    item_variance: FloatArray
    scale: FloatArray
    noise: float
    level_scale: float

    def shared(self) -> ItemTastes:
        """Give what users share."""
        return ItemTastes(
            self.item, self.item_variance, self.scale, self.noise, self.level_scale, fitted=len(self.item)
        )


@dataclass(frozen=True)
class ItemTastes:
    """Posterior of h at n items: what users share; column 0 is h_0, k tastes follow.

    Attributes:
        mean: shape (n, k + 1).
        variance: shape (n, k + 1).
        scale: shape (k + 1,), v_j.
        noise: s2.
        level_scale: t_b.
        fitted: number of items that were fitted; those that came later predict no others.
    """

    mean: FloatArray
    variance: FloatArray
    scale: FloatArray
    noise: float
    level_scale: float
    fitted: int

    def extend(self, mean: FloatArray, variance: FloatArray) -> ItemTastes:
        """Add further items as predicted from their vectors."""
        return replace(self, mean=np.vstack([self.mean, mean]), variance=np.vstack([self.variance, variance]))


def learn_item_tastes(
    votes: tuple[FloatArray, IntArray, IntArray, IntArray],
    priors: Sequence[ItemPrior],
    sizes: tuple[int, int],
    *,
    rng: int,
) -> ItemTastes:
    """Learn what users share by variational Bayes over users and items.

    Args:
        votes: centred labels with contiguous codes of user, query and item, each of shape (n,).
        priors: of h_0 and of the tastes.
        sizes: number of tastes and of rounds.
        rng: seed of the start.
    """
    return fit_tastes(build_votes(*votes), priors, *sizes, rng=rng).shared()


def dense_priors(near: FloatArray, noises: tuple[float, float]) -> list[DensePrior]:
    """Exact priors of h_0 and of the tastes: K + n_0 I and K + n_j I, each (items, items)."""
    return [DensePrior(near + max(noise, JITTER) * np.eye(len(near))) for noise in noises]


def build_votes(y: FloatArray, user: IntArray, query: IntArray, item: IntArray) -> Votes:
    """Sum rows with contiguous codes into votes; a query belongs to one user."""
    shape = (int(query.max()) + 1, int(item.max()) + 1)
    owner = np.zeros(shape[0], dtype=np.int64)
    owner[query] = user
    present = sparse.csr_array((np.ones(len(y)), (query, item)), shape=shape)
    total = sparse.csr_array((y, (query, item)), shape=shape)
    by_user = sparse.csr_array((np.ones(shape[0]), (owner, np.arange(shape[0]))), shape=(int(user.max()) + 1, shape[0]))
    return Votes(present, total, by_user, owner, float(y @ y))


def fit_tastes(votes: Votes, priors: Sequence[ItemPrior], tastes: int, rounds: int, *, rng: int) -> TasteFactors:
    """Fit all factors by variational Bayes from a spectral start.

    Args:
        votes: centred labels.
        priors: of h_0 and of the tastes.
        tastes: k; unused ones fade out.
        rounds: turns of users and items.
        rng: seed of the start's random projection.
    """
    state = spectral_start(votes, tastes, rng)
    with Progress(f"tastes of {state.item.shape[0]} texts, rounds", rounds, after=PATIENCE) as progress:
        for _ in range(rounds):
            state = update_users(votes, state)
            state = standardise(votes, state)
            state = _update_items(votes, state, priors)
            progress.advance()
    return update_users(votes, state)


def spectral_start(votes: Votes, tastes: int, seed: int) -> TasteFactors:
    """Start with h_0 from text means, tastes from singular vectors of the rest (randomised subspace iteration)."""
    users, queries = int(votes.owner.max()) + 1, len(votes.owner)
    counts = np.asarray(votes.present.sum(axis=0))
    general = np.asarray(votes.total.sum(axis=0)) / (counts + 1)
    remains = left_over(votes, general)
    basis = first_basis(len(counts), tastes, seed)
    for _ in range(POWER_STEPS):
        basis = np.linalg.qr(remains.T @ (remains @ basis))[0] if tastes else basis
    strength = np.linalg.norm(remains @ basis, axis=0)
    shared = start_of(general, basis, strength, tastes, (users, float(counts.sum()), votes.square))
    return TasteFactors(
        taste=np.zeros((users, tastes)),
        spread=np.zeros((users, tastes, tastes)),
        level=np.zeros(queries),
        level_variance=np.zeros(queries),
        cross=np.zeros((queries, tastes)),
        item=shared.mean,
        item_variance=shared.variance,
        scale=shared.scale,
        noise=shared.noise,
        level_scale=shared.level_scale,
    )


def left_over(votes: Votes, general: FloatArray) -> sparse.csr_array:
    """Sum each user's labels of each item beyond what everybody makes of it, shape (users, items)."""
    return sparse.csr_array(votes.by_user @ (votes.total - votes.present @ sparse.diags_array(general)))


def first_basis(items: int, tastes: int, seed: int) -> FloatArray:
    """Draw the directions from which the start is sought, shape (items, k)."""
    return random.derive(seed, "tastes").normal(size=(items, tastes))


def start_of(
    general: FloatArray, basis: FloatArray, norms: FloatArray, tastes: int, labels: tuple[int, float, float]
) -> ItemTastes:
    """Make the start of what the spectrum of the labels says.

    Args:
        general: shape (items,), mean of every item.
        basis: shape (items, at most k), directions of the rest.
        norms: of the rest in these directions.
        tastes: k.
        labels: number of users and of labels, and the labels' sum of squares.
    """
    users, count, square = labels
    strength = norms / np.sqrt(users)
    filled = np.sqrt(max(count / (users * len(general)), FLOOR))
    item = np.column_stack([general, np.zeros((len(general), tastes))])
    item[:, 1 : 1 + basis.shape[1]] = basis * strength / filled
    size = max(square / max(count, 1.0), FLOOR)
    variance, scale = np.full(item.shape, 0.01 * size), np.full(tastes + 1, 0.05 * size)
    return ItemTastes(item, variance, scale, 0.5 * size, 0.05 * size, len(general))


def update_users(votes: Votes, state: TasteFactors) -> TasteFactors:
    """Update q(a_u, b) given q(h): the levels are summed out, then recovered."""
    mean, variance = state.item[:, 1:], state.item_variance[:, 1:]
    k = mean.shape[1]
    second = mean[:, :, None] * mean[:, None, :]
    second[:, np.arange(k), np.arange(k)] += variance
    counts = votes.present.sum(axis=1)
    ratio = state.level_scale / state.noise
    shrink = ratio / (1 + ratio * counts)
    reach = votes.present @ mean
    rest = votes.total.sum(axis=1) - votes.present @ state.item[:, 0]
    moment = votes.total @ mean - votes.present @ (state.item[:, :1] * mean)
    by_item = votes.by_user @ votes.present
    gram = by_item @ second.reshape(len(mean), k * k)
    gram -= votes.by_user @ _outer(reach * np.sqrt(shrink)[:, None]).reshape(len(reach), k * k)
    gram = gram.reshape(len(gram), k, k)
    spread = np.linalg.inv(np.eye(k) + gram / state.noise)
    right = votes.by_user @ (moment - (shrink * rest)[:, None] * reach) / state.noise
    taste = np.einsum("uij,uj->ui", spread, right)
    owner = votes.owner
    level = shrink * (rest - np.sum(reach * taste[owner], axis=1))
    cross = -shrink[:, None] * np.einsum("qij,qj->qi", spread[owner], reach)
    own = state.noise * shrink - shrink * np.sum(cross * reach, axis=1)
    return replace(state, taste=taste, spread=spread, level=level, level_variance=own, cross=cross)


def standardise(votes: Votes, state: TasteFactors) -> TasteFactors:
    """Move means into h_0 and give tastes unit covariance: the same fit, a faster climb."""
    voters = sum_by(votes.owner, np.asarray(votes.present.sum(axis=1), dtype=np.float64), len(state.taste)) > 0
    centre = state.taste[voters].mean(axis=0)
    item = state.item.copy()
    item[:, 0] += item[:, 1:] @ centre + state.level.mean()
    taste, level = state.taste - centre, state.level - state.level.mean()
    level_scale = max(float(np.mean(level**2 + state.level_variance)), FLOOR)
    if len(centre):
        moment = taste[voters].T @ taste[voters] / voters.sum() + state.spread[voters].mean(axis=0)
        item[:, 1:], change = unit_tastes(item[:, 1:], moment)
        taste, cross = taste @ change, state.cross @ change
        state = replace(state, spread=change.T @ state.spread @ change, cross=cross)
    return replace(state, taste=taste, level=level, item=item, level_scale=level_scale)


def unit_tastes(item: FloatArray, moment: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Turn tastes so that their second moment is 1 and what they make of items is orthogonal, the widest first.

    Args:
        item: shape (items, k), mean of h without h_0.
        moment: shape (k, k), mean of a_u a_u' over users.

    Returns:
        The items' new means, and the matrix C by which a_u becomes C'a_u, shape (k, k).
    """
    root = np.linalg.cholesky(moment + FLOOR * np.eye(len(moment)))
    scaled = item @ root
    _, turn = np.linalg.eigh(scaled.T @ scaled)
    turn = turn[:, ::-1]
    change: Any = np.linalg.solve(root, np.eye(len(moment))).T @ turn
    return scaled @ turn, change


@dataclass(frozen=True)
class ItemSums:
    """Sums over users' labels that q(h_j) and the noise need, w_u = (1, a_u).

    Attributes:
        gram: shape (items, k + 1, k + 1), sum of E[w w'] over an item's labels.
        linear: shape (items, k + 1), sum of E[w (y - b_q)].
        answered: sum of y E[b_q] over labels.
        levels: sum of E[b_q^2] over labels.
        square: sum of y^2.
        labels: how many.
    """

    gram: FloatArray
    linear: FloatArray
    answered: float
    levels: float
    square: float
    labels: float


def sum_items(votes: Votes, state: TasteFactors) -> ItemSums:
    """Sum up what users' labels say of items, given q(a, b)."""
    weights = np.column_stack([np.ones(len(state.taste)), state.taste])
    columns = weights.shape[1]
    second = _outer(weights)
    second[:, 1:, 1:] += state.spread
    per_user = votes.by_user @ votes.present
    gram = (per_user.T @ second.reshape(len(second), columns**2)).reshape(-1, columns, columns)
    with_level = weights[votes.owner] * state.level[:, None]
    with_level[:, 1:] += state.cross
    linear = (votes.by_user @ votes.total).T @ weights - votes.present.T @ with_level
    counts = votes.present.sum(axis=1)
    answered = float(votes.total.sum(axis=1) @ state.level)
    levels = float(counts @ (state.level**2 + state.level_variance))
    return ItemSums(gram, linear, answered, levels, votes.square, float(counts.sum()))


def update_items(shared: ItemTastes, sums: ItemSums, priors: Sequence[ItemPrior]) -> ItemTastes:
    """Update q(h_j) column by column given the users' sums, then every variance."""
    gram, linear = sums.gram, sums.linear
    item, variance, scale = shared.mean.copy(), shared.variance.copy(), shared.scale.copy()
    for j in range(item.shape[1]):
        prior = priors[min(j, 1)]
        precision = np.maximum(gram[:, j, j], FLOOR) / shared.noise
        others = np.sum(gram[:, j] * item, axis=1) - gram[:, j, j] * item[:, j]
        pull = (linear[:, j] - others) / shared.noise
        item[:, j], variance[:, j], trace = prior.posterior(float(scale[j]), precision, pull)
        scale[j] = max((prior.energy(item[:, j]) + trace) / len(item), FLOOR)
    return replace(shared, mean=item, variance=variance, scale=scale, noise=_noise_variance(sums, item, variance))


def _update_items(votes: Votes, state: TasteFactors, priors: Sequence[ItemPrior]) -> TasteFactors:
    found = update_items(state.shared(), sum_items(votes, state), priors)
    return replace(state, item=found.mean, item_variance=found.variance, scale=found.scale, noise=found.noise)


def _noise_variance(sums: ItemSums, item: FloatArray, variance: FloatArray) -> float:
    total = sums.square - 2 * sums.answered
    total += sums.levels - 2 * float(np.sum(sums.linear * item))
    total += float(np.einsum("ti,tij,tj->", item, sums.gram, item))
    total += float(np.sum(np.diagonal(sums.gram, axis1=1, axis2=2) * variance))
    return max(total / sums.labels, FLOOR)


def _outer(values: FloatArray) -> FloatArray:
    return values[:, :, None] * values[:, None, :]
