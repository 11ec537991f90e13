"""Compute the curve of minimum Bayes risk: of N drawn candidates the one that is most like the others drawn.

    pick(S) = argmax over i in S of sum over j in S, j != i, of L[i, j]        estimate(N) = mean over N-subsets S of U

with L[i, j] how good candidate i is if sample j were the truth (Kumar & Byrne 2004; Eikema & Aziz 2022). What a
candidate scores depends on which others were drawn, so a score against the whole pool followed by Best-of-N is another
rule: it picks among N with the knowledge of m. The two agree at N = m, and the first is the pool mean at N = 1; where
L is symmetric also at N = 2, since two candidates are then as like each other either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.curves.subsets import RuleCurve, Sampling, check_pools, place_curve, sizes_of
from bestfor.errors import InputError
from bestfor.types import FloatArray, IntArray

TIED = 1e-9
"""Sums within this share of the largest entry tie: they are rounded, and depend on the order of their terms."""

ENTRIES = 1 << 21
"""Entries of a block of subsets times candidates: 16 MB."""


def mbr_curve(
    likeness: Sequence[npt.ArrayLike] | npt.NDArray[np.floating],
    utility: npt.ArrayLike,
    n: npt.ArrayLike,
    *,
    size: npt.ArrayLike | None = None,
    sampling: Sampling | None = None,
) -> RuleCurve:
    """Compute the expected utility of the candidate most like the others drawn, N without replacement; ties at random.

    Args:
        likeness: Q matrices of shape (m, m) or larger, of any scale; row i holds what the candidate i is worth beside
            each other one. The diagonal is not looked at.
        utility: shape (Q, M), or (M,) for one pool (then ``likeness`` may be its matrix alone).
        n: shape (K,), candidates drawn, each at least 1.
        size: shape (Q,), candidates in each pool; M where None.
        sampling: when subsets are drawn at random instead of listed.

    Returns:
        The curve, one row a pool; exact where all subsets are listed, else with the standard error of the draws.

    Raises:
        InputError: shapes that do not fit, or numbers that are not finite or too large to be squared.
    """
    values = np.atleast_2d(np.asarray(utility, dtype=np.float64))
    matrices = [np.asarray(one, dtype=np.float64) for one in likeness]
    if np.ndim(utility) == 1 and matrices and matrices[0].ndim == 1:
        matrices = [np.stack(matrices)]
    if len(matrices) != len(values):
        raise InputError("likeness", f"{len(matrices)} matrices", f"{len(values)}, one for each pool")
    counts = sizes_of(values, size)
    check_pools({"utility": values}, counts)
    whole = [_others(matrix, m) for matrix, m in zip(matrices, counts.tolist(), strict=True)]
    return place_curve(values, lambda row, places: _most_alike(whole[row], places), n, size=counts, sampling=sampling)


def _others(matrix: FloatArray, m: int) -> FloatArray:
    """Cut the matrix to m candidates and set its diagonal to 0."""
    if matrix.ndim != 2 or min(matrix.shape) < m:
        raise InputError("likeness", f"a matrix of shape {matrix.shape}", f"at least ({m}, {m})")
    found = matrix[:m, :m].copy()
    np.fill_diagonal(found, 0.0)
    if not np.isfinite(found).all():
        raise InputError("likeness", "a number that is not finite", "finite numbers")
    return found


def _most_alike(likeness: FloatArray, places: IntArray) -> FloatArray:
    """Compute the chances of the members of subsets, shape (B, N): those with the largest sum share."""
    rows, m = len(places), len(likeness)
    chances = np.empty(places.shape)
    slack = TIED * float(np.abs(likeness).max(initial=0.0)) * max(int(places.shape[1]) - 1, 1)
    step = max(ENTRIES // m, 1)
    for low in range(0, rows, step):
        here = places[low : low + step]
        member = np.zeros((len(here), m))
        np.put_along_axis(member, here, 1.0, axis=1)
        sums = np.take_along_axis(member @ likeness.T, here, axis=1)
        best = sums >= sums.max(axis=1, keepdims=True) - slack
        chances[low : low + step] = best / best.sum(axis=1, keepdims=True)
    return chances
