"""The curve of any rule: named, built, or any function of a subset's rewards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.rules import Rule, curve_by_rule
from bestfor.diagnostics.curves.subsets import Chooser, PlaceChooser, RuleCurve, Sampling, any_rule, place_rule
from bestfor.diagnostics.named_rules import named_rule
from bestfor.diagnostics.table.rows import IN_RANGE, largest_size, out_of_range
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray


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
    """Expected utility when a rule picks one of N candidates drawn without replacement; ties broken at random.

    Args:
        reward: shape (Q, M), or (M,) for one pool.
        utility: of the same shape.
        rule: a name as for :func:`named_rule`, a rule, or any function of a subset's rewards (:data:`Chooser`).
        n: shape (K,), candidates drawn, each at least 1.
        size: shape (Q,), candidates in each pool; M where None.
        std: of the same shape as the reward, for ``"lower:..."``.
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
    exact = curve_by_rule(rule.ranked(scores, spread), values, counts, drawn, rule)
    return RuleCurve(drawn, exact, np.where(np.isnan(exact), np.nan, 0.0), np.ones(exact.shape, dtype=np.bool_))


def place_curve(
    utility: npt.ArrayLike,
    choose: PlaceChooser,
    n: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
    sampling: Sampling | None = None,
) -> RuleCurve:
    """Expected utility when a rule is told which N candidates were drawn and picks one of them.

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


def _drawn(n: npt.ArrayLike) -> IntArray:
    drawn = np.atleast_1d(np.asarray(n)).astype(np.int64)
    if not len(drawn) or int(drawn.min()) < 1:
        raise InputError("n", str(drawn.tolist()), "whole numbers of candidates, each at least 1")
    return drawn


def sizes_of(values: FloatArray, size: npt.ArrayLike | None) -> IntArray:
    """Candidates in each pool: as told, or as many as there are columns."""
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
