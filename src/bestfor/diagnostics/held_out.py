"""Judge predictions on held-out answers, one answer a prompt or more: what can be had where no curve can.

Of user u, with rewards r and utilities U of the user's test answers:

    AUC_u       share of the user's pairs of answers with different utilities, over all prompts, that r orders as U
                does, ties counting half; for two outcomes it is the area under the ROC curve (Mann & Whitney 1947)
    accuracy_u  the same over pairs of answers to one prompt: the pairwise accuracy
    loss_u      mean of -log p of the outcome, p = (r - low) / (high - low) kept within [.01, .99]; two outcomes only
    square_u    mean of (r - U)^2
    bias_u      mean of r - U

and each figure is the mean over the users that have one, with Student's t over users: macro averages. Loss, square and
bias need rewards that predict the utility; loss and square stand beside those of the fit part's mean for everybody. ECE
is the mean distance of predicted and observed means in ten bins of equal size. Figures also stand by shots, the labels
that the fit part holds of a user: users of none are unseen. Folds are put together user by user.

:func:`judge_shots` judges models that were fitted again with so many labels of each user: the same users and answers at
every point, so that the gain over the first point is paired by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bestfor.diagnostics.intervals.clustered import FEWEST_USERS
from bestfor.types import Estimate, FloatArray, IntArray, Scale

FIGURES = ("auc", "accuracy", "log_loss", "log_loss_gain", "square", "square_gain", "bias")
"""Figures of a model, each a mean over users."""

SHOTS = ((0, 0), (1, 4), (5, 19), (20, 99), (100, None))
"""Labels of a user at fitting, from and to, by which figures are shown."""

SURE = 0.01
"""Least probability of an outcome: one confident error would outweigh everything else."""

BINS = 10


@dataclass(frozen=True)
class HeldOutPart:
    """Held-out answers of one fold, n rows of U users.

    Attributes:
        users: ids.
        user: shape (n,), codes.
        query: shape (n,), codes.
        utility: shape (n,), finite.
        shots: shape (U,), labels of each user in the fit part.
        base: mean utility of the fit part.
        rewards: model -> shape (n,), NaN where it has none.
        scales: model -> whether its rewards predict the utility.
    """

    users: tuple[str, ...]
    user: IntArray
    query: IntArray
    utility: FloatArray
    shots: IntArray
    base: float
    rewards: Mapping[str, FloatArray]
    scales: Mapping[str, Scale]


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of one model over some users; each with the number of users that carry it.

    Attributes:
        users: that have a held-out answer with a reward.
        answers: of these.
        figures: name of :data:`FIGURES` -> its macro average.
        carried: name -> users that have one.
        ece: expected calibration error, NaN for rewards on another scale.
    """

    users: int
    answers: int
    figures: Mapping[str, Estimate]
    carried: Mapping[str, int]
    ece: float = float("nan")


@dataclass(frozen=True)
class HeldOutJudgement:
    """Predictions of models judged on held-out answers.

    Attributes:
        models: name -> over all users.
        by_shots: name -> (fewest, most or None) labels at fitting -> over those users.
        outcomes: the two values of the utility, where there are no more.
    """

    models: Mapping[str, HeldOutFigures]
    by_shots: Mapping[str, Mapping[tuple[int, int | None], HeldOutFigures]]
    outcomes: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Lay it out as JSON values; what is not known is None."""
        return {
            "outcomes": self.outcomes,
            "models": {
                name: _plain(found)
                | {
                    "by_shots": [
                        {"from": low, "to": high} | _plain(one) for (low, high), one in self.by_shots[name].items()
                    ]
                }
                for name, found in self.models.items()
            },
            "notes": list(self.notes),
        }


def judge_held_out(parts: Sequence[HeldOutPart], level: float = 0.95) -> HeldOutJudgement:
    """Judge models on the held-out answers of one fold or several.

    Args:
        parts: folds, of the same models.
        level: nominal coverage of the intervals.
    """
    values = np.unique(np.concatenate([part.utility for part in parts]))
    outcomes = (float(values[0]), float(values[1])) if len(values) == 2 else None
    models: dict[str, HeldOutFigures] = {}
    by_shots: dict[str, dict[tuple[int, int | None], HeldOutFigures]] = {}
    for name in parts[0].rewards:
        tallies = [_tally(part, name, outcomes) for part in parts]
        models[name] = _figures(tallies, parts, level, ece=_ece(parts, name))
        by_shots[name] = {}
        for low, high in SHOTS:
            inside = [_within(part.shots, low, high) for part in parts]
            if any(mask[part.user].any() for mask, part in zip(inside, parts, strict=True)):
                kept = [tally.where(mask) for tally, mask in zip(tallies, inside, strict=True)]
                by_shots[name][low, high] = _figures(kept, parts, level)
    return HeldOutJudgement(models, by_shots, outcomes, _notes(models, outcomes))


@dataclass(frozen=True)
class ShotPoint:
    """Point of the curve of held-out figures against shots.

    Attributes:
        shots: most prompts (or labels) of each user at fitting; None for all.
        found: figures over the users.
        gained: name of :data:`FIGURES` -> mean over users of the figure less that at the first point.
    """

    shots: int | None
    found: HeldOutFigures
    gained: Mapping[str, Estimate]


@dataclass(frozen=True)
class ShotJudgement:
    """Held-out figures against shots.

    Attributes:
        unit: what a shot is, ``"prompts"`` or ``"labels"``.
        models: name -> points, in the order of the shots.
    """

    unit: str
    models: Mapping[str, tuple[ShotPoint, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Lay it out as JSON values; what is not known is None."""
        return {
            "unit": self.unit,
            "models": {
                name: [
                    {"shots": point.shots}
                    | _plain(point.found)
                    | {"gained": {figure: _limits(one) for figure, one in point.gained.items()}}
                    for point in points
                ]
                for name, points in self.models.items()
            },
        }


def judge_shots(
    fitted: Mapping[int | None, Sequence[HeldOutPart]], unit: str = "prompts", level: float = 0.95
) -> ShotJudgement:
    """Judge models fitted with more and more labels of the same users.

    Args:
        fitted: shots -> folds, with the same users and answers at each; None stands for all labels.
        unit: what a shot is.
        level: nominal coverage of the intervals.
    """
    values = np.unique(np.concatenate([part.utility for parts in fitted.values() for part in parts]))
    outcomes = (float(values[0]), float(values[1])) if len(values) == 2 else None
    models: dict[str, tuple[ShotPoint, ...]] = {}
    for name in next(iter(fitted.values()))[0].rewards:
        points: list[ShotPoint] = []
        first: dict[str, FloatArray] = {}
        for shots, parts in fitted.items():
            tallies = [_tally(part, name, outcomes) for part in parts]
            own = {figure: _user_means(tallies, parts, figure) for figure in FIGURES}
            first = first or own
            gained = {figure: own[figure] - first[figure] for figure in FIGURES}
            found = _figures(tallies, parts, level, ece=_ece(parts, name))
            points.append(ShotPoint(shots, found, {k: _macro(v[np.isfinite(v)], level) for k, v in gained.items()}))
        models[name] = tuple(points)
    return ShotJudgement(unit, models)


@dataclass(frozen=True)
class _Tally:
    """Sums of a fold by user: figure -> numerators and weights, shape (U,) each; and the answers judged."""

    sums: Mapping[str, tuple[FloatArray, FloatArray]]
    answers: FloatArray

    def where(self, users: np.ndarray) -> _Tally:
        """Keep some users."""
        kept = {name: (np.where(users, top, 0.0), np.where(users, low, 0.0)) for name, (top, low) in self.sums.items()}
        return _Tally(kept, np.where(users, self.answers, 0.0))


def _tally(part: HeldOutPart, name: str, outcomes: tuple[float, float] | None) -> _Tally:
    reward = part.rewards[name]
    rows = np.flatnonzero(np.isfinite(reward))
    reward, utility, user, query = reward[rows], part.utility[rows], part.user[rows], part.query[rows]
    count = len(part.users)
    one = np.bincount(user, minlength=count).astype(np.float64)
    sums = {
        "auc": _concordance(user, user, reward, utility, count),
        "accuracy": _concordance(query, user, reward, utility, count),
    }

    def mean(of: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.bincount(user, of, minlength=count).astype(np.float64), one

    if part.scales[name] == "utility":
        square, base = (reward - utility) ** 2, (part.base - utility) ** 2
        sums |= {"square": mean(square), "square_gain": mean(base - square), "bias": mean(reward - utility)}
        if outcomes is not None:
            loss = _loss(reward, utility, outcomes)
            usual = _loss(np.full(len(reward), part.base), utility, outcomes)
            sums |= {"log_loss": mean(loss), "log_loss_gain": mean(usual - loss)}
    return _Tally(sums, one)


def _loss(reward: FloatArray, utility: FloatArray, outcomes: tuple[float, float]) -> FloatArray:
    low, high = outcomes
    chance = np.clip((reward - low) / (high - low), SURE, 1 - SURE)
    return -np.log(np.where(utility == high, chance, 1 - chance))


def _concordance(
    group: IntArray, user: IntArray, reward: FloatArray, utility: FloatArray, count: int
) -> tuple[FloatArray, FloatArray]:
    """Count pairs within groups: those ordered alike (ties half) and those with different utilities, by user."""
    alike, pairs = np.zeros(count), np.zeros(count)
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows) > 1:
            right, all_ = _ordered(reward[rows], utility[rows])
            alike[user[rows[0]]] += right
            pairs[user[rows[0]]] += all_
    return alike, pairs


def _ordered(reward: FloatArray, utility: FloatArray) -> tuple[float, float]:
    """Count pairs with different utilities that rewards order alike: one level of utility against those above it."""
    right = total = 0.0
    levels = np.unique(utility)
    for at, value in enumerate(levels[:-1]):
        below, above = np.sort(reward[utility == value]), reward[np.isin(utility, levels[at + 1 :])]
        less, most = np.searchsorted(below, above, "left"), np.searchsorted(below, above, "right")
        right += float((less + (most - less) / 2).sum())
        total += len(below) * len(above)
    return right, total


def _figures(
    tallies: Sequence[_Tally], parts: Sequence[HeldOutPart], level: float, ece: float = float("nan")
) -> HeldOutFigures:
    """Put folds together user by user, and average over users."""
    users = sorted({user for part in parts for user in part.users})
    place = {user: code for code, user in enumerate(users)}
    answers = np.zeros(len(users))
    for tally, part in zip(tallies, parts, strict=True):
        np.add.at(answers, [place[user] for user in part.users], tally.answers)
    figures: dict[str, Estimate] = {}
    carried: dict[str, int] = {}
    for name in FIGURES:
        means = _user_means(tallies, parts, name)
        known = np.isfinite(means)
        carried[name] = int(known.sum())
        figures[name] = _macro(means[known], level)
    return HeldOutFigures(int((answers > 0).sum()), int(answers.sum()), figures, carried, ece)


def _user_means(tallies: Sequence[_Tally], parts: Sequence[HeldOutPart], name: str) -> FloatArray:
    """Compute a figure of each user over all folds, in the order of their ids; NaN where a user has none."""
    users = sorted({user for part in parts for user in part.users})
    place = {user: code for code, user in enumerate(users)}
    top, low = np.zeros(len(users)), np.zeros(len(users))
    for tally, part in zip(tallies, parts, strict=True):
        if name in tally.sums:
            at = [place[user] for user in part.users]
            np.add.at(top, at, tally.sums[name][0])
            np.add.at(low, at, tally.sums[name][1])
    return np.divide(top, low, out=np.full(len(users), np.nan), where=low > 0)


def _macro(values: FloatArray, level: float) -> Estimate:
    """Average over users, with Student's t."""
    if not len(values):
        return Estimate(float("nan"), level=level)
    value = float(values.mean())
    if len(values) < FEWEST_USERS:
        return Estimate(value, level=level)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(value, value - half, value + half, level)


def _ece(parts: Sequence[HeldOutPart], name: str) -> float:
    if any(part.scales[name] != "utility" for part in parts):
        return float("nan")
    reward = np.concatenate([part.rewards[name] for part in parts])
    utility = np.concatenate([part.utility for part in parts])
    order = np.argsort(reward, kind="stable")[: int(np.isfinite(reward).sum())]
    if not len(order):
        return float("nan")
    bins = np.array_split(order, min(BINS, len(order)))
    return float(sum(abs(float(reward[one].mean() - utility[one].mean())) * len(one) for one in bins) / len(order))


def _within(shots: IntArray, low: int, high: int | None) -> np.ndarray:
    return (shots >= low) & (shots <= (np.inf if high is None else high))


def _notes(models: Mapping[str, HeldOutFigures], outcomes: tuple[float, float] | None) -> tuple[str, ...]:
    notes: list[str] = []
    for name, found in models.items():
        without = found.users - found.carried["auc"]
        if without:
            notes.append(f"{name}: {without} of {found.users} users have answers of one outcome only: no AUC")
    if outcomes is None:
        notes.append("no log-loss: the utility has more than two values; AUC counts pairs of different utilities")
    return tuple(dict.fromkeys(notes))


def _plain(found: HeldOutFigures) -> dict[str, Any]:
    return {
        "users": found.users,
        "answers": found.answers,
        **{name: {**_limits(one), "users": found.carried[name]} for name, one in found.figures.items()},
        "ece": _known(found.ece),
    }


def _limits(one: Estimate) -> dict[str, float | None]:
    return {"value": _known(one.value), "low": _known(one.low), "high": _known(one.high)}


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
