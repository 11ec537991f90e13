"""Weigh members by cross-fitted predictions: least squares with a prior of equal weights.

    y_i = sum_j w_j x_ij + v_t + e_i,   v_t ~ N(0, r s2),  e ~ N(0, s2),   w >= 0,  w_j ~ N(c / M, (s c / M)^2)

Columns x_j are the shared and the own part of each of M members, over the spread of the member's whole prediction, so
that equal weights are the average of standardised predictions. All are centred within what one query asks of one fold:
a level moves no pick, and a model that did not see popular texts predicts lower for them, which would make every member
look worse than nothing. v_t is what everybody makes of a text beyond all members, r by moments. Rows of one text err
together in more ways (what tastes make of it is wrong for all who share a taste), so the curvature of the likelihood is
what the spread of the held-out units' scores says. c is the average's own regression; s maximises the marginal
likelihood: few texts leave the average as it is, many let weights differ. A row weighs 1 / (rows of its query)^1/2.

Sources: Wolpert 1992 and Breiman 1996 (stacking, non-negative weights); Van der Laan, Polley & Hubbard 2007
(cross-fitting); Henderson 1953 (variance components); Chandler & Bate 2007 (curvature from clusters); Rasmussen &
Williams 2006, section 5.4.1 (marginal likelihood). That equal weights are hard to beat with few data: Clemen 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from bestfor.rewards.rows import sum_by
from bestfor.types import BoolArray, FloatArray, IntArray

SPREADS = (0.0, 0.1, 0.2, 0.4)
"""Candidates of s."""
LEAST_FACTOR = 0.05
"""Least c, on utilities of variance 1: the average is kept even where it seems to say nothing."""
_TINY = 1e-12


@dataclass(frozen=True)
class StackRows:
    """Cross-fitted rows: n rows, p columns of M members.

    Attributes:
        x: shape (n, p), predictions of members held out.
        y: shape (n,), utilities, with a variance of about 1.
        group: shape (n,), codes of the query and the fold: what is compared.
        text: shape (n,), codes.
        unit: shape (n,), codes of what was held out together.
        member: shape (p,), whose column it is, from 0.
        own: shape (p,), whether it is a part of users.
    """

    x: FloatArray
    y: FloatArray
    group: IntArray
    text: IntArray
    unit: IntArray
    member: IntArray
    own: BoolArray


@dataclass(frozen=True)
class StackWeights:
    """StackWeights of the columns.

    Attributes:
        weight: shape (p,), of the columns as they are.
        share: shape (M,), of each member in the combined prediction, by spread; sums to 1.
        spread: s.
        gain: marginal log likelihood over equal weights.
        text_ratio: r.
        noise: s2.
    """

    weight: FloatArray
    share: FloatArray
    spread: float
    gain: float
    text_ratio: float
    noise: float


@dataclass(frozen=True)
class StackSums:
    """A quadratic log likelihood of the weights: m'w - w'Gw / 2.

    Attributes:
        gram: shape (p, p), G.
        moment: shape (p,), m.
    """

    gram: FloatArray
    moment: FloatArray


@dataclass(frozen=True)
class Scales:
    """Variances of the rows.

    Attributes:
        weight: shape (n,), of each row.
        ratio: r.
        noise: s2.
    """

    weight: FloatArray
    ratio: float
    noise: float


def centre(values: FloatArray, group: IntArray) -> FloatArray:
    """Take each group's mean away, (n,) or (n, p)."""
    count = np.maximum(np.bincount(group), 1)
    columns = [column - (np.bincount(group, column) / count)[group] for column in values.reshape(len(values), -1).T]
    return np.column_stack(columns).reshape(values.shape)


def row_weights(group: IntArray) -> FloatArray:
    """Weight of each row, shape (n,): 1 / sqrt(rows of its group), 1 on average."""
    weight = 1 / np.sqrt(np.bincount(group)[group])
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def member_spreads(x: FloatArray, member: IntArray) -> FloatArray:
    """Standard deviation of each member's whole prediction, from its centred columns; (n, p) -> (M,)."""
    whole = np.column_stack([x[:, member == code].sum(axis=1) for code in range(int(member.max()) + 1)])
    return np.asarray(np.sqrt(np.mean(whole**2, axis=0)), dtype=np.float64)


def stack(rows: StackRows) -> StackWeights:
    """Learn the weights."""
    y, x = centre(rows.y, rows.group), centre(rows.x, rows.group)
    spreads = member_spreads(x, rows.member)
    scale = np.where(spreads > _TINY, 1 / np.maximum(spreads, _TINY), 0.0)[rows.member]
    x, weight = x * scale, row_weights(rows.group)
    average = np.where(scale > 0, 1 / max(int(np.count_nonzero(spreads > _TINY)), 1), 0.0)
    told = x @ average
    factor = max(float((weight * y) @ told) / max(float((weight * told) @ told), _TINY), LEAST_FACTOR)
    prior = factor * average
    scales = Scales(weight, *text_variances(y - x @ prior, rows.text, weight))
    sums = cluster_sums(x, y, rows, scales, prior)
    found = {spread: log_evidence(sums, prior, spread * prior) for spread in SPREADS}
    best = max(found, key=lambda spread: found[spread])
    weights = posterior_weights(sums, prior, best * prior)
    parts = replace(rows, x=x * weights)
    share = member_spreads(parts.x, rows.member)
    share = share / max(float(share.sum()), _TINY)
    return StackWeights(weights * scale, share, best, found[best] - found[SPREADS[0]], scales.ratio, scales.noise)


def text_variances(error: FloatArray, text: IntArray, weight: FloatArray) -> tuple[float, float]:
    """Ratio r of the text effect's variance to the noise's, and the latter, by moments of (weighted) means of texts."""
    count = sum_by(text, weight, int(text.max()) + 1)
    total, seen = sum_by(text, weight * error, len(count)), count > 0
    groups, rows = int(seen.sum()), len(error)
    means = float(np.sum(total[seen] ** 2 / count[seen]))
    if rows <= groups + 1:
        return 0.0, max(float(np.average(error**2, weights=weight)), _TINY)
    noise = max((float(np.sum(weight * error**2)) - means) / (rows - groups), _TINY)
    return max((means - groups * noise) / max(float(count.sum()) * noise, _TINY), 0.0), noise


def cluster_sums(x: FloatArray, y: FloatArray, rows: StackRows, scales: Scales, start: FloatArray) -> StackSums:
    """Log likelihood of the weights with the curvature H J^-1 H in the place of H.

    H is the curvature of rows with the covariance V = s2 (diag(1 / weight) + r ZZ'), Z the texts; J is the sum of the
    units' squared scores near the start, plus H, so that no chance makes the labels say more than rows could.

    Args:
        x: shape (n, p), centred.
        y: shape (n,), centred.
        rows: texts and units.
        scales: of the rows.
        start: shape (p,), the prior's weights.
    """
    texts, p = int(rows.text.max()) + 1, x.shape[1]
    shrink = scales.ratio / (1 + scales.ratio * sum_by(rows.text, scales.weight, texts))

    def narrowed(values: FloatArray) -> FloatArray:
        """V^-1 times values."""
        total = sum_by(rows.text, scales.weight * values, texts)
        return scales.weight * (values - (shrink * total)[rows.text]) / scales.noise

    curvature = x.T @ np.column_stack([narrowed(column) for column in x.T])
    slope = x.T @ narrowed(y)
    bound = np.diag(1 / np.maximum(start, _TINY) ** 2)
    near = np.linalg.solve(curvature + bound, slope + bound @ start)
    error = narrowed(y - x @ near)
    units = int(rows.unit.max()) + 1
    scores = np.column_stack([sum_by(rows.unit, column * error, units) for column in x.T])
    count = len(np.unique(rows.unit))
    spread = scores.T @ scores * count / max(count - p, count / 2)
    tiny = 1e-9 * max(float(np.trace(curvature)), _TINY) * np.eye(p)
    turned = np.linalg.solve(spread + curvature + tiny, curvature).T
    return StackSums(turned @ curvature, turned @ slope)


def log_evidence(sums: StackSums, prior: FloatArray, size: FloatArray) -> float:
    """Log marginal likelihood under w ~ N(prior, diag(size^2)), without its constant."""
    moment = sums.moment - sums.gram @ prior
    matrix = np.eye(len(prior)) + size[:, None] * sums.gram * size
    pulled = size * moment
    fit = float(pulled @ np.linalg.solve(matrix, pulled))
    fixed = float(prior @ sums.moment) - 0.5 * float(prior @ sums.gram @ prior)
    return 0.5 * (fit - float(np.linalg.slogdet(matrix)[1])) + fixed


def posterior_weights(sums: StackSums, prior: FloatArray, size: FloatArray) -> FloatArray:
    """Largest posterior density over w >= 0; columns with a spread of 0 keep their prior."""
    free, found = size > 0, prior.copy()
    if free.any():
        precision = 1 / size[free] ** 2
        matrix = sums.gram[np.ix_(free, free)] + np.diag(precision)
        moment = sums.moment[free] - sums.gram[np.ix_(free, ~free)] @ prior[~free]
        lower = np.linalg.cholesky((matrix + matrix.T) / 2)
        found[free], _ = optimize.nnls(lower.T, np.linalg.solve(lower, moment + precision * prior[free]))
    return found
