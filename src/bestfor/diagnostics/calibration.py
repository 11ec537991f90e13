"""Whether a predicted standard deviation means what it says.

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
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.ids import Ids, encode
from bestfor.diagnostics.intervals.jackknife import exponential, half_width, interval, jackknife, share
from bestfor.diagnostics.table.rows import Reward, Rows
from bestfor.diagnostics.tally import (
    BINNED,
    COUNT,
    ERRORS,
    INSIDE,
    LEVELS,
    LOG_VARIANCES,
    SQUARES,
    FirstLook,
    Predictions,
    Sums,
    Tally,
    pool_sums,
)
from bestfor.errors import InputError
from bestfor.types import Estimate, FloatArray, IntArray


@dataclass(frozen=True)
class Coverage:
    """How many utilities lie inside the central predictive interval of a level."""

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
    """How far one model's predicted standard deviations can be believed.

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
        evidence: the sums that all of this comes from.
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
    evidence: Sums = field(repr=False)


def calibrate(
    user: Ids, utility: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike, *, level: float = 0.95
) -> Calibration | None:
    """How well predicted standard deviations fit what was observed.

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
    return _of((names, codes), Predictions(*columns), level)


def calibrations(
    rows: Rows, rewards: Mapping[str, Reward | npt.ArrayLike], level: float
) -> dict[str, Calibration | None]:
    """The calibration of every model on the utility's scale that predicts a standard deviation.

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
        found[name] = _of((rows.user_names, rows.user[rows.order]), block, level)
    return found


def _of(user: tuple[Sequence[str], IntArray], block: Predictions, level: float) -> Calibration | None:
    look = FirstLook()
    look.add(block)
    tally = Tally(look.layout())
    tally.add(*user, block)
    return settle(tally.sums(), level)


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
    """Folds together: every candidate of every fold weighs the same, users are matched by id.

    Args:
        folds: of one model.
        level: nominal coverage of the intervals.

    Returns:
        The calibration; None where a fold has none.
    """
    known = [fold.evidence for fold in folds if fold is not None]
    return settle(pool_sums(known), level) if known and len(known) == len(folds) else None


def settle(sums: Sums, level: float = 0.95) -> Calibration | None:
    """A calibration from its sums; None where nothing was counted."""
    if not len(sums.users):
        return None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _settle(sums, level)


def _settle(sums: Sums, level: float) -> Calibration:
    bins, parts = sums.bins, sums.parts
    total = parts.sum(axis=0, keepdims=True)
    count = total[0, BINNED : BINNED + bins].astype(np.int64)
    logs, noise, carried = jackknife(parts, lambda part: _log_ratios(part, bins))
    observed, predicted = np.exp(_log_errors(total, bins)[0]), np.exp(_log_predicted(total, bins)[0])
    half = np.array([half_width(one, users, level) for one, users in zip(noise, carried, strict=True)])
    inside = [share(parts, INSIDE + place, COUNT, level) for place in range(len(LEVELS))]
    ence = interval(parts, lambda part: _ence(part, bins), level)
    return Calibration(
        candidates=int(total[0, COUNT]),
        users=len(sums.users),
        left_out=sums.left_out,
        values=None if sums.values is None else len(sums.values),
        temperature=exponential(interval(parts, _log_temperature, level)),
        ence=Estimate(ence.value, None if ence.low is None else max(ence.low, 0.0), ence.high, level),
        ence_by_noise=float(math.sqrt(2 / math.pi) * np.mean(np.exp(logs) * noise)),
        coverage=tuple(Coverage(one, found) for one, found in zip(LEVELS, inside, strict=True)),
        nll=interval(parts, _nll, level),
        nll_constant=float(_nll_constant(total)[0, 0]),
        gain=interval(parts, lambda part: _nll_constant(part) - _nll(part), level),
        tempered_gain=interval(parts, _tempered_gain, level),
        reliability=Reliability(count, predicted, observed, observed * np.exp(-half), observed * np.exp(half)),
        pit=sums.pit / sums.pit.sum(),
        evidence=sums,
    )


def _log_temperature(part: FloatArray) -> FloatArray:
    return np.log(part[:, [SQUARES]] / part[:, [COUNT]])


def _nll(part: FloatArray) -> FloatArray:
    return 0.5 * (math.log(2 * math.pi) + (part[:, [LOG_VARIANCES]] + part[:, [SQUARES]]) / part[:, [COUNT]])


def _nll_constant(part: FloatArray) -> FloatArray:
    return 0.5 * (math.log(2 * math.pi) + np.log(part[:, [ERRORS]] / part[:, [COUNT]]) + 1.0)


def _tempered_gain(part: FloatArray) -> FloatArray:
    mean = part[:, [ERRORS, LOG_VARIANCES, SQUARES]] / part[:, [COUNT]]
    return 0.5 * (np.log(mean[:, [0]]) - mean[:, [1]] - np.log(mean[:, [2]]))


def _log_predicted(part: FloatArray, bins: int) -> FloatArray:
    return 0.5 * np.log(part[:, BINNED + bins : BINNED + 2 * bins] / part[:, BINNED : BINNED + bins])


def _log_errors(part: FloatArray, bins: int) -> FloatArray:
    return 0.5 * np.log(part[:, BINNED + 2 * bins :] / part[:, BINNED : BINNED + bins])


def _log_ratios(part: FloatArray, bins: int) -> FloatArray:
    return 0.5 * np.log(part[:, BINNED + 2 * bins :] / part[:, BINNED + bins : BINNED + 2 * bins])


def _ence(part: FloatArray, bins: int) -> FloatArray:
    return np.abs(np.exp(_log_ratios(part, bins)) - 1.0).mean(axis=1, keepdims=True)
