"""Compute intervals of ratios of means, clustered by user, or by user and text; over one data set or the mean of folds.

The estimate of a fold is theta = a / b, with a and b linear forms in its means. When user u leaves, theta moves by
D_u = (a_u - theta b_u) / (b - b_u), exactly; likewise D_t when a text leaves. With U users the jackknife's
V_users = (U-1)/U sum D_u^2; for theta = a mean over users this is the t interval on user means. Where users share texts

    V = V_users + V_texts - V_cells

since the noise of one text in one pool is counted among users and among texts (two-way clustering after Cameron,
Gelbach & Miller 2011, and Owen 2007). The quantile is Student's with Welch and Satterthwaite's degrees of freedom over
the two. Simulated coverage of 95 % intervals is checked in tests/diagnostics/intervals/test_clustered_coverage.py.

Bootstrap intervals draw users again with replacement; they need no linearisation and may be lopsided. A resample counts
user u c_u times. Every mean is a sum over users, so each resample's means are c' X with X the users' shares: the
resamples work on these sufficient statistics and never on candidates, and all numbers see the same draws. The interval
is BCa (Efron 1987): with z0 the normal quantile of the share of resamples below the estimate and a = sum D^3 / (6 (sum
D^2)^1.5) from the exact changes D_u when a user leaves, its ends are the quantiles at

    Phi(z0 + (z0 + z) / (1 - a (z0 + z)))       z = -+ sqrt(U / (U - 1)) t_{U-1}(level)

where t in place of the normal quantile makes up for the bootstrap's variance being too small by (U - 1) / U and for few
users (Hesterberg 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Generic, TypeAlias

import numpy as np
from scipy import special

from bestfor.diagnostics.intervals.influence import Influences, Texts
from bestfor.diagnostics.intervals.means import LinearForm, Mean
from bestfor.moved import renamed
from bestfor.rng import derive
from bestfor.types import Estimate, FloatArray, IntArray

__getattr__ = renamed(__name__, {"Form": "LinearForm"})


FEWEST_USERS = 5
"""Users that carry an estimate, at least: of fewer, and of rare successes above all, intervals hold too seldom."""

FEWEST_EQUAL = 3.0
"""Users of equal weight that the estimate must be worth: one with 80 % of the queries makes it 1.5."""

FEWEST_MOVERS = 1.5
"""Users of equal influence that its variance must rest on: a single success among many makes it 1."""

CELLS = 1 << 22
"""Counts that are held at a time: resamples x users."""

ROUNDING = 1e-13
"""Sums that cancel to less than this share of their terms are 0."""


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap over users.

    Attributes:
        resamples: how often.
        seed: of the draws.
    """

    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Spread:
    """An estimate with its variance and degrees of freedom.

    Attributes:
        value: the ratio, averaged over the folds; NaN where a denominator is 0.
        variance: of the estimate; NaN where fewer than two users carry it.
        freedom: degrees of freedom that belong to the variance.
        users: how many users carry the estimate.
        of_texts: the part of the variance that more users would not take away.
        moves: shape (users,), how far the estimate moves when each of them leaves.
        equal: how many users of equal weight they are worth.
        unlike: users whose part of the numerator is not 0.
    """

    value: float
    variance: float
    freedom: float
    users: int
    of_texts: float = 0.0
    moves: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    equal: float = 0.0
    unlike: int = 0

    @property
    def enough(self) -> bool:
        """Say if so many users carry it, and none of them so much, that an interval holds."""
        if not np.isfinite(self.variance) or self.users < FEWEST_USERS or self.equal < FEWEST_EQUAL:
            return False
        if 0 < self.unlike < FEWEST_USERS:
            return False
        squares = self.moves**2
        return not squares.any() or float(squares.sum()) ** 2 >= FEWEST_MOVERS * float((squares**2).sum())


Terms: TypeAlias = Sequence[tuple[float, LinearForm[Mean], LinearForm[Mean]]]
"""A linear combination of ratios: factor, numerator and denominator of each."""


class Panel(Generic[Mean]):
    """Influences of several folds with users and texts matched by id, so that any ratio of means gets an interval."""

    def __init__(
        self, folds: Sequence[Influences[Mean]], level: float = 0.95, resampling: Resampling | None = None
    ) -> None:
        """Match users and texts.

        Args:
            folds: one data set, or several whose estimates are averaged.
            level: nominal coverage of the intervals.
            resampling: bootstrap intervals over users in place of t intervals; texts do not count as random then.
        """
        self.folds = tuple(folds)
        self.level = level
        self.resampling = resampling
        self._resamples: list[FloatArray] | None = None
        self._sizes = [np.abs(fold.users).sum(axis=0) for fold in self.folds]
        self.users, self._user_maps = _match([fold.user_ids for fold in self.folds])
        texts = [() if fold.texts is None else fold.texts.ids for fold in self.folds]
        self.texts, self._text_maps = _match(texts)

    @property
    def two_way(self) -> bool:
        """True where texts count as random too."""
        return self.resampling is None and any(fold.texts is not None for fold in self.folds)

    @property
    def clusters(self) -> str:
        """Clusters that intervals count as random, in words."""
        return "users, bootstrap" if self.resampling else "two-way users x texts" if self.two_way else "users"

    def value(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean]) -> float:
        """Compute the ratio of two forms, averaged over the folds; NaN where a denominator is 0."""
        pairs = [(fold, fold.form(numerator), fold.form(denominator)) for fold in self.folds]
        return float(np.mean([_ratio(fold, a, b, size) for (fold, a, b), size in zip(pairs, self._sizes, strict=True)]))

    def pooled(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean]) -> float:
        """Compute the ratio of the sums over all folds, for what not every fold has; NaN where the denominator is 0."""
        above = sum(float(fold.total @ fold.form(numerator)) for fold in self.folds)
        below = sum(float(fold.total @ fold.form(denominator)) for fold in self.folds)
        return above / below if below != 0 else float("nan")

    def at_level(self, level: float) -> Panel[Mean]:
        """Give the same means with intervals of another level."""
        return self if level == self.level else Panel(self.folds, level, self.resampling)

    def joined(self) -> Panel[Mean]:
        """Add the folds up, for ratios of sums over all folds (:meth:`pooled`)."""
        users = np.zeros((len(self.users), len(self.folds[0].columns)))
        effect, cells = np.zeros((len(self.texts), users.shape[1])), np.zeros((users.shape[1], users.shape[1]))
        for fold, place, texts in zip(self.folds, self._user_maps, self._text_maps, strict=True):
            users[place] += fold.users
            if fold.texts is not None:
                effect[texts] += fold.texts.effect
                cells += fold.texts.cells
        found = Texts(tuple(self.texts), effect, cells) if len(self.texts) else None
        whole = Influences(self.folds[0].columns, users.sum(axis=0), tuple(self.users), users, found)
        return Panel([whole], self.level, self.resampling)

    def spread(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean]) -> Spread:
        """Compute the ratio of two forms with its variance.

        Args:
            numerator: coefficients of a.
            denominator: coefficients of b.
        """
        return self.spread_of(((1.0, numerator, denominator),))

    def spread_of(self, terms: Terms[Mean]) -> Spread:
        """Compute a linear combination of ratios with its variance; what moves several of them counts in all at once.

        Args:
            terms: factor, numerator and denominator of each ratio.
        """
        user, text, own = np.zeros(len(self.users)), np.zeros(len(self.texts)), np.zeros(len(self.users))
        two_way = self.two_way
        carried, unlike = (np.zeros(len(self.users), dtype=np.bool_) for _ in range(2))
        values: list[float] = []
        cells = 0.0
        matched = zip(self.folds, self._user_maps, self._text_maps, self._sizes, strict=True)
        for fold, users, texts, size in matched:
            value, whole, scale = 0.0, np.zeros(len(fold.columns)), 0.0
            for factor, numerator, denominator in terms:
                a, b = fold.form(numerator), fold.form(denominator)
                theta = _ratio(fold, a, b, size)
                value += factor * theta
                if not np.isfinite(theta):
                    continue
                difference, weight = factor * (a - theta * b), float(fold.total @ b)
                scale = scale or weight
                whole += difference * (scale / weight)
                user[users] += _moves(fold.users, difference, b, weight)
                own[users] += fold.users @ b / weight
                unlike[users] |= np.abs(fold.users @ a) > ROUNDING * (np.abs(fold.users) @ np.abs(a))
                carried[users] |= (fold.users @ np.abs(b) > 0) | (fold.users @ np.abs(a) != 0)
                if two_way and fold.texts is not None:
                    text[texts] += _moves(fold.texts.effect, difference, b, weight)
            values.append(value)
            if two_way and fold.texts is not None and scale:
                cells += float(whole @ fold.texts.cells @ whole) / scale**2
        value, folds, count = float(np.mean(values)), len(self.folds), int(carried.sum())
        if count < 2 or not np.isfinite(value):
            return Spread(value, float("nan"), 0.0, count)
        moves = user[carried] / folds
        by_user = (count - 1) / count * float((user**2).sum()) / folds**2
        variance, freedom = _two_way(by_user, count - 1.0, text / folds, cells / folds**2)
        equal = float(own.sum()) ** 2 / float((own**2).sum())
        return Spread(value, variance, freedom, count, variance - by_user, moves, equal, int(unlike.sum()))

    def users_needed(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean], half_width: float) -> int | None:
        """Count users, as varied as these and on as many texts, that bring the interval to +- this half-width.

        The users' part of the variance shrinks as 1/U, the texts' part stays. Student's quantile is that of the
        present degrees of freedom.

        Args:
            numerator: coefficients of a.
            denominator: coefficients of b.
            half_width: in units of the ratio, above 0.

        Returns:
            The number, at least 2; None where no number of users is enough, or fewer than two are there to tell.
        """
        spread = self.spread(numerator, denominator)
        if not np.isfinite(spread.variance):
            return None
        quantile = float(special.stdtrit(spread.freedom, 0.5 + self.level / 2))
        left = (half_width / quantile) ** 2 - spread.of_texts
        if left <= 0:
            return None
        return max(2, ceil(spread.users * (spread.variance - spread.of_texts) / left - 1e-9))

    def interval(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean]) -> Estimate:
        """Estimate the ratio of two forms with a t interval, or a bootstrap one.

        Returns:
            The estimate; without an interval where too few users carry it (:attr:`Spread.enough`).
        """
        return self.interval_of(((1.0, numerator, denominator),))

    def interval_of(self, terms: Terms[Mean]) -> Estimate:
        """Estimate a linear combination of ratios as :meth:`interval` does one; terms: of :meth:`spread_of`."""
        spread = self.spread_of(terms)
        if not spread.enough:
            return Estimate(spread.value, None, None, self.level)
        if self.resampling is not None:
            return Estimate(spread.value, *self._bootstrap(spread, terms), self.level)
        half = float(special.stdtrit(spread.freedom, 0.5 + self.level / 2)) * spread.variance**0.5
        return Estimate(spread.value, spread.value - half, spread.value + half, self.level)

    def share_difference(
        self, first: tuple[LinearForm[Mean], LinearForm[Mean]], second: tuple[LinearForm[Mean], LinearForm[Mean]]
    ) -> Estimate:
        """Estimate the difference of two shares of the same users, also where hardly any user tells them apart.

        With U users and the variance V of the difference d, the interval is that of two users more, one for each share
        alone (Agresti & Min 2005): centre d U / (U + 2), variance V U^2 / (U + 2)^2 + 2 / (U + 2)^2.

        Args:
            first: numerator and denominator of the first share.
            second: of the one that is taken off.
        """
        spread = self.spread_of(((1.0, *first), (-1.0, *second)))
        if not np.isfinite(spread.variance):
            return Estimate(spread.value, None, None, self.level)
        users, more = float(spread.users), spread.users + 2.0
        centre, variance = spread.value * users / more, (spread.variance * users**2 + 2.0) / more**2
        half = float(special.stdtrit(max(spread.freedom, 1.0), 0.5 + self.level / 2)) * variance**0.5
        return Estimate(spread.value, max(centre - half, -1.0), min(centre + half, 1.0), self.level)

    def share(self, numerator: LinearForm[Mean], denominator: LinearForm[Mean]) -> Estimate:
        """Estimate a share (in [0, 1]) with Wilson's interval on the effective number of users, or a bootstrap one.

        The effective number is U p (1-p) / (U-1) / variance: U itself for a plain share of users. Where the share is 0
        or 1 it is U. (Wilson 1927; the design effect as in Korn & Graubard 1998.) Resamples of a share of 0 or 1 are
        all alike, so that it keeps Wilson's interval.
        """
        spread = self.spread(numerator, denominator)
        if not np.isfinite(spread.variance):
            return Estimate(spread.value, None, None, self.level)
        p = min(max(spread.value, 0.0), 1.0)
        if self.resampling is not None and spread.variance > 0 and 0 < p < 1:
            low, high = self._bootstrap(spread, ((1.0, numerator, denominator),))
            return Estimate(p, max(low, 0.0), min(high, 1.0), self.level)
        size = float(spread.users)
        if spread.variance > 0 and 0 < p < 1:
            size *= p * (1 - p) / (spread.users - 1) / spread.variance
        low, high = wilson(p, size, self.level)
        return Estimate(p, low, high, self.level)

    def _bootstrap(self, spread: Spread, terms: Terms[Mean]) -> tuple[float, float]:
        assert self.resampling is not None
        if self._resamples is None:
            shares = [(fold.users, place) for fold, place in zip(self.folds, self._user_maps, strict=True)]
            self._resamples = resampled_means(shares, len(self.users), self.resampling)
        values: list[FloatArray] = []
        for fold, means, size in zip(self.folds, self._resamples, self._sizes, strict=True):
            ratios: list[FloatArray] = []
            for factor, numerator, denominator in terms:
                a, b = fold.form(numerator), fold.form(denominator)
                above, below = means @ a, means @ b
                above[np.abs(above) <= ROUNDING * float(size @ np.abs(a))] = 0.0
                ratio = np.full(len(above), np.nan)
                np.divide(above, below, out=ratio, where=below != 0)
                ratios.append(factor * ratio)
            values.append(np.sum(ratios, axis=0))
        return bca_interval(spread.value, np.mean(values, axis=0), spread.moves, self.level)


def wilson(share: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval (1927) for a share.

    Args:
        share: in [0, 1].
        size: how many observations it rests on; may be fractional.
        level: nominal coverage.

    Returns:
        Lower and upper end.
    """
    z2 = float(special.ndtri(0.5 + level / 2)) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = (z2 * (share * (1 - share) / size + z2 / (4 * size**2))) ** 0.5 / (1 + z2 / size)
    low = 0.0 if share == 0 else max(centre - half, 0.0)
    high = 1.0 if share == 1 else min(centre + half, 1.0)
    return low, high


def bca_interval(value: float, resamples: FloatArray, moves: FloatArray, level: float) -> tuple[float, float]:
    """Compute the bias-corrected and accelerated bootstrap interval.

    Args:
        value: the estimate.
        resamples: shape (B,), the estimate in every resample, at least one of them finite.
        moves: shape (U,), how far it moves when each of the U users that carry it leaves, at least two.
        level: nominal coverage.

    Returns:
        Lower and upper end.
    """
    known = resamples[np.isfinite(resamples)]
    users = len(moves)
    below = float((known < value).mean() + (known == value).mean() / 2)
    bias = float(special.ndtri(min(max(below, 0.5 / len(known)), 1 - 0.5 / len(known))))
    centred = moves - moves.mean()
    spread = float((centred**2).sum())
    skew = float((centred**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    reach: float = (users / (users - 1)) ** 0.5 * float(special.stdtrit(users - 1, 0.5 + level / 2))
    ends: list[float] = []
    for z in (-reach, reach):
        away = 1 - skew * (bias + z)
        place = float(special.ndtr(bias + (bias + z) / away)) if away > 0 else float(z > 0)
        ends.append(float(np.quantile(known, place)))
    return ends[0], ends[1]


def resampled_means(
    folds: Sequence[tuple[FloatArray, IntArray]], users: int, resampling: Resampling
) -> list[FloatArray]:
    """Compute every fold's means in every resample of the users, who are the same in all folds.

    Args:
        folds: users' shares, shape (users of the fold, S), and the places of these users among all.
        users: how many there are in all.
        resampling: how often.

    Returns:
        For each fold, shape (resamples, S).
    """
    rng = derive(resampling.seed, "resampled users")
    means = [np.empty((resampling.resamples, int(shares.shape[1]))) for shares, _ in folds]
    step = max(CELLS // max(users, 1), 1)
    even = np.full(users, 1 / users)
    for low in range(0, resampling.resamples, step):
        counts = rng.multinomial(users, even, size=min(step, resampling.resamples - low)).astype(np.float64)
        for mean, (shares, place) in zip(means, folds, strict=True):
            mean[low : low + len(counts)] = counts[:, place] @ shares
    return means


def _match(folds: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[IntArray]]:
    if len(folds) == 1:
        return folds[0], [np.arange(len(folds[0]), dtype=np.int64)]
    names = tuple(sorted({name for fold in folds for name in fold}))
    place = {name: code for code, name in enumerate(names)}
    return names, [np.array([place[name] for name in fold], dtype=np.int64) for fold in folds]


def _ratio(fold: Influences[Mean], numerator: FloatArray, denominator: FloatArray, size: FloatArray) -> float:
    """Compute the ratio; exactly 0 where the numerator is rounding noise, which must never be found significant."""
    below = float(fold.total @ denominator)
    if below == 0:
        return float("nan")
    above = float(fold.total @ numerator)
    return 0.0 if abs(above) <= ROUNDING * float(size @ np.abs(numerator)) else above / below


def _moves(parts: FloatArray, difference: FloatArray, denominator: FloatArray, weight: float) -> FloatArray:
    """Compute how far the ratio moves when each user (or text) leaves; to first order where nothing would be left."""
    left = weight - parts @ denominator
    left[np.abs(left) < 1e-9 * abs(weight)] = weight
    return (parts @ difference) / left


def _two_way(by_user: float, users: float, texts: FloatArray, cells: float) -> tuple[float, float]:
    """Join the variances of users and texts, and their degrees of freedom; never less than the users' own.

    A sum V of squares D^2 of T independent effects has about 2 V^2 / (sum D^4 - V^2 / T) degrees of freedom: T where
    they are normal, fewer where a few texts do most. The two sources are joined as by Welch and Satterthwaite.
    """
    squares = texts**2
    by_text = float(squares.sum())
    if by_text == 0:
        return by_user, users
    noise = float((squares**2).sum()) - by_text**2 / len(texts)
    own = max(2 * by_text**2 / noise, 1.0) if noise > 0 else float(len(texts))
    own = min(own, max(len(texts) - 1.0, 1.0))
    freedom = (by_user + by_text) ** 2 / (by_user**2 / users + by_text**2 / own)
    return max(by_user + by_text - cells, by_user), min(max(freedom, 1.0), users)
