"""Learn from cross-fitted predictions which members count, how much, and for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bestfor import rng as randomness
from bestfor.data.candidates import Candidates
from bestfor.progress import Progress
from bestfor.rewards.auto.combination import Combination, describe
from bestfor.rewards.auto.crowd import Crowd, learn_crowd, no_crowd, scaled_tastes
from bestfor.rewards.auto.folds import compared, deal, unseen_units
from bestfor.rewards.auto.members import MemberParts, predict_parts
from bestfor.rewards.auto.slopes import UserSlopes, learn_slopes
from bestfor.rewards.auto.stack import LEAST_FACTOR, StackRows, StackWeights, centre, member_spreads, stack
from bestfor.rewards.model import RewardModel
from bestfor.types import BoolArray, FloatArray, IntArray

MIN_UNITS = 6
"""Texts or prompts from which on weights are learned; fewer leave the average."""
LEAST_SHARE = 0.02
"""Members that contribute less are left out."""
PATIENCE = 5.0
_TINY = 1e-12

Make = Callable[[str], RewardModel]


@dataclass(frozen=True)
class CrossFit:
    """Held-out predictions of every member for the same rows.

    Attributes:
        rows: the rows.
        kinds: names of the members.
        models: their classes.
        parts: of each member.
        fold: shape (n,), in which fold a row was held out.
        told: what was held out, in words.
        tastes: shape (n, k), see :func:`bestfor.rewards.auto.crowd.scaled_tastes`; None where no member has any.
    """

    rows: Candidates
    kinds: tuple[str, ...]
    models: tuple[type[RewardModel], ...]
    parts: tuple[MemberParts, ...]
    fold: IntArray
    told: str
    tastes: FloatArray | None = None

    def take(self, kept: BoolArray) -> CrossFit:
        """Some of the members."""
        places = np.flatnonzero(kept).tolist()
        return replace(
            self,
            kinds=tuple(self.kinds[place] for place in places),
            models=tuple(self.models[place] for place in places),
            parts=tuple(self.parts[place] for place in places),
        )

    @property
    def scale(self) -> float:
        """Standard deviation of the utilities."""
        return float(np.std(self.rows.utility)) or 1.0

    @cached_property
    def unit(self) -> IntArray:
        """Codes of what was held out together, shape (n,)."""
        return np.unique(unseen_units(self.rows)[0], return_inverse=True)[1].astype(np.int64)

    @cached_property
    def group(self) -> IntArray:
        """Codes of what is compared, shape (n,); mostly query and fold."""
        return compared(self.rows, self.fold)

    def columns(self) -> StackRows:
        """Columns of the stack: every member's shared part, then the own parts that there are."""
        own = [code for code, model in enumerate(self.models) if model.personal]
        values = [part.shared for part in self.parts] + [self.parts[code].own for code in own]
        member = np.array([*range(len(self.models)), *own], dtype=np.int64)
        mine, rows = np.arange(len(member)) >= len(self.models), self.rows
        x, y = np.column_stack(values) / self.scale, rows.utility / self.scale
        return StackRows(x, y, self.group, rows.text, self.unit, member, mine)


@dataclass(frozen=True)
class LearnedMembers:
    """Weights, users' factors and what to say of them.

    Attributes:
        combination: of the members that count.
        slopes: of the users of the whole fit.
        notes: plain sentences.
        crowd: what people who share a text err alike.
    """

    combination: Combination
    slopes: UserSlopes
    notes: tuple[str, ...]
    crowd: Crowd


def cross_fit(candidates: Candidates, kinds: Sequence[str], make: Make, folds: int, rng: int) -> CrossFit | None:
    """Predict every row by members that did not see its text or prompt; None with too few of these."""
    unit, what = unseen_units(candidates)
    if len(np.unique(unit)) < MIN_UNITS or float(np.ptp(candidates.utility)) <= _TINY:
        return None
    fold = deal(candidates, folds, rng)
    count, tastes = int(fold.max()) + 1, None
    parts, models = np.zeros((len(kinds), 4, len(candidates))), tuple(type(make(kind)) for kind in kinds)
    with Progress("members of auto, held out", count * len(kinds), after=PATIENCE) as progress:
        for place in range(count):
            seen, held = candidates.take(fold != place), fold == place
            for code, kind in enumerate(kinds):
                model = make(kind).fit(seen, rng=randomness.key(rng, "member", kind))
                asked = candidates.take(held)
                found = predict_parts(model, asked)
                parts[code][:, held] = [found.shared, found.own, found.doubt, found.noise]
                tastes = _joined(tastes, held, scaled_tastes(model, asked))
                progress.advance()
    told = f"{len(np.unique(unit))} {what}s in {count} parts, each predicted by members that had not seen it"
    every = tuple(MemberParts(*part) for part in parts)
    return CrossFit(candidates, tuple(kinds), models, every, fold, told, tastes)


def _joined(every: FloatArray | None, held: BoolArray, part: FloatArray | None) -> FloatArray | None:
    """Put the rows of one fold beside those of others, which may have fewer columns."""
    if part is None:
        return every
    width = max(part.shape[1], 0 if every is None else every.shape[1])
    found = np.zeros((len(held), width))
    if every is not None:
        found[:, : every.shape[1]] = every
    found[held, : part.shape[1]] = part
    return found


def learn(crossed: CrossFit, users: Sequence[str]) -> LearnedMembers:
    """Learn weights, users' factors and the factor of variances.

    Args:
        crossed: held-out predictions.
        users: ids of the users of the whole fit; those without held-out rows get everybody's factors.
    """
    every, rows = crossed.kinds, crossed.columns()
    weights = stack(rows)
    while np.any(weights.share < LEAST_SHARE) and np.any(weights.share >= LEAST_SHARE):
        crossed = crossed.take(weights.share >= LEAST_SHARE)
        rows = crossed.columns()
        weights = stack(rows)
    combination = _combination(crossed, weights, rows)
    slopes = _slopes(crossed, combination, weights, users)
    combination = replace(combination, temperature=_temperature(crossed, combination))
    out = [kind for kind in every if kind not in crossed.kinds]
    notes = _notes(crossed, combination, weights, slopes, out)
    return LearnedMembers(combination, slopes, notes, _crowd(crossed, combination, users))


def without_learning(models: Mapping[str, RewardModel], candidates: Candidates, users: int) -> LearnedMembers:
    """Give the average of the members' standardised predictions.

    Args:
        models: fitted members by kind.
        candidates: rows of the fit.
        users: how many.
    """
    parts = [predict_parts(model, candidates) for model in models.values()]
    whole = np.column_stack([part.shared + part.own for part in parts])
    group = compared(candidates, np.zeros(len(candidates), dtype=np.int64))
    spread = member_spreads(centre(whole, group), np.arange(len(parts)))
    used = spread > _TINY
    unit = LEAST_FACTOR * (float(np.std(candidates.utility)) or 1.0)
    weight = np.where(used, unit / np.maximum(spread, _TINY), 0.0) / max(int(used.sum()), 1)
    share = used / max(int(used.sum()), 1)
    told = np.array([model.has_std for model in models.values()])
    middle = np.array([float(part.shared.mean()) for part in parts])
    own = weight * np.array([model.personal for model in models.values()])
    centre_of = float(np.mean(candidates.utility))
    combination = Combination(tuple(models), weight, own, middle, share, told / max(int(told.sum()), 1), centre_of, 1.0)
    why = "too few texts or prompts to learn weights from, or labels that are all alike"
    note = f"members: {describe(tuple(models), share)} ({why})"
    slopes = UserSlopes(np.ones((users, 2)), (0.0, 0.0), 0.0)
    return LearnedMembers(combination, slopes, (note,), no_crowd(users))


def _combination(crossed: CrossFit, weights: StackWeights, rows: StackRows) -> Combination:
    """Put the weights of the members together."""
    weight = np.zeros((2, len(crossed.kinds)))
    weight[rows.own.astype(np.int64), rows.member] = weights.weight
    told = np.where([model.has_std for model in crossed.models], np.maximum(weights.share, LEAST_SHARE), 0.0)
    spread = told / max(float(told.sum()), _TINY)
    middle = np.array([float(part.shared.mean()) for part in crossed.parts])
    level = float(np.mean(crossed.rows.utility))
    return Combination(crossed.kinds, weight[0], weight[1], middle, weights.share, spread, level, 1.0)


def _slopes(crossed: CrossFit, found: Combination, weights: StackWeights, users: Sequence[str]) -> UserSlopes:
    rows, place = crossed.rows, {user: code for code, user in enumerate(users)}
    code = np.array([place[user] for user in rows.users], dtype=np.int64)[rows.user]
    parts = centre(np.column_stack(found.means(crossed.parts)), crossed.group) / crossed.scale
    noise = weights.noise * (1 + weights.text_ratio)
    y = centre(rows.utility, crossed.group) / crossed.scale
    return learn_slopes(parts, y, (code, crossed.unit), len(users), noise)


def _crowd(crossed: CrossFit, found: Combination, users: Sequence[str]) -> Crowd:
    """Learn from the errors what others' ratings of a text can tell."""
    rows, place = crossed.rows, {user: code for code, user in enumerate(users)}
    code = np.array([place[user] for user in rows.users], dtype=np.int64)[rows.user]
    shared, own = found.means(crossed.parts)
    tastes = None if "tastes" not in crossed.kinds else crossed.tastes
    error = rows.utility - found.centre - shared - own
    return learn_crowd(error, (code, rows.text, crossed.fold), tastes, len(users))


def _temperature(crossed: CrossFit, found: Combination) -> float:
    """Mean of squared error over variance on held-out rows."""
    shared, own = found.means(crossed.parts)
    error = crossed.rows.utility - found.centre - shared - own
    _, whole = found.variances(crossed.parts)
    return float(np.mean(error**2 / np.maximum(whole, _TINY))) if np.all(whole > 0) else 1.0


def _notes(
    crossed: CrossFit, found: Combination, weights: StackWeights, slopes: UserSlopes, out: Sequence[str]
) -> tuple[str, ...]:
    """Say what was chosen and why."""
    gain = (
        f"{weights.gain:.0%} less squared error than equal weights, {weights.sure:.1f} standard errors".replace(
            "%", " %"
        )
        if weights.gain
        else "no other weights tell held-out labels better"
    )
    notes = [f"members: {describe(found.kinds, found.share)} ({crossed.told}; {gain})"]
    personal = float(np.sum(found.own * [part.own.std() for part in crossed.parts]))
    shared = float(np.sum(found.shared * [part.shared.std() for part in crossed.parts]))
    notes.append(f"{personal / max(personal + shared, _TINY):.0%} of it are parts of users".replace("%", " %"))
    if out:
        notes.append(f"{', '.join(out)} without weight: held-out labels are told as well without")
    if any(slopes.spreads):
        a, b = slopes.spreads
        notes.append(
            f"users weigh what all share by 1 +- {a:g} and their own part by 1 +- {b:g} (+{slopes.gain:.1f} nats)"
        )
    return tuple(notes)
