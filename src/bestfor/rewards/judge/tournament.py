"""Run tournaments for judges that only compare: who meets whom, and the strengths that follow from the outcomes.

The first two rounds are a ring in random order, in which everybody meets two others, so that outcomes tie all of them
together. Further rounds are a Swiss tournament's: each pairs candidates of about equal standing that have not met.
Every pair is asked about in both orders, which takes away a preference for the first or the second place:

    p_ij = (P(first | i, j) + P(second | j, i)) / 2

Strengths are the Bradley-Terry model's (Bradley & Terry 1952) with a normal prior, which keeps them finite where
somebody wins all:

    theta = argmax sum_ij p_ij log s(theta_i - theta_j) + (1 - p_ij) log s(theta_j - theta_i) - PULL / 2 |theta|^2

with s the logistic function. They add up to 0, so they are comparable within a query only.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import numpy as np

from bestfor.types import FloatArray, IntArray

PULL = 0.1
_STEPS = 100

Pair = tuple[int, int]
Compare = Callable[[Sequence[Pair]], Awaitable[Sequence[float]]]
"""Pairs of players -> how surely the first of each is better, NaN where there is no answer."""


RING = 2
"""Rounds that the ring stands for."""


def usual_rounds(players: int) -> int:
    """Count the rounds after which a Swiss tournament has one leader, and one more."""
    return max(RING, math.ceil(math.log2(max(players, 1))) + 1)


def most_questions(players: int, rounds: int | None) -> int:
    """Count the most questions of a tournament: both orders of its pairs."""
    ringed = len(ring(np.arange(players)))
    swiss = ((rounds or usual_rounds(players)) - RING) * (players // 2)
    return 2 * min(ringed + swiss, players * (players - 1) // 2)


async def play(players: int, rounds: int, compare: Compare, order: IntArray) -> FloatArray:
    """Play a tournament: strengths, shape (players,); NaN for those whom no chain of outcomes ties to most others.

    Args:
        players: how many.
        rounds: how many rounds, 2 or more; with as many as there are players everybody meets everybody.
        compare: asks about the pairs of a round.
        order: shape (players,), who sits beside whom in the ring, and whom ties in standing go to.
    """
    met = ring(order)
    won = list(await compare(met)) if met else []
    # The last pairs of all may need further rounds: who sits out in one meets them in another.
    for _ in range(rounds - RING if rounds < players else players * players):
        drawn = pairings(standing(players, met, won), met, order)
        if not drawn:
            break
        met += drawn
        won += list(await compare(drawn))
    answered = [at for at, outcome in enumerate(won) if not math.isnan(outcome)]
    pairs = np.array([met[at] for at in answered], dtype=np.int64).reshape(-1, 2)
    # Rounded, so that equal standings tie although sums differ in their last bits.
    strength = np.round(bradley_terry(pairs, np.array([won[at] for at in answered]), players), 9)
    strength[~tied(pairs, players)] = np.nan
    return strength


def ring(order: IntArray) -> list[Pair]:
    """Pair each player with the next, and the last with the first."""
    seats = order.tolist()
    beside = list(pairwise([*seats, seats[0]])) if len(seats) > 2 else list(pairwise(seats))
    return [(int(one), int(other)) for one, other in beside]


def standing(players: int, met: Sequence[Pair], won: Sequence[float]) -> FloatArray:
    """Count the points of each player, shape (players,); what was not answered is worth half a win to both."""
    points = np.zeros(players)
    for (one, other), outcome in zip(met, won, strict=True):
        share = 0.5 if math.isnan(outcome) else outcome
        points[one] += share
        points[other] += 1 - share
    return points


def pairings(points: FloatArray, met: Sequence[Pair], order: IntArray) -> list[Pair]:
    """Pair the next round: neighbours in standing that have not met, from the top; who finds nobody sits out.

    Of an odd number the one with the most games sits out, the lowest of these: everybody plays about as often. Only
    where nobody else is left to be paired do they play.

    Args:
        points: shape (players,).
        met: pairs so far.
        order: shape (players,), whom ties go to.
    """
    players = len(points)
    known = {frozenset(pair) for pair in met}
    games = np.bincount(np.array(met, dtype=np.int64).reshape(-1), minlength=players)
    seat = np.empty(players, dtype=np.int64)
    seat[order] = np.arange(players)
    waiting = sorted(range(players), key=lambda one: (-points[one], seat[one]))
    resting = [max(reversed(waiting), key=lambda one: games[one])] if players % 2 else []
    playing = [one for one in waiting if one not in resting]
    return _paired(playing, known) or _paired(waiting, known)


def _paired(waiting: list[int], known: set[frozenset[int]]) -> list[Pair]:
    drawn: list[Pair] = []
    waiting = list(waiting)
    while waiting:
        one = waiting.pop(0)
        other = next((rival for rival in waiting if frozenset((one, rival)) not in known), None)
        if other is not None:
            waiting.remove(other)
            drawn.append((one, other))
    return drawn


def bradley_terry(pairs: IntArray, won: FloatArray, players: int, pull: float = PULL) -> FloatArray:
    """Find the strengths with the largest posterior density, by Newton's method, shape (players,).

    Args:
        pairs: shape (m, 2).
        won: shape (m,), how surely the first of each pair is the better, from 0 to 1.
        players: how many.
        pull: the prior's precision.
    """
    theta = np.zeros(players)
    first, second = pairs[:, 0], pairs[:, 1]
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(np.clip(theta[second] - theta[first], -500, 500)))
        gradient = -pull * theta
        np.add.at(gradient, first, won - chance)
        np.add.at(gradient, second, chance - won)
        weight = chance * (1 - chance)
        curvature = pull * np.eye(players)
        for row, column, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            np.add.at(curvature, (row, column), sign * weight)
        step = np.linalg.solve(curvature, gradient)
        # Far from the solution curvature is too small: a step of more than one unit overshoots.
        theta += step / max(1.0, float(np.abs(step).max(initial=0.0)))
        if np.abs(step).max(initial=0.0) < 1e-12:
            break
    return theta


def tied(pairs: IntArray, players: int) -> np.ndarray:
    """Find the largest group that outcomes tie together, shape (players,); everybody where there is one player.

    Strengths of players whom no chain of comparisons joins say nothing about each other.
    """
    group = np.arange(players)
    for one, other in pairs:
        low, high = sorted((group[one], group[other]))
        group[group == high] = low
    size = np.bincount(group, minlength=players)
    return (group == size.argmax()) & ((size[group] > 1) | (players == 1))
