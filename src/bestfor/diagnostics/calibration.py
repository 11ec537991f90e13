"""Judge whether a predicted standard deviation means what it says.

A candidate's utility y is predicted as Gaussian with mean mu and standard deviation sigma; z = (y - mu) / sigma. Every
candidate weighs the same. With sums over all of them:

    temperature   T = mean z^2, the factor on the variance that maximises the likelihood (Laves et al. 2020)
    reliability   per bin of sigma: RMV = sqrt(mean sigma^2) beside RMSE = sqrt(mean (y - mu)^2)
    ENCE          mean over the bins of |RMV - RMSE| / RMV (Levi et al. 2022)
    coverage      share of y inside the central interval of a level
    PIT           histogram of Phi(z), flat where the prediction is right (Gneiting, Balabdaoui & Raftery 2007)
    likelihood    mean of log(2 pi sigma^2) / 2 + z^2 / 2, beside that of the best constant sigma, RMSE of all

Where utilities take few values the prediction is rounded to the nearest of them, and coverage and PIT are those of the
randomised PIT, in expectation (Czado, Gneiting & Held 2009). Intervals are jackknife t intervals over users.

All of it follows from sums over each user's predictions. A first pass over the predictions finds the bins of the
predicted standard deviation and whether utilities take few values; a second one adds up. Both take blocks of any size
and give the same sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import special

from bestfor.diagnostics.intervals.jackknife import Statistic, exponential, half_width, interval, jackknife, share
from bestfor.diagnostics.table.rows import LARGEST, Ids, Reward, SortedRows, encode
from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.types import BoolArray, Estimate, FloatArray, IntArray

__getattr__ = renamed(
    __name__, {"FirstLook": "BinningPass", "Layout": "Binning", "Sums": "CalibrationSums", "Tally": "SummingPass"}
)


BINS = 10
"""Bins of the predicted standard deviation, with equally many predictions each as far as ties allow."""

FEWEST = 20
"""Predictions of a bin, at least, so that small tables get fewer bins."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Central predictive intervals whose coverage is reported."""

PIT_BINS = 20
FEW_VALUES = 20
"""Utilities with at most so many distinct values (marks, votes) are discrete."""

_OCTAVE = 64.0
_PLAIN = 4
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Coverage:
    """Share of utilities inside the central predictive interval of a level."""

    level: float
    share: Estimate


@dataclass(frozen=True)
class Reliability:
    """Bins of the predicted standard deviation, from small to large; arrays of shape (bins,).

    Attributes:
        candidates: in the bin.
        predicted: root of the mean predicted variance.
        observed: root of the mean squared error.
        low: lower end of observed's interval, NaN where fewer than two users carry it.
        high: upper end.
    """

    candidates: IntArray
    predicted: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Calibration:
    """Calibration of one model's predicted standard deviations.

    Attributes:
        candidates: that count.
        users: they belong to.
        left_out: without a standard deviation between 1e-60 and 1e60.
        values: how many distinct utilities there are, where they are few; else None.
        temperature: factor on the predicted variance; above 1 the model is too sure, below 1 not sure enough.
        ence: expected normalised calibration error.
        ence_by_noise: about what it would be for a perfect prediction, from the noise of the bins alone.
        coverage: at several levels.
        nll: mean negative log-likelihood in nats, as predicted.
        nll_constant: the same with the best constant standard deviation.
        gain: nll_constant - nll; above 0 the predicted standard deviations are better than a constant.
        tempered_gain: the same after the variances were multiplied by the temperature: each side has one fitted number.
        reliability: by bins.
        pit: shape (20,), share of the candidates in each bin of the PIT, summing to 1.
        evidence: the sums that all of this comes from; None where it was read from JSON.
    """

    candidates: int
    users: int
    left_out: int
    values: int | None
    temperature: Estimate
    ence: Estimate
    ence_by_noise: float
    coverage: tuple[Coverage, ...]
    nll: Estimate
    nll_constant: float
    gain: Estimate
    tempered_gain: Estimate
    reliability: Reliability
    pit: FloatArray
    evidence: CalibrationSums | None = field(default=None, repr=False)


def calibrate(
    user: Ids, utility: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike, *, level: float = 0.95
) -> Calibration | None:
    """Judge how well predicted standard deviations fit what was observed.

    Args:
        user: shape (rows,), user ids.
        utility: shape (rows,), what was observed.
        mean: shape (rows,), predicted.
        std: shape (rows,), predicted; rows without one between 1e-60 and 1e60 are left out and counted.
        level: nominal coverage of the intervals.

    Returns:
        The calibration; None where no row can be used.

    Raises:
        InputError: columns of different lengths, or a standard deviation below 0.
    """
    codes, names = encode("user", user)
    columns = [np.asarray(column, dtype=np.float64) for column in (utility, mean, std)]
    for name, column in zip(("utility", "mean", "std"), columns, strict=True):
        if column.shape != codes.shape:
            raise InputError(name, f"shape {column.shape}", f"{codes.shape}, as many as users")
    check_std("std", columns[2])
    return _calibration((names, codes), Predictions(*columns), level)


def calibrations(
    rows: SortedRows, rewards: Mapping[str, Reward | npt.ArrayLike], level: float
) -> dict[str, Calibration | None]:
    """Judge every model on the utility's scale that predicts a standard deviation.

    Args:
        rows: sorted from the same rewards; rows that are not finite for some model count for none.
        rewards: name of a model -> its rewards.
        level: nominal coverage of the intervals.

    Raises:
        InputError: a standard deviation below 0, or another number of them than of rows.
    """
    found: dict[str, Calibration | None] = {}
    for name, reward in rewards.items():
        if not isinstance(reward, Reward) or reward.std is None or reward.scale != "utility":
            continue
        where = f"std of '{name}'"
        std = np.asarray(reward.std, dtype=np.float64)
        if std.shape != rows.utility.shape:
            raise InputError(where, f"shape {std.shape}", f"{rows.utility.shape}, as many as utilities")
        check_std(where, std)
        block = Predictions(rows.utility, rows.rewards[name], std).take(rows.order)
        found[name] = _calibration((rows.user_names, rows.user[rows.order]), block, level)
    return found


def _calibration(user: tuple[Sequence[str], IntArray], block: Predictions, level: float) -> Calibration | None:
    first = BinningPass()
    first.add(block)
    second = SummingPass(first.binning())
    second.add(*user, block)
    return calibration_from_sums(second.sums(), level)


def check_std(where: str, std: FloatArray, number: IntArray | None = None) -> None:
    """Refuse standard deviations below 0.

    Args:
        where: names the column, for errors; perhaps as "FILE, column 'NAME'".
        std: shape (rows,).
        number: shape (rows,), the rows' numbers; from 1 where None.

    Raises:
        InputError: one is below 0.
    """
    negative = np.flatnonzero(std < 0)
    if len(negative):
        row = int(negative[0])
        at = row + 1 if number is None else int(number[row])
        place = where.replace(", column", f", row {at}, column") if ", column" in where else f"{where}, row {at}"
        raise InputError(place, f"{std[row]:g}", "a standard deviation, 0 or more")


def pool_calibrations(folds: Sequence[Calibration | None], level: float = 0.95) -> Calibration | None:
    """Pool folds: every candidate of every fold weighs the same, users are matched by id.

    Args:
        folds: of one model.
        level: nominal coverage of the intervals.

    Returns:
        The calibration; None where a fold has none.
    """
    known = [fold.evidence for fold in folds if fold is not None and fold.evidence is not None]
    return calibration_from_sums(pool_sums(known), level) if known and len(known) == len(folds) else None


@dataclass(frozen=True)
class Predictions:
    """Predictions of candidates with known utilities, all of shape (rows,).

    Attributes:
        utility: y.
        mean: mu.
        std: sigma; rows without one between 1e-60 and 1e60 are left out.
    """

    utility: FloatArray
    mean: FloatArray
    std: FloatArray

    @property
    def usable(self) -> BoolArray:
        """Shape (rows,): whether utility and mean are finite and the variance and its inverse can be had."""
        known = (self.std >= 1 / LARGEST) & (self.std <= LARGEST)
        return np.isfinite(self.utility) & np.isfinite(self.mean) & known

    def take(self, rows: BoolArray | IntArray | slice) -> Predictions:
        """Some of the rows."""
        return Predictions(self.utility[rows], self.mean[rows], self.std[rows])


@dataclass(frozen=True)
class Binning:
    """Bins of the predicted standard deviation, and distinct utilities.

    Attributes:
        edges: shape (bins - 1,), upper edges of all bins but the last, on the grid of :func:`grid_of`.
        values: the distinct utilities in order where they are few, else None.
        left_out: predictions that cannot be used.
    """

    edges: IntArray
    values: tuple[float, ...] | None
    left_out: int

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.edges) + 1


def grid_of(std: FloatArray) -> IntArray:
    """Put standard deviations on a logarithmic grid of 64 steps an octave (1.1 % each)."""
    return np.floor(_OCTAVE * np.log2(std)).astype(np.int64)


class BinningPass:
    """First pass: count standard deviations on the grid and collect distinct utilities."""

    def __init__(self) -> None:
        self._grid: dict[int, int] = {}
        self._values: set[float] = set()
        self._rows = 0
        self._left_out = 0

    def add(self, block: Predictions) -> None:
        """Take a block."""
        usable = block.usable
        self._left_out += int((~usable).sum())
        block = block.take(usable)
        self._rows += len(block.std)
        codes, counts = np.unique(grid_of(block.std), return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self._grid[code] = self._grid.get(code, 0) + count
        if len(self._values) <= FEW_VALUES:
            self._values.update(np.unique(block.utility)[: FEW_VALUES + 1].tolist())

    def binning(self) -> Binning:
        """Lay out the bins; as many as have at least :data:`FEWEST` predictions each."""
        codes = np.array(sorted(self._grid), dtype=np.int64)
        counts = np.array([self._grid[code] for code in codes.tolist()], dtype=np.int64)
        bins = min(BINS, max(1, self._rows // FEWEST))
        wanted = np.arange(1, bins) * (self._rows / bins)
        cuts = np.unique(np.searchsorted(np.cumsum(counts), wanted - 1e-9, side="left"))
        few = 1 < len(self._values) <= FEW_VALUES and self._rows >= 5 * len(self._values)
        values = tuple(sorted(self._values)) if few else None
        return Binning(codes[cuts[cuts < len(codes) - 1]], values, self._left_out)


@dataclass(frozen=True)
class PredictionSums:
    """Sums over some rows of predictions, as named views of one matrix; R rows, such as users.

    Attributes:
        matrix: shape (R, columns); other rows of the same bins add up column by column.
        bins: of the predicted standard deviation.
    """

    matrix: FloatArray
    bins: int

    @classmethod
    def zeros(cls, rows: int, bins: int) -> PredictionSums:
        """Begin with nothing counted."""
        return cls(np.zeros((rows, _PLAIN + len(LEVELS) + 3 * bins)), bins)

    @property
    def count(self) -> FloatArray:
        """Predictions, shape (R, 1)."""
        return self.matrix[:, 0:1]

    @property
    def squares(self) -> FloatArray:
        """Sums of z^2, shape (R, 1)."""
        return self.matrix[:, 1:2]

    @property
    def log_variances(self) -> FloatArray:
        """Sums of log sigma^2, shape (R, 1)."""
        return self.matrix[:, 2:3]

    @property
    def errors(self) -> FloatArray:
        """Sums of (y - mu)^2, shape (R, 1)."""
        return self.matrix[:, 3:_PLAIN]

    @property
    def inside(self) -> FloatArray:
        """Counts inside the interval of each level, shape (R, levels)."""
        return self.matrix[:, _PLAIN : _PLAIN + len(LEVELS)]

    @property
    def plain(self) -> FloatArray:
        """All of the above side by side."""
        return self.matrix[:, : _PLAIN + len(LEVELS)]

    @property
    def bin_count(self) -> FloatArray:
        """Predictions in each bin, shape (R, bins)."""
        return self._binned(0)

    @property
    def bin_variances(self) -> FloatArray:
        """Sums of sigma^2 in each bin, shape (R, bins)."""
        return self._binned(1)

    @property
    def bin_errors(self) -> FloatArray:
        """Sums of (y - mu)^2 in each bin, shape (R, bins)."""
        return self._binned(2)

    def _binned(self, which: int) -> FloatArray:
        first = _PLAIN + len(LEVELS) + which * self.bins
        return self.matrix[:, first : first + self.bins]

    def rebinned(self, bins: int) -> PredictionSums:
        """Put neighbouring bins together, at most as many bins as there are."""
        into = ((np.arange(self.bins) + 0.5) * bins // self.bins).astype(np.int64).tolist()
        result = PredictionSums.zeros(len(self.matrix), bins)
        result.plain[:] = self.plain
        for target, own in (
            (result.bin_count, self.bin_count),
            (result.bin_variances, self.bin_variances),
            (result.bin_errors, self.bin_errors),
        ):
            for k, place in enumerate(into):
                target[:, place] += own[:, k]
        return result


class SummingPass:
    """Second pass: add up predictions by user.

    Attributes:
        binning: the bins.
        pit: shape (PIT_BINS,), how many predictions fall into each bin of the PIT (fractions where utilities are few).
    """

    def __init__(self, binning: Binning) -> None:
        """Begin with nothing counted.

        Args:
            binning: from a first pass over the same predictions.
        """
        self.binning = binning
        self.pit: FloatArray = np.zeros(PIT_BINS)
        self._users: dict[str, int] = {}
        self._sums = PredictionSums.zeros(0, binning.bins)

    def add(self, names: Sequence[str], user: IntArray, block: Predictions) -> None:
        """Take a block.

        Args:
            names: ids of its users.
            user: shape (rows,), codes into ``names``.
            block: of rows.
        """
        place = np.array([self._users.setdefault(name, len(self._users)) for name in names], dtype=np.int64)
        rows = len(self._sums.matrix)
        if len(self._users) > rows:
            grown = PredictionSums.zeros(max(len(self._users), 2 * rows), self.binning.bins)
            grown.matrix[:rows] = self._sums.matrix
            self._sums = grown
        for low in range(0, len(user), _CHUNK):
            here = slice(low, low + _CHUNK)
            part = block.take(here)
            usable = part.usable
            self._add(place[user[here][usable]], part.take(usable))

    def _add(self, user: IntArray, part: Predictions) -> None:
        if not len(user):
            return
        inside, pit = self._pit(part)
        self.pit += pit
        error = (part.utility - part.mean) ** 2
        variance = part.std**2
        users, code = np.unique(user, return_inverse=True)
        plain = [np.ones(len(user)), error / variance, np.log(variance), error, *inside.T]
        self._sums.plain[users] += np.stack([np.bincount(code, values, len(users)) for values in plain], axis=1)
        bins, sums = self.binning.bins, self._sums
        key = code * bins + np.searchsorted(self.binning.edges, grid_of(part.std), side="left")
        for target, values in (
            (sums.bin_count, np.ones(len(user))),
            (sums.bin_variances, variance),
            (sums.bin_errors, error),
        ):
            target[users] += np.bincount(key, values, len(users) * bins).reshape(len(users), -1)

    def _pit(self, part: Predictions) -> tuple[FloatArray, FloatArray]:
        """Compute the mass inside each level's interval, shape (rows, levels), and in each bin, shape (PIT_BINS,).

        Where utilities take few values the prediction is rounded to them, and each observation's mass is spread evenly
        over its interval of the PIT (Czado, Gneiting & Held 2009): the expectation of the randomised PIT.
        """
        levels = np.array(LEVELS)
        if self.binning.values is None:
            point = special.ndtr((part.utility - part.mean) / part.std)
            place = np.minimum((point * PIT_BINS).astype(np.int64), PIT_BINS - 1)
            inside = (np.abs(point - 0.5)[:, None] <= levels / 2).astype(np.float64)
            return inside, np.bincount(place, minlength=PIT_BINS).astype(np.float64)
        low, high = self._interval(part, np.array(self.binning.values))
        edges = np.linspace(0.0, 1.0, PIT_BINS + 1)[1:-1]
        cuts = np.concatenate([edges, (1 - levels) / 2, (1 + levels) / 2])
        width = high - low
        spread = width > 1e-12
        share = (cuts - low[:, None]) / np.where(spread, width, 1.0)[:, None]
        below = np.where(spread[:, None], np.clip(share, 0.0, 1.0), (high[:, None] <= cuts).astype(np.float64))
        filled = np.diff(below[:, : len(edges)], axis=1, prepend=0.0, append=1.0)
        inside = below[:, len(edges) + len(levels) :] - below[:, len(edges) : len(edges) + len(levels)]
        return inside, filled.sum(axis=0)

    @staticmethod
    def _interval(part: Predictions, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Find where the prediction's distribution begins and ends to be nearest to each row's utility."""
        between = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
        place = np.searchsorted(values, part.utility)
        low, high = (special.ndtr((between[place + side] - part.mean) / part.std) for side in (0, 1))
        return low, high

    def sums(self) -> CalibrationSums:
        """Return what was counted, users sorted."""
        names = np.array(list(self._users), dtype=np.str_)
        kept = np.flatnonzero(self._sums.count[: len(names), 0] > 0)
        order = kept[np.argsort(names[kept], kind="stable")]
        users = tuple(str(name) for name in names[order])
        parts = PredictionSums(self._sums.matrix[order], self.binning.bins)
        return CalibrationSums(users, parts, self.pit, self.binning.values, self.binning.left_out)


@dataclass(frozen=True)
class CalibrationSums:
    """Sufficient statistics of a calibration.

    Attributes:
        users: ids, sorted.
        parts: each user's sums.
        pit: shape (PIT_BINS,).
        values: the distinct utilities where they are few, else None.
        left_out: predictions that cannot be used.
    """

    users: tuple[str, ...]
    parts: PredictionSums
    pit: FloatArray
    values: tuple[float, ...] | None
    left_out: int


def pool_sums(folds: Sequence[CalibrationSums]) -> CalibrationSums:
    """Pool the sums of several folds: users matched by id, bins by their rank.

    Args:
        folds: at least one.
    """
    if len(folds) == 1:
        return folds[0]
    users = tuple(sorted({user for fold in folds for user in fold.users}))
    place = {user: code for code, user in enumerate(users)}
    bins = min(fold.parts.bins for fold in folds)
    parts = PredictionSums.zeros(len(users), bins)
    for fold in folds:
        parts.matrix[[place[user] for user in fold.users]] += fold.parts.rebinned(bins).matrix
    known = [fold.values for fold in folds if fold.values is not None]
    values = tuple(sorted({value for one in known for value in one})) if len(known) == len(folds) else None
    pit = np.sum([fold.pit for fold in folds], axis=0)
    return CalibrationSums(users, parts, pit, values, sum(fold.left_out for fold in folds))


def calibration_from_sums(sums: CalibrationSums, level: float = 0.95) -> Calibration | None:
    """Compute a calibration from its sums; None where nothing was counted."""
    if not len(sums.users):
        return None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _from_sums(sums, level)


def _from_sums(sums: CalibrationSums, level: float) -> Calibration:
    bins, parts = sums.parts.bins, sums.parts.matrix

    def of(statistic: Callable[[PredictionSums], FloatArray]) -> Statistic:
        return lambda matrix: statistic(PredictionSums(matrix, bins))

    total = PredictionSums(parts.sum(axis=0, keepdims=True), bins)
    count = total.bin_count[0].astype(np.int64)
    logs, noise, carried = jackknife(parts, of(_log_ratios))
    observed, predicted = np.exp(_log_errors(total)[0]), np.exp(_log_predicted(total)[0])
    half = np.array([half_width(one, users, level) for one, users in zip(noise, carried, strict=True)])
    inside = [share(parts, of(partial(_inside, which=place)), level) for place in range(len(LEVELS))]
    ence = interval(parts, of(_ence), level)
    return Calibration(
        candidates=int(total.count[0, 0]),
        users=len(sums.users),
        left_out=sums.left_out,
        values=None if sums.values is None else len(sums.values),
        temperature=exponential(interval(parts, of(_log_temperature), level)),
        ence=Estimate(ence.value, None if ence.low is None else max(ence.low, 0.0), ence.high, level),
        ence_by_noise=float(math.sqrt(2 / math.pi) * np.mean(np.exp(logs) * noise)),
        coverage=tuple(Coverage(one, found) for one, found in zip(LEVELS, inside, strict=True)),
        nll=interval(parts, of(_nll), level),
        nll_constant=float(_nll_constant(total)[0, 0]),
        gain=interval(parts, of(lambda part: _nll_constant(part) - _nll(part)), level),
        tempered_gain=interval(parts, of(_tempered_gain), level),
        reliability=Reliability(count, predicted, observed, observed * np.exp(-half), observed * np.exp(half)),
        pit=sums.pit / sums.pit.sum(),
        evidence=sums,
    )


def _inside(part: PredictionSums, which: int) -> FloatArray:
    return part.inside[:, [which]] / part.count


def _log_temperature(part: PredictionSums) -> FloatArray:
    return np.log(part.squares / part.count)


def _nll(part: PredictionSums) -> FloatArray:
    return 0.5 * (math.log(2 * math.pi) + (part.log_variances + part.squares) / part.count)


def _nll_constant(part: PredictionSums) -> FloatArray:
    return 0.5 * (math.log(2 * math.pi) + np.log(part.errors / part.count) + 1.0)


def _tempered_gain(part: PredictionSums) -> FloatArray:
    count = part.count
    return 0.5 * (np.log(part.errors / count) - part.log_variances / count - np.log(part.squares / count))


def _log_predicted(part: PredictionSums) -> FloatArray:
    return 0.5 * np.log(part.bin_variances / part.bin_count)


def _log_errors(part: PredictionSums) -> FloatArray:
    return 0.5 * np.log(part.bin_errors / part.bin_count)


def _log_ratios(part: PredictionSums) -> FloatArray:
    return 0.5 * np.log(part.bin_errors / part.bin_variances)


def _ence(part: PredictionSums) -> FloatArray:
    return np.abs(np.exp(_log_ratios(part)) - 1.0).mean(axis=1, keepdims=True)
