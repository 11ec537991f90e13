"""Priors from other conversations: the shared mean of texts, and the covariance of users' own weights.

Features z of a text are its embedding and its style, centred within the conversation. People's votes y of a
conversation c, in units in which scores of texts have variance 1, are

    y = level_u + g_t + z_t'd_u + e,    g_t = z_t'(w + w_c) + v_t,
    w ~ N(0, T),  w_c ~ N(0, D),  v_t ~ N(0, m),  d_u ~ N(0, S),  e ~ N(0, s2),

T and D being diagonal with one variance for the embedding and one for style. w is what conversations have in common;
its share T / (T + D) is estimated by marginal likelihood on the conversations that teach (empirical Bayes, Lindley &
Smith 1972). S is learned by expectation-maximisation over the same conversations together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg, optimize, sparse

from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.rewards.features.style import STYLE, style_features
from bestfor.rewards.hierarchical.labels import CompactRows, compress_rows, pad_batches, select_users
from bestfor.rewards.hierarchical.users import UserPosteriors, fit_posteriors, means, variances
from bestfor.rewards.hierarchical.variances import Prior, evaluate, learn_scales
from bestfor.rewards.linear.pooled import fit_pool
from bestfor.rewards.rows import FeatureRows
from bestfor.types import FloatArray, IntArray

NAMES = ("embedding shared", "style shared", "embedding own", "style own", "text")
CENTRES = np.log([0.1, 0.1, 0.25, 0.1, 0.5])
"""Centres of the priors on the logarithms of the five variances, scores of texts having variance 1."""
SCORES = 0.15
"""Centre of the prior on the variance of the scores of a conversation's texts, in units of a vote's."""
SPREAD = 2.0
FLAT = 100.0
USERS = 200
"""Users of a conversation that teach S, at most."""
STRENGTH = 60.0
"""Users' worth of evidence that pulls S towards one variance for each group of features."""
ROUNDS = 15
NOTHING = 1e-8
"""Variance of weights that are not there."""


@dataclass(frozen=True)
class Scale:
    """What makes features comparable over conversations.

    Attributes:
        embedding: root mean square, over texts and dimensions, of embeddings centred within conversations.
        style: shape (len(STYLE),), the same of style features.
    """

    embedding: float
    style: FloatArray


@dataclass(frozen=True)
class Conversation:
    """Votes of one conversation, as rows and as sums over texts.

    Attributes:
        embedding: shape (t, dim), of its distinct texts, not centred.
        style: shape (t, len(STYLE)).
        user: shape (n,), codes.
        text: shape (n,), codes.
        y: shape (n,), votes less their mean, in units.
        centre: mean of the votes.
        unit: standard deviation of the scores of texts.
        noise: s2.
        level: variance of a user's level over s2.
    """

    embedding: FloatArray
    style: FloatArray
    user: IntArray
    text: IntArray
    y: FloatArray
    centre: float
    unit: float
    noise: float
    level: float

    def seen(self) -> IntArray:
        """Codes of the texts that have votes."""
        return np.unique(self.text)


def conversation(candidates: Candidates, others: Sequence[str], encoder: Encoder) -> Conversation:
    """Take labelled candidates, and further texts without votes behind them.

    Args:
        candidates: n labelled rows.
        others: texts to predict.
        encoder: of the texts.
    """
    texts = [*candidates.texts, *others]
    vectors = encoder.encode(texts).astype(np.float64)
    centre, unit = float(candidates.utility.mean()), float(candidates.utility.std()) or 1.0
    ridge = fit_pool(_few_axes(vectors, candidates), candidates).ridge
    y = (candidates.utility - centre) / unit
    rows = (candidates.user, candidates.text, y, centre, unit, ridge.noise, ridge.query / ridge.noise)
    return _in_scores(Conversation(vectors, style_features(texts), *rows))


def _in_scores(one: Conversation) -> Conversation:
    """The same conversation in units in which scores of texts have variance 1."""
    votes, texts = likelihood(one), np.eye(len(one.embedding))

    def loss(log: float) -> float:
        return -posterior(np.exp(log) * texts + FLAT, votes).evidence + 0.5 * ((log - np.log(SCORES)) / SPREAD) ** 2

    middle = np.log(SCORES)
    found: Any = optimize.minimize_scalar(loss, bounds=(middle - 4, middle + 3), method="bounded")
    root = float(np.exp(found.x / 2))
    return replace(one, y=one.y / root, unit=one.unit * root, noise=one.noise / root**2)


def _few_axes(vectors: FloatArray, candidates: Candidates, most: int = 32) -> FloatArray:
    """Principal components of the labelled texts: noise and levels are learned beside them, as `pooled` does."""
    seen = np.unique(candidates.text)
    centred = vectors[seen] - vectors[seen].mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:most]
    values = (vectors - vectors[seen].mean(axis=0)) @ axes.T
    return (values / max(float(values[seen].std()), 1e-9))[candidates.text]


def common_scale(conversations: Sequence[Conversation]) -> Scale:
    """Scale of features, every conversation counting as much."""
    embedding = [float(one.embedding[one.seen()].var(axis=0).mean()) for one in conversations]
    style = np.sqrt(np.mean([one.style[one.seen()].var(axis=0) for one in conversations], axis=0))
    return Scale(float(np.sqrt(np.mean(embedding))), np.where(style > 1e-9, style, np.inf))


def features(one: Conversation, scale: Scale) -> tuple[FloatArray, FloatArray]:
    """Embedding and style of every text, each of unit mean square over its columns together, about the seen texts."""
    seen = one.seen()
    embedding = (one.embedding - one.embedding[seen].mean(axis=0)) / scale.embedding
    style = (one.style - one.style[seen].mean(axis=0)) / scale.style
    return embedding / np.sqrt(embedding.shape[1]), style / np.sqrt(len(STYLE))


@dataclass(frozen=True)
class Likelihood:
    """exp(a'g - g'Ag / 2) of the scores g of texts: levels of users and noise summed out.

    Attributes:
        precision: A, shape (t, t).
        linear: a, shape (t,).
    """

    precision: FloatArray
    linear: FloatArray

    def root(self) -> FloatArray:
        """L of A = LL'."""
        values, vectors = np.linalg.eigh(self.precision)
        return vectors * np.sqrt(np.maximum(values, 0.0))


def likelihood(one: Conversation) -> Likelihood:
    """Sum the votes of a conversation up over its texts."""
    users, texts = int(one.user.max()) + 1, len(one.embedding)
    by = sparse.csr_array((np.ones(len(one.y)), (one.user, one.text)), shape=(users, texts))
    count = np.asarray(by.sum(axis=1)).ravel()
    shrink = one.level / (1 + one.level * count)
    total = np.bincount(one.user, one.y, minlength=users)
    scaled = by.multiply(np.sqrt(shrink)[:, None]).tocsr()
    precision = np.diag(np.bincount(one.text, minlength=texts).astype(np.float64)) - (scaled.T @ scaled).toarray()
    linear = np.bincount(one.text, one.y, minlength=texts) - by.T @ (shrink * total)
    return Likelihood(precision / one.noise, linear / one.noise)


@dataclass(frozen=True)
class Kernels:
    """Covariances of the scores of many conversations' texts, one matrix for each of the five variances."""

    parts: tuple[FloatArray, ...]
    flat: FloatArray

    def whole(self, variances: FloatArray) -> FloatArray:
        """Prior covariance of all scores."""
        total = FLAT * self.flat
        for variance, part in zip(variances, self.parts, strict=True):
            total = total + variance * part
        return total


def kernels(zs: Sequence[tuple[FloatArray, FloatArray]]) -> Kernels:
    """Covariances of the texts of some conversations, one behind the other."""
    group = np.repeat(np.arange(len(zs)), [len(z[0]) for z in zs])
    same = (group[:, None] == group).astype(np.float64)
    embedding, style = (np.vstack([z[place] for z in zs]) for place in (0, 1))
    near, alike = embedding @ embedding.T, style @ style.T
    return Kernels((near, alike, near * same, alike * same, np.eye(len(group))), same)


@dataclass(frozen=True)
class Posterior:
    """Posterior of scores under a prior covariance K: K W K is what the votes take off it.

    Attributes:
        evidence: log marginal likelihood, up to what depends on the votes alone.
        pull: shape (t,), the mean is K pull.
        weight: W, shape (t, t).
    """

    evidence: float
    pull: FloatArray
    weight: FloatArray


def posterior(covariance: FloatArray, votes: Likelihood, mean: FloatArray | None = None) -> Posterior:
    """Condition scores of prior N(mean, covariance) on votes (Rasmussen & Williams 2006, section 3.4)."""
    root, known = votes.root(), votes.linear
    shift = 0.0
    if mean is not None:
        known = votes.linear - votes.precision @ mean
        shift = float(votes.linear @ mean - 0.5 * mean @ votes.precision @ mean)
    factor = linalg.cho_factor(np.eye(len(root)) + root.T @ covariance @ root, lower=True)
    weight = root @ linalg.cho_solve(factor, root.T)
    pull = known - weight @ (covariance @ known)
    log_det = 2 * float(np.sum(np.log(np.diag(factor[0]))))
    return Posterior(0.5 * (float(known @ covariance @ pull) - log_det) + shift, pull, weight)


def learn_shares(kernel: Kernels, votes: Likelihood, free: Sequence[int] = range(5)) -> tuple[FloatArray, float]:
    """Five variances by marginal likelihood with weak priors, and the log-evidence there.

    Args:
        kernel: of all texts.
        votes: on all texts.
        free: which variances there are; the others are 0.
    """
    kept = list(free)
    used = [kernel.parts[place] for place in kept]

    def loss(logs: FloatArray) -> tuple[float, FloatArray]:
        variances = np.zeros(5)
        variances[kept] = np.exp(logs)
        found = posterior(kernel.whole(variances), votes)
        slopes = [0.5 * (found.pull @ part @ found.pull - np.sum(found.weight * part)) for part in used]
        away = logs - CENTRES[kept]
        return (
            -found.evidence + 0.5 * float(away @ away) / SPREAD**2,
            -variances[kept] * np.array(slopes) + away / SPREAD**2,
        )

    found = optimize.minimize(loss, CENTRES[kept], jac=True, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-6})
    variances = np.zeros(5)
    variances[kept] = np.exp(found.x)
    return variances, -float(found.fun)


def joined(votes: Sequence[Likelihood]) -> Likelihood:
    """Votes of several conversations as one."""
    precision = linalg.block_diag(*(one.precision for one in votes))
    return Likelihood(precision, np.concatenate([one.linear for one in votes]))


@dataclass(frozen=True)
class SharedPrior:
    """What other conversations say of w.

    Attributes:
        scale: of the features.
        variances: the five, of :data:`NAMES`.
        mean: shape (dim + len(STYLE),), of w.
        covariance: shape (dim + len(STYLE),) * 2, of w.
    """

    scale: Scale
    variances: FloatArray
    mean: FloatArray
    covariance: FloatArray

    def of(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance of z'w."""
        return z @ self.mean, z @ self.covariance @ z.T


def learn_shared(teachers: Mapping[str, Conversation]) -> SharedPrior:
    """Learn what conversations have in common."""
    scale = common_scale(list(teachers.values()))
    zs = [features(one, scale) for one in teachers.values()]
    votes = joined([likelihood(one) for one in teachers.values()])
    kernel = kernels(zs)
    variances, _ = learn_shares(kernel, votes)
    found = posterior(kernel.whole(variances), votes)
    z = np.hstack([np.vstack([one[place] for one in zs]) for place in (0, 1)])
    wide = np.repeat(variances[:2], [zs[0][0].shape[1], len(STYLE)])
    reach = z * wide
    return SharedPrior(scale, variances, reach.T @ found.pull, np.diag(wide) - reach.T @ found.weight @ reach)


def whole_features(one: Conversation, scale: Scale) -> FloatArray:
    """Embedding and style of every text side by side, shape (t, dim + len(STYLE))."""
    return np.hstack(features(one, scale))


def residual_rows(one: Conversation, score: FloatArray, columns: FloatArray) -> tuple[CompactRows, IntArray, float]:
    """Votes without the scores of their texts, as rows on features and an intercept: the user's level.

    Args:
        one: n votes.
        score: shape (t,), of its texts.
        columns: shape (t, p), features of its texts.

    Returns:
        Compact rows in units of the residuals' standard deviation, the code of each of their users, and that unit.
    """
    order = np.argsort(one.user, kind="stable")
    z = np.column_stack([columns, np.ones(len(columns))]).astype(np.float32)
    users, user = np.unique(one.user[order], return_inverse=True)
    rest = (one.y - score[one.text])[order]
    unit = float(rest.std())
    rows = FeatureRows(z[one.text[order]], rest / unit, user, user)
    return compress_rows(rows, np.ones(len(user)), levels=False), users, unit


def learn_tastes(teachers: Mapping[str, Conversation], scale: Scale, variances: FloatArray) -> FloatArray:
    """Learn S over conversations together, shape (p, p); the last column is the intercept.

    Args:
        teachers: conversations; so many of the users of each count as :data:`USERS` says.
        scale: of the features.
        variances: the five, by which texts are scored.
    """
    rows: dict[str, CompactRows] = {}
    for name, one in teachers.items():
        data, _, _ = residual_rows(one, scored(one, scale, variances), whole_features(one, scale))
        rows[name] = some_users(data, USERS)
    groups = group_codes(next(iter(teachers.values())))
    covariance, noise = np.diag(np.array([0.15, 0.03, 0.1])[groups]), dict.fromkeys(rows, 0.8)
    total = sum(len(data.ends) - 1 for data in rows.values())
    parts = {name: list(pad_batches(data)) for name, data in rows.items()}
    for _ in range(ROUNDS):
        gradient = np.zeros_like(covariance)
        for name, data in rows.items():
            found = evaluate(data, parts[name], Prior(covariance, np.full(len(groups), NOTHING), noise[name], 0.0))
            gradient += found.deviation_gradient
            left = found.rows * noise[name] + noise[name] ** 2 * found.noise_gradient + data.rest
            noise[name] = left / data.labels
        moment = covariance + covariance @ (gradient / total) @ covariance
        flat = (np.bincount(groups, np.diag(moment)) / np.bincount(groups))[groups]
        weight = STRENGTH / (STRENGTH + total)
        covariance = (1 - weight) * (moment + moment.T) / 2 + weight * np.diag(np.maximum(flat, NOTHING))
    return covariance


def group_codes(one: Conversation) -> IntArray:
    """Group of each column: embedding, style, intercept."""
    return np.repeat([0, 1, 2], [one.embedding.shape[1], len(STYLE), 1])


def some_users(data: CompactRows, most: int) -> CompactRows:
    """So many users at most, spread evenly."""
    users = len(data.ends) - 1
    return data if users <= most else select_users(data, np.linspace(0, users - 1, most).astype(np.int64))


def scored(one: Conversation, scale: Scale, variances: FloatArray) -> FloatArray:
    """Posterior mean scores of a conversation's texts by its own votes and these variances."""
    whole = kernels([features(one, scale)]).whole(variances)
    return whole @ posterior(whole, likelihood(one)).pull


@dataclass(frozen=True)
class Tastes:
    """What users of a conversation differ in.

    Attributes:
        share: share of S that is the other conversations'; the rest is one variance for each group of features.
        evidence: log density of the residuals.
        posteriors: of users, in units of the residuals.
        columns: shape (t, p), the features behind them.
        users: codes of the users.
        unit: of the residuals.
    """

    share: float
    evidence: float
    posteriors: UserPosteriors
    columns: FloatArray
    users: IntArray
    unit: float

    def of(self, text: IntArray, user: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of users' own part and level, in scores' units, of rows; -1 for a user without votes."""
        z = np.column_stack([self.columns, np.ones(len(self.columns))])[text]
        place = np.full(max(int(user.max()), int(self.users.max())) + 2, -1)
        place[self.users] = np.arange(len(self.users))
        codes = place[user]
        mean = np.zeros(len(z))
        mean[codes >= 0] = means(self.posteriors.weights, z[codes >= 0], codes[codes >= 0])
        return self.unit * mean, self.unit**2 * variances(self.posteriors, z, codes)

    @property
    def noise(self) -> float:
        """Variance of a vote's noise, in scores' units."""
        return self.unit**2 * self.posteriors.prior.noise


def fit_tastes(one: Conversation, score: FloatArray, z: FloatArray, covariance: FloatArray, share: float) -> Tastes:
    """Fit users' own weights under a mixture of an isotropic S and that of other conversations.

    The scale of S, levels and noise are learned from the conversation's own votes.

    Args:
        one: the votes.
        score: shape (t,), of its texts.
        z: shape (t, p), features of its texts.
        covariance: shape (p + 1, p + 1), S of the others with the intercept.
        share: of it in the mixture; the rest is its mean variance for embedding and for style.
    """
    groups = group_codes(one)
    flat = (np.bincount(groups, np.diag(covariance)) / np.bincount(groups))[groups][:-1]
    mixed = share * covariance[:-1, :-1] + (1 - share) * np.diag(flat)
    values, vectors = np.linalg.eigh(z @ mixed @ z.T)
    kept = values > 1e-4 * values.max()
    columns = vectors[:, kept] * np.sqrt(values[kept])
    columns *= np.sqrt(kept.sum() / np.mean(np.sum(columns[one.seen()] ** 2, axis=1)))
    data, users, unit = residual_rows(one, score, columns)
    sorts = np.repeat([0, 1], [columns.shape[1], 1])
    prior = learn_scales(some_users(data, USERS), sorts)
    prior = replace(prior, shared=np.full(len(sorts), NOTHING))
    some = some_users(data, 3 * USERS)
    evidence = evaluate(some, list(pad_batches(some)), prior).evidence
    return Tastes(share, evidence, fit_posteriors(data, prior), columns, users, unit)


def style_of(teachers: Mapping[str, Conversation]) -> dict[str, object]:
    """What a file of :mod:`bestfor.rewards.style_prior` holds of these conversations, without hashes of texts.

    Embeddings' weights are each conversation's own; all variances by marginal likelihood of all conversations together.
    """
    scale = common_scale(list(teachers.values()))
    zs = {name: features(one, scale) for name, one in teachers.items()}
    votes = {name: likelihood(one) for name, one in teachers.items()}
    kernel, joint = kernels(list(zs.values())), joined(list(votes.values()))
    shared, with_it = learn_shares(kernel, joint, (1, 2, 3, 4))
    _, without = learn_shares(kernel, joint, (2, 3, 4))
    rest = np.array([0, 0, *shared[2:]])
    taught = []
    for name, z in zs.items():
        found, style = posterior(kernels([z]).whole(rest), votes[name]), z[1] * np.sqrt(len(STYLE))
        taught.append({"name": name, "precision": style.T @ found.weight @ style, "linear": style.T @ found.pull})
    return {"width": scale.style, "variance": shared[1], "evidence": with_it - without, "conversations": taught}
