"""The curve of any rule: named, built, or any function of a subset's rewards."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.named_rules import named_rule
from bestfor.diagnostics.rows import IN_RANGE, largest_size, out_of_range
from bestfor.diagnostics.rules import Rule, curve_by_rule
from bestfor.diagnostics.subsets import Chooser, RuleCurve, Sampling, any_rule
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
    drawn = np.atleast_1d(np.asarray(n)).astype(np.int64)
    if scores.shape != values.shape:
        raise InputError("reward", f"shape {scores.shape}", f"{values.shape}, that of the utility")
    if not len(drawn) or int(drawn.min()) < 1:
        raise InputError("n", str(drawn.tolist()), "whole numbers of candidates, each at least 1")
    rows, m = int(scores.shape[0]), int(scores.shape[1])
    counts = np.full(rows, m, dtype=np.int64) if size is None else np.asarray(size, dtype=np.int64)
    _check(scores, values, counts)
    if isinstance(rule, str):
        rule = named_rule(rule)
    if not isinstance(rule, Rule):
        return any_rule((scores, values, counts), drawn, rule, sampling or Sampling())
    spread = None if std is None else np.atleast_2d(np.asarray(std, dtype=np.float64))
    exact = curve_by_rule(rule.ranked(scores, spread), values, counts, drawn, rule)
    return RuleCurve(drawn, exact, np.where(np.isnan(exact), np.nan, 0.0), np.ones(exact.shape, dtype=np.bool_))


def _check(reward: FloatArray, utility: FloatArray, size: IntArray) -> None:
    rows, m = int(reward.shape[0]), int(reward.shape[1])
    if size.shape != (rows,) or not ((size >= 1) & (size <= m)).all():
        raise InputError("size", str(size.tolist())[:60], f"{rows} sizes from 1 to {m}")
    inside = np.arange(m) < size[:, None]
    for name, matrix in (("reward", reward), ("utility", utility)):
        if not np.isfinite(matrix[inside]).all():
            raise InputError(name, "a number that is not finite", "finite numbers")
    largest, place = largest_size(np.where(inside, utility, 0.0).ravel())
    if out_of_range(largest):
        raise InputError("utility", f"{utility.ravel()[place]:g}", IN_RANGE)
