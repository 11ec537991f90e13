"""Compute the curve of any rule: named, built, or any function of a subset.

Named rules have exact curves (:mod:`bestfor.diagnostics.curves.rules`). Functions are averaged over all subsets where
these are few, over a seeded sample where they are not. Most look at the subset's rewards (:data:`Chooser`); those that
compare candidates with each other are given which ones were drawn (:data:`PlaceChooser`) and look up what they know of
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.best_of_n import sort_by_reward
from bestfor.diagnostics.curves.rules import curve_by_rule
from bestfor.diagnostics.table.rows import IN_RANGE, largest_size, out_of_range
from bestfor.errors import InputError
from bestfor.rng import derive
from bestfor.selection import Rule, named_rule
from bestfor.types import BoolArray, FloatArray, IntArray

Chooser = Callable[[FloatArray], npt.NDArray[np.generic]]
"""Rewards of subsets, shape (B, N), each row's highest first -> places of the picks, shape (B,), or chances (B, N)."""

PlaceChooser = Callable[[int, IntArray], npt.NDArray[np.generic]]
"""A pool's row, and the places in it of subsets, shape (B, N), each row increasing -> as for :data:`Chooser`."""

Picks = Callable[[IntArray], npt.NDArray[np.generic]]
"""Places of subsets of one pool, shape (B, N) -> picks or chances."""

BLOCK = 1 << 16
"""Subsets that a chooser sees at a time."""


@dataclass(frozen=True)
class Sampling:
    """Limits beyond which subsets are drawn instead of listed.

    Attributes:
        most: subsets of one pool and N that are listed, each of them; more are drawn at random.
        draws: random subsets of a pool where there are more.
        seed: of the draws.
    """

    most: int = 20_000
    draws: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class RuleCurve:
    """Expected utility under a rule; Q pools, K values of N.

    Attributes:
        n: shape (K,).
        utility: shape (Q, K), NaN where N exceeds the pool.
        standard_error: shape (Q, K), of the random draws; 0 where all subsets count.
        exact: shape (Q, K), whether all subsets count.
    """

    n: IntArray
    utility: FloatArray
    standard_error: FloatArray
    exact: BoolArray

    def mean(self, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Average over pools, with the standard error from the draws alone; each of shape (K,).

        Args:
            weight: shape (Q,), summing to 1; all alike where None.
        """
        share = np.full(len(self.utility), 1 / len(self.utility)) if weight is None else weight
        return share @ self.utility, np.sqrt(share**2 @ self.standard_error**2)


def rule_curve(
    reward: npt.ArrayLike,
    utility: npt.ArrayLike,
    rule: str | Rule | Chooser,
    n: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
    std: npt.ArrayLike | None = None,
    sampling: Sampling | None = None,
) -> RuleCurve:
    """Compute the expected utility when a rule picks one of N drawn without replacement; ties broken at random.

    Args:
        reward: shape (Q, M), or (M,) for one pool.
        utility: of the same shape.
        rule: a name as for :func:`named_rule`, a rule, or any function of a subset's rewards (:data:`Chooser`).
        n: shape (K,), candidates drawn, each at least 1.
        size: shape (Q,), candidates in each pool; M where None.
        std: of the same shape as the reward: standard deviations for ``"lower:..."``, those of the means for
            ``"thompson"``.
        sampling: for functions; the others are always exact.

    Returns:
        The curve, one row a pool.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite or too large to be squared, an unknown name, or
            a function that picks no place of its subset.
    """
    scores, values = (np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (reward, utility))
    if scores.shape != values.shape:
        raise InputError("reward", f"shape {scores.shape}", f"{values.shape}, that of the utility")
    drawn, counts = _drawn(n), sizes_of(values, size)
    check_pools({"reward": scores, "utility": values}, counts)
    if isinstance(rule, str):
        rule = named_rule(rule)
    if not isinstance(rule, Rule):
        return any_rule((scores, values, counts), drawn, rule, sampling or Sampling())
    spread = None if std is None else np.atleast_2d(np.asarray(std, dtype=np.float64))
    exact = curve_by_rule(rule.ranked(scores, spread), values, counts, drawn, rule, spread)
    return RuleCurve(drawn, exact, np.where(np.isnan(exact), np.nan, 0.0), np.ones(exact.shape, dtype=np.bool_))


def place_curve(
    utility: npt.ArrayLike,
    choose: PlaceChooser,
    n: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
    sampling: Sampling | None = None,
) -> RuleCurve:
    """Compute the expected utility when a rule is given which N candidates were drawn and picks one of them.

    For rules that compare candidates with each other, so that no table of rewards says what they do.

    Args:
        utility: shape (Q, M), or (M,) for one pool.
        choose: picks from subsets; ties are its own to break, by chances.
        n: shape (K,), candidates drawn, each at least 1.
        size: shape (Q,), candidates in each pool; M where None.
        sampling: when subsets are drawn at random instead of listed.

    Returns:
        The curve, one row a pool.

    Raises:
        InputError: as for :func:`rule_curve`.
    """
    values = np.atleast_2d(np.asarray(utility, dtype=np.float64))
    drawn, counts = _drawn(n), sizes_of(values, size)
    check_pools({"utility": values}, counts)
    return place_rule(values, counts, drawn, choose, sampling or Sampling())


def any_rule(
    pools: tuple[FloatArray, FloatArray, IntArray], n: IntArray, choose: Chooser, sampling: Sampling
) -> RuleCurve:
    """Compute the curve of a function of rewards.

    Args:
        pools: rewards and utilities, shape (Q, M), and sizes, shape (Q,).
        n: shape (K,).
        choose: picks from subsets.
        sampling: when subsets are drawn.
    """
    reward, utility, size = pools

    def pool(row: int, m: int) -> tuple[FloatArray, Picks]:
        values, order, _ = sort_by_reward(reward[row : row + 1, :m], utility[row : row + 1, :m])
        scores = reward[row, order[0]]
        return values[0], lambda places: choose(scores[places])

    return _averaged(size, n, pool, sampling)


def place_rule(utility: FloatArray, size: IntArray, n: IntArray, choose: PlaceChooser, sampling: Sampling) -> RuleCurve:
    """Compute the curve of a rule that is given which candidates were drawn.

    Args:
        utility: shape (Q, M).
        size: shape (Q,).
        n: shape (K,).
        choose: picks from subsets; ties are its own to break, by chances.
        sampling: when subsets are drawn; the same ones for every rule.
    """

    def pool(row: int, m: int) -> tuple[FloatArray, Picks]:
        return utility[row, :m], lambda places: choose(row, places)

    return _averaged(size, n, pool, sampling)


def _averaged(
    size: IntArray, n: IntArray, pool: Callable[[int, int], tuple[FloatArray, Picks]], sampling: Sampling
) -> RuleCurve:
    """Average over subsets; ``pool`` gives a row's utilities and picks, from its row and size."""
    shape = (len(size), len(n))
    curve, error, exact = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape, dtype=np.bool_)
    for row, m in enumerate(size.tolist()):
        values, choose = pool(row, m)
        for column, drawn in enumerate(n.tolist()):
            if drawn > m:
                continue
            listed = comb(m, drawn) <= sampling.most
            subsets = _all_subsets(m, drawn) if listed else _some_subsets(m, drawn, sampling, row)
            picks = _picked(values, subsets, choose)
            exact[row, column] = listed
            curve[row, column] = picks.mean()
            error[row, column] = 0.0 if listed else picks.std(ddof=1) / len(picks) ** 0.5
    return RuleCurve(n, curve, error, exact)


@lru_cache(maxsize=32)
def _all_subsets(m: int, drawn: int) -> IntArray:
    places = np.fromiter((one for subset in combinations(range(m), drawn) for one in subset), dtype=np.int64)
    return places.reshape(-1, drawn)


def _some_subsets(m: int, drawn: int, sampling: Sampling, row: int) -> IntArray:
    rng = derive(sampling.seed, "rule", str(row), str(drawn))
    keys = rng.random((max(sampling.draws, 2), m))
    return np.sort(np.argpartition(keys, drawn - 1, axis=1)[:, :drawn], axis=1).astype(np.int64)


def _picked(values: FloatArray, subsets: IntArray, choose: Picks) -> FloatArray:
    """Compute the expected utility of the pick from every subset; shape (B,)."""
    drawn = int(subsets.shape[1])
    result = np.empty(len(subsets))
    for low in range(0, len(subsets), BLOCK):
        here = subsets[low : low + BLOCK]
        answer = np.asarray(choose(here))
        if answer.shape == here.shape and np.issubdtype(answer.dtype, np.floating):
            chances = answer.astype(np.float64)
            if not ((chances >= 0).all() and np.allclose(chances.sum(axis=1), 1.0, atol=1e-9)):
                raise InputError("rule", "chances that do not sum to 1", f"{drawn} chances a subset")
            result[low : low + BLOCK] = (chances * values[here]).sum(axis=1)
            continue
        place = answer.astype(np.int64) if np.issubdtype(answer.dtype, np.integer) else np.full(0, -1)
        if place.shape != (len(here),) or not ((place >= 0) & (place < drawn)).all():
            found = f"{answer.dtype} of shape {answer.shape}"
            raise InputError("rule", found, f"a place from 0 to {drawn - 1} for each of {len(here)} subsets")
        result[low : low + BLOCK] = values[here[np.arange(len(here)), place]]
    return result


def _drawn(n: npt.ArrayLike) -> IntArray:
    drawn = np.atleast_1d(np.asarray(n)).astype(np.int64)
    if not len(drawn) or int(drawn.min()) < 1:
        raise InputError("n", str(drawn.tolist()), "whole numbers of candidates, each at least 1")
    return drawn


def sizes_of(values: FloatArray, size: npt.ArrayLike | None) -> IntArray:
    """Count the candidates in each pool: as given, or as many as there are columns."""
    rows, m = int(values.shape[0]), int(values.shape[1])
    return np.full(rows, m, dtype=np.int64) if size is None else np.asarray(size, dtype=np.int64)


def check_pools(matrices: Mapping[str, FloatArray], size: IntArray) -> None:
    """Refuse sizes that do not fit, numbers that are not finite, and utilities too large to be squared.

    Args:
        matrices: name -> shape (Q, M); all of one shape, ``"utility"`` among them.
        size: shape (Q,).

    Raises:
        InputError: the first of these.
    """
    utility = matrices["utility"]
    rows, m = int(utility.shape[0]), int(utility.shape[1])
    if size.shape != (rows,) or not ((size >= 1) & (size <= m)).all():
        raise InputError("size", str(size.tolist())[:60], f"{rows} sizes from 1 to {m}")
    inside = np.arange(m) < size[:, None]
    for name, matrix in matrices.items():
        if not np.isfinite(matrix[inside]).all():
            raise InputError(name, "a number that is not finite", "finite numbers")
    largest, place = largest_size(np.where(inside, utility, 0.0).ravel())
    if out_of_range(largest):
        raise InputError("utility", f"{utility.ravel()[place]:g}", IN_RANGE)
