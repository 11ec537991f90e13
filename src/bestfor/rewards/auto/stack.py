"""Weigh members by cross-fitted predictions: least squares with a prior of equal weights.

    y_i = sum_j w_j x_ij + v_t + e_i,   v_t ~ N(0, r s2),  e ~ N(0, s2),   w >= 0,  w_j ~ N(c / M, (s c / M)^2)

Columns x_j are the shared and the own part of each of M members, over the spread of the member's whole prediction, so
that equal weights are the average of standardised predictions. All are centred within what one query asks of one fold
(see folds.compared): a level moves no pick, and a model that did not see popular texts predicts lower for them, which
would make every member look worse than nothing. v_t is what everybody makes of a text beyond all members, r by moments,
0 where hardly a text was rated for several queries. Rows of one text err together in more ways (what tastes make of it
is wrong for all who share a taste), so the curvature of the likelihood is what the spread of the held-out units' scores
says. c is the average's own regression. A row weighs 1 / (rows of its query)^1/2.

s is chosen by what weights from the other units (texts or prompts) leave of a unit's squared error: the best s, where
it beats equal weights by 2.33 standard errors over units (one in a hundred by chance), else equal weights. The marginal
likelihood chose s before; on conversations of 17 to 65 texts it preferred weights that were worse than equal ones.

Sources: Wolpert 1992 and Breiman 1996 (stacking, non-negative weights); Van der Laan, Polley & Hubbard 2007
(cross-fitting); Henderson 1953 (variance components); Chandler & Bate 2007 (curvature from clusters); Breiman,
Friedman, Olshen & Stone 1984 (choices by standard errors of held-out losses). That equal weights are hard to beat with
few data: Clemen 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from bestfor import rng as randomness
from bestfor.rewards.rows import sum_by
from bestfor.types import BoolArray, FloatArray, IntArray

SPREADS = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Candidates of s, beside 0."""
PARTS = 10
"""Parts of the units, each told by weights from the others."""
STANDARD_ERRORS = 2.33
"""By so many, other weights must beat equal ones."""
LEAST_REPEATED = 30
"""Rows of texts beyond each text's first from which on texts' effects are told from noise."""
LEAST_FACTOR = 0.05
"""Least c, on utilities of variance 1: the average is kept even where it seems to say nothing."""
_TINY = 1e-12


@dataclass(frozen=True)
class StackRows:
    """Cross-fitted rows: n rows, p columns of M members.

    Attributes:
        x: shape (n, p), predictions of members held out.
        y: shape (n,), utilities, with a variance of about 1.
        group: shape (n,), codes of what is compared, mostly rows of one query and one fold.
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
    """Weights of the columns, and how they were chosen.

    Attributes:
        weight: shape (p,), of the columns as they are.
        share: shape (M,), of each member in the combined prediction, by spread; sums to 1.
        spread: s.
        gain: share of the squared error of equal weights that is saved on held-out units; 0 with equal weights.
        sure: that difference over its standard error, the largest over s.
        text_ratio: r.
        noise: s2.
    """

    weight: FloatArray
    share: FloatArray
    spread: float
    gain: float
    sure: float
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
    weight = row_weights(rows.group)
    centred = replace(rows, x=x * scale, y=y)
    average = np.where(scale > 0, 1 / max(int(np.count_nonzero(spreads > _TINY)), 1), 0.0)
    told = centred.x @ average
    factor = max(float((weight * y) @ told) / max(float((weight * told) @ told), _TINY), LEAST_FACTOR)
    prior = factor * average
    spread, gain, sure = choose_spread(centred, weight, prior)
    sums, scales = _sums(centred, weight, prior)
    weights = posterior_weights(sums, prior, spread * prior)
    share = member_spreads(centred.x * weights, rows.member)
    share = share / max(float(share.sum()), _TINY)
    return StackWeights(weights * scale, share, spread, gain, sure, scales.ratio, scales.noise)


def choose_spread(rows: StackRows, weight: FloatArray, prior: FloatArray) -> tuple[float, float, float]:
    """Choose s by held-out units.

    Args:
        rows: centred, with columns of spread 1.
        weight: of each row.
        prior: the weights of s = 0.

    Returns:
        s, the share of squared error that it saves, and the largest difference over its standard error of any s.
    """
    unit = np.unique(rows.unit, return_inverse=True)[1]
    count = int(unit.max()) + 1
    part = randomness.derive(0, "stack").permutation(count)[unit] % min(PARTS, count)
    equal = rows.y - rows.x @ prior
    saved = np.zeros((len(SPREADS), count))
    for held in range(int(part.max()) + 1):
        out = part == held
        sums, _ = _sums(_kept(rows, ~out), weight[~out], prior)
        for place, spread in enumerate(SPREADS):
            error = (rows.y - rows.x @ posterior_weights(sums, prior, spread * prior))[out]
            saved[place] += np.bincount(unit[out], weight[out] * (equal[out] ** 2 - error**2), minlength=count)
    mean, deviation = saved.mean(axis=1), saved.std(axis=1, ddof=1) if count > 1 else np.zeros(len(SPREADS))
    sure = mean / np.maximum(deviation / np.sqrt(count), _TINY)
    best = int(np.argmax(np.where(sure >= STANDARD_ERRORS, mean, -np.inf)))
    if sure[best] < STANDARD_ERRORS or mean[best] <= 0:
        return 0.0, 0.0, float(sure.max())
    whole = float(weight @ equal**2) / count
    return SPREADS[best], float(mean[best] / max(whole, _TINY)), float(sure.max())


def _kept(rows: StackRows, kept: BoolArray) -> StackRows:
    codes = (rows.group[kept], rows.text[kept], rows.unit[kept])
    return StackRows(rows.x[kept], rows.y[kept], *codes, rows.member, rows.own)


def _sums(rows: StackRows, weight: FloatArray, prior: FloatArray) -> tuple[StackSums, Scales]:
    """Likelihood of the weights from some rows, with the variances that they show around the prior."""
    scales = Scales(weight, *text_variances(rows.y - rows.x @ prior, rows.text, weight, rows.group))
    return cluster_sums(rows.x, rows.y, rows, scales, prior), scales


def text_variances(error: FloatArray, text: IntArray, weight: FloatArray, group: IntArray) -> tuple[float, float]:
    """Ratio r of the text effect's variance to the noise's, and the latter, by moments of (weighted) means of texts.

    Copies of a text within one query have one utility, so they are one row: else they would say that there is no noise.
    """
    _, first, code = np.unique(group * (int(text.max(initial=0)) + 1) + text, return_index=True, return_inverse=True)
    heavy: FloatArray = np.asarray(np.bincount(code, weight), dtype=np.float64)
    error, text, weight = np.bincount(code, weight * error) / heavy, text[first], heavy
    count = sum_by(text, weight, int(text.max()) + 1)
    total, seen = sum_by(text, weight * error, len(count)), count > 0
    groups, rows = int(seen.sum()), len(error)
    means = float(np.sum(total[seen] ** 2 / count[seen]))
    if rows < groups + LEAST_REPEATED:
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
